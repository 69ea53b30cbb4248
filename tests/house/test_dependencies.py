"""Every dependency is declared, pinned, and has its reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from house.source import ROOT, imports, python_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
EXTRAS = [
    Requirement(line)
    for extra, lines in PROJECT["project"]["optional-dependencies"].items()
    for line in lines
    if extra != "all"  # which names the others
]
GROUPS = [
    Requirement(line) for lines in PROJECT["dependency-groups"].values() for line in lines if isinstance(line, str)
]
# Where the name to import is not the name to install; kombu is Celery's own messaging library.
MODULE_OF = {"prometheus-client": "prometheus_client", "opentelemetry-sdk": "opentelemetry"}
WITH_CELERY = {"kombu", "billiard", "vine"}


def pins(file: Path) -> dict[str, str]:
    """Name → version of every line `name==version` in a requirements file."""
    return dict(re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", file.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("requirement", [*RUNTIME, *EXTRAS, *GROUPS], ids=lambda requirement: requirement.name)
def test_a_dependency_has_its_reason(requirement: Requirement) -> None:
    """docs/dependencies.md says why each is here."""
    page = (ROOT / "docs" / "dependencies.md").read_text()

    assert re.search(rf"^\| `{re.escape(requirement.name)}` \|", page, flags=re.MULTILINE)


@pytest.mark.parametrize("requirement", [*RUNTIME, *EXTRAS, *GROUPS], ids=lambda requirement: requirement.name)
def test_a_dependency_is_pinned(requirement: Requirement) -> None:
    """The pinned version is one that pyproject.toml allows; `make lock` renews it."""
    version = pins(ROOT / "requirements" / "dev.txt").get(requirement.name)

    assert version is not None
    assert requirement.specifier.contains(version)


@pytest.mark.parametrize("file", ["demo", "runtime", "build", "image"])
def test_what_is_tested_is_what_is_shipped(file: str) -> None:
    """What is pinned for the demo, for users, for builds and for the image is pinned to the same for development."""
    pinned = pins(ROOT / "requirements" / f"{file}.txt")
    dev = pins(ROOT / "requirements" / "dev.txt")

    assert pinned
    assert pinned.items() <= dev.items()


@pytest.mark.parametrize("file", ["runtime", "image"])
def test_a_bill_of_materials_is_what_is_pinned(file: str, tmp_path: Path) -> None:
    """`make sbom` names each package in its version, with the hashes of its files."""
    bill = tmp_path / "bill.json"
    pinned = ROOT / "requirements" / f"{file}.txt"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(pinned), "--output-file", str(bill)]

    subprocess.run([*command, "--pyproject", str(ROOT / "pyproject.toml")], check=True, timeout=100)

    components = json.loads(bill.read_text())["components"]
    assert {each["name"]: each["version"] for each in components} == pins(pinned)
    assert all(hashed["hashes"] for each in components for hashed in each["externalReferences"])


def test_the_package_imports_only_what_it_declares() -> None:
    """Nothing is there by luck, because something else needs it."""
    declared = {MODULE_OF.get(requirement.name, requirement.name) for requirement in [*RUNTIME, *EXTRAS]}
    known = declared | WITH_CELERY | sys.stdlib_module_names | {"celery_observe"}
    used = {name.split(".")[0] for file in python_files("celery_observe") for name in imports(file)}

    assert used <= known


def test_every_lint_ignore_has_its_reason() -> None:
    """An ignored rule says why, in a comment on its own line; so does a noqa."""
    listing = (ROOT / "pyproject.toml").read_text().partition("[tool.ruff.lint]")[2]
    ignored = re.findall(r'^    "[A-Z]+[0-9]+",(.*)$', listing, flags=re.MULTILINE)
    unexplained = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in python_files("celery_observe", "tests", "scripts", "benchmarks")
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if re.search(r"#\s*noqa(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?\s*$", line)
    ]

    assert all(re.match(r" +# \w", rest) for rest in ignored)
    assert not unexplained
