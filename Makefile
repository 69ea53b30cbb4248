# The doors of the project. `make help` lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet
ARGS   ?=
# How many test processes: most of them wait for servers most of the time.
JOBS   ?= 5

# Directories too: their time changes when a file is deleted.
SOURCES := pyproject.toml $(wildcard README.md) LICENSE $(shell find celery_observe alerts -name __pycache__ -prune -o -print)

.PHONY: help demo test check lint types format bench docs dist sbom lock clean

help:
	@echo 'make demo [ARGS="--flower"]        the whole product at work, with a broker of its own'
	@echo 'make test [ARGS="tests/unit -x"]   everything: lint, types, then all tests against the built wheel'
	@echo 'make check                         the same: lint + types + tests, what CI runs'
	@echo 'make lint | types | format         one of them alone'
	@echo 'make bench                         what it costs, beside other exporters; about 20 minutes'
	@echo 'make docs                          the documentation site, in build/site: links, anchors and navigation checked'
	@echo 'make dist | sbom                   sdist and wheel | bills of materials, in dist: of one commit always the same bytes'
	@echo 'make lock                          pin the newest dependencies in requirements/'
	@echo 'make clean                         remove what the above have made'

demo: $(VENV)/.wheel
	$(BIN)/celery-observe demo $(ARGS)

check: test

test: lint types $(VENV)/.wheel $(VENV)/.services
	TEST_THE_WHEEL=1 $(BIN)/pytest -n $(JOBS) --dist loadgroup $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/demo.txt | $(VENV)/bin/pip
	$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(VENV)/bin/pip
	$(PIP) install --require-hashes -r $<
	@touch $@

# A wheel is built and installed, never the checkout: what is run and tested is what is shipped.
$(VENV)/.wheel: $(SOURCES) $(VENV)/.demo
	$(PIP) install --no-deps --no-build-isolation --force-reinstall .
	@touch $@

$(VENV)/.services: scripts/install-test-services | $(VENV)/bin/pip
	scripts/install-test-services
	@touch $@

COMPILE = $(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' --quiet

bench: $(VENV)/.wheel $(VENV)/.dev $(VENV)/.services
	for each in events scrape memory; do PYTHONPATH=tests $(BIN)/python benchmarks/$$each.py $(ARGS) || exit 1; done

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What a release is made of is as old as its commit, whenever it is made.
dist sbom: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)

dist: $(VENV)/.dev
	$(BIN)/hatchling build

sbom: $(VENV)/.dev
	mkdir -p dist
	for each in runtime image; do $(BIN)/cyclonedx-py requirements requirements/$$each.txt --output-reproducible \
		--pyproject pyproject.toml --output-file dist/celery-observe-$$each.cdx.json || exit 1; done

lock: | $(VENV)/bin/pip
	$(PIP) install uv
	$(COMPILE) pyproject.toml --extra demo --extra flower --group build --output-file requirements/demo.txt
	$(COMPILE) pyproject.toml --constraints requirements/demo.txt --output-file requirements/runtime.txt
	$(COMPILE) pyproject.toml --all-extras --group dev --constraints requirements/demo.txt --output-file requirements/dev.txt
	$(COMPILE) --group build --constraints requirements/dev.txt --output-file requirements/build.txt
	$(COMPILE) pyproject.toml --extra alerts --extra flower --extra otel --constraints requirements/dev.txt \
		--output-file requirements/image.txt
	$(COMPILE) requirements/peers.in --overrides requirements/peers-overrides.txt --output-file requirements/peers.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
