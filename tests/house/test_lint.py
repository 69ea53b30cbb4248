"""The pages of the rules, the hook, and the shop under its own lint."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from celery_observe.lint import Check, checks, lint, load
from house.rules import runbooks
from house.source import ROOT, imports, name_of, python_files
from house.test_imports import WORLD

PAGES = ROOT / "docs" / "lint"
SECTIONS = {book.alert: book for book in runbooks()}


def test_the_pages_say_what_the_rules_say() -> None:
    """docs/lint/ and the table in docs/lint.md are written by scripts/document_lint.py: run it."""
    script = runpy.run_path(str(ROOT / "scripts" / "document_lint.py"))

    assert {file.name: file.read_text() for file in PAGES.iterdir()} == script["pages"]()
    assert (ROOT / "docs" / "lint.md").read_text() == script["overview"]()


@pytest.mark.parametrize("check", checks().values(), ids=lambda check: check.rule.name)
def test_the_runbook_of_an_alert_links_to_the_rules_that_prevent_it(check: Check) -> None:
    """Who is paged learns what would have found it in the source."""
    for alert in check.rule.alerts:
        assert f"(../lint/{check.rule.name}.md)" in SECTIONS[alert].text, alert


def test_a_runbook_links_only_to_rules_that_name_its_alert() -> None:
    """In both directions the same."""
    for alert, book in SECTIONS.items():
        linked = set(re.findall(r"\(\.\./lint/([\w-]+)\.md\)", book.text))
        assert linked == {name for name, check in checks().items() if alert in check.rule.alerts}, alert


def test_rules_compute_and_touch_nothing() -> None:
    """Only two files read the disk; none knows Celery itself, so nothing of the linted source can be imported."""
    touching = [
        f"{name_of(file)} imports {imported}"
        for file in python_files("celery_observe/lint")
        if file.stem not in {"files", "linter"}
        for imported in imports(file)
        if imported.split(".")[0] in WORLD
    ]
    importing = [file.stem for file in python_files("celery_observe/lint") if "importlib" in imports(file)]

    assert not touching
    assert importing == ["registry"]


def test_the_example_of_options_can_be_used(tmp_path: Path) -> None:
    """All options of pyproject.toml are in docs/lint.md."""
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "lint.md").read_text(), re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(example)

    options = load(tmp_path, {})

    keys = {name.replace("-", "_") for name in tomllib.loads(example)["tool"]["celery-observe"]["lint"]}
    assert keys == set(options.__struct_fields__)


def test_the_hook_lints_a_repository(tmp_path: Path) -> None:
    """It runs what it says, and fails on a critical finding."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    text = "from celery import shared_task\n@shared_task\ndef total(x):\n    return x.delay().get()\n"
    (tmp_path / "tasks.py").write_text(text)
    program, *entry = hook["entry"].split()

    command = [Path(sys.executable).parent / program, *entry, *hook["args"]]
    hooked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    assert hooked.returncode == 4
    assert "tasks.py:4:12" in hooked.stdout


def test_the_shop_is_clean() -> None:
    """What we show as good use of Celery has no finding, not even of those that are worth knowing only."""
    report = lint([ROOT / "celery_observe" / "demo"], load(ROOT, {}))

    assert [f"{each.place} {each.rule.name}" for each in report.findings] == []
    assert re.search(r" [1-9]\d tasks$", report.subject)
