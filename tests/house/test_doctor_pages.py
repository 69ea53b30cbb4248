"""Every check of the doctor is documented, and linked with what shows the same at run time."""

from __future__ import annotations

import re
import runpy

import pytest

from celery_observe.doctor.registry import Registered, registered
from celery_observe.metrics import CATALOGUE
from house.rules import runbooks
from house.source import PACKAGE, ROOT, imports, name_of, python_files
from house.test_imports import WORLD

PAGES = ROOT / "docs" / "doctor"
PURE = {"answers", "checks", "configuration", "evidence", "listening", "registry"}
every_check = pytest.mark.parametrize("check", registered(), ids=lambda check: check.rule.name)


def test_the_pages_are_those_of_the_docstrings() -> None:
    """docs/doctor/ is written by scripts/document_doctor.py: run it."""
    script = runpy.run_path(str(ROOT / "scripts" / "document_doctor.py"))

    assert {file.name: file.read_text() for file in PAGES.iterdir()} == script["pages"]()


@every_check
def test_a_check_is_a_file_of_its_name(check: Registered) -> None:
    """One file, one check, one word."""
    assert check.check.__module__ == f"celery_observe.doctor.checks.{check.rule.name.replace('-', '_')}"
    assert check.check.__module__.endswith(f".{check.check.__name__}")


def test_no_file_is_without_its_check() -> None:
    """One that does not register itself would never run."""
    files = {file.stem.replace("_", "-") for file in (PACKAGE / "doctor" / "checks").glob("*.py")} - {"--init--"}

    assert files == {check.rule.name for check in registered()}


@every_check
def test_what_shows_the_same_at_run_time_is_there(check: Registered) -> None:
    """Metrics are in the catalogue, alerts have runbooks, and these name the check."""
    books = {book.alert: book.text for book in runbooks()}

    assert set(check.rule.metrics) <= {family.name for family in CATALOGUE}
    assert all(f"(../doctor/{check.rule.name}.md)" in books[alert] for alert in check.rule.alerts)


def test_runbooks_name_no_check_that_does_not_name_them() -> None:
    """Links go both ways."""
    alerts = {check.rule.name: check.rule.alerts for check in registered()}
    linked = [(book.alert, name) for book in runbooks() for name in re.findall(r"doctor/([\w-]+)\.md", book.text)]

    assert linked
    assert not [(alert, name) for alert, name in linked if alert not in alerts[name]]


def test_checks_compute_and_touch_nothing() -> None:
    """Evidence in, findings out: no clock, no broker, no process."""
    touching = [
        f"{name_of(file)} imports {imported}"
        for file in python_files("celery_observe/doctor")
        if name_of(file).split(".")[2:3] and name_of(file).split(".")[2] in PURE
        for imported in imports(file)
        if imported.split(".")[0] in WORLD - {"celery"}
    ]

    assert not touching
