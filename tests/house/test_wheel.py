"""What is tested is what is shipped."""

from __future__ import annotations

import importlib.metadata
import os
import sysconfig
from pathlib import Path

import pytest

import celery_observe
from house.source import ROOT

pytestmark = pytest.mark.skipif(
    "TEST_THE_WHEEL" not in os.environ,
    reason="the checkout is tested here, not the wheel: make test tests the wheel",
)


def test_the_package_comes_from_the_wheel() -> None:
    """What tests import is what was installed, not the checkout."""
    assert celery_observe.__file__ is not None
    assert Path(celery_observe.__file__).is_relative_to(sysconfig.get_path("purelib"))


def test_the_wheel_knows_its_version() -> None:
    """The version stands in one place."""
    assert importlib.metadata.version("celery-observe") == celery_observe.__version__


def test_the_wheel_is_typed() -> None:
    """Users' type checkers are told to read our annotations."""
    files = importlib.metadata.files("celery-observe") or []

    assert "celery_observe/py.typed" in {str(file) for file in files}


def test_the_wheel_has_the_page_and_the_rules() -> None:
    """What is read at run time and is no module: the live page, and what the demo starts Prometheus with."""
    files = {str(file) for file in importlib.metadata.files("celery_observe") or []}
    rules = {f"celery_observe/alerts/rules/{file.name}" for file in (ROOT / "alerts" / "rules").iterdir()}

    assert {f"celery_observe/exposition/live/page.{kind}" for kind in ("html", "css", "js")} <= files
    assert rules <= files
    assert "celery_observe/alerts/alertmanager/alertmanager.yml" in files


@pytest.mark.parametrize(("group", "name"), [("console_scripts", "celery-observe"), ("celery.commands", "observe")])
def test_a_command_of_the_wheel_can_be_loaded(group: str, name: str) -> None:
    """The names in the entry points lead to commands."""
    (entry,) = importlib.metadata.entry_points(group=group, name=name)

    assert callable(entry.load())
