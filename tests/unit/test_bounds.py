"""Nothing is unbounded: memory stays flat under floods, series under their cap, and each bound says that it was hit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FLOOD = Path(__file__).parent / "flood.py"
MAX_TASKS = 40_000
MAX_SERIES = 2_000
MAX_WORKERS = 5_000


def flood(name: str, *compat: str) -> list[dict[str, Any]]:
    """What is kept from time to time during a flood, in a process of its own: megabytes and numbers."""
    run = subprocess.run([sys.executable, FLOOD, name, *compat], capture_output=True, text=True, check=True)
    measured: list[dict[str, Any]] = json.loads(run.stdout)
    return measured


def growth(measured: list[dict[str, Any]], what: str) -> float:
    """How much more there is at the end than in the middle."""
    middle: float = measured[len(measured) // 2][what]
    return float(measured[-1][what]) - middle


def test_a_million_tasks_that_never_end_take_no_more_memory_than_forty_thousand() -> None:
    """The oldest are let go of, and counted."""
    measured = flood("tasks")

    assert measured[-1]["tracked"] <= MAX_TASKS
    assert measured[-1]["evicted"] == 1_000_000 - measured[-1]["tracked"]
    assert measured[-1]["resident"] < 90
    assert growth(measured, "resident") < 10


def test_workers_of_ever_new_names_take_no_more_memory_than_those_of_now() -> None:
    """They leave the page, and nobody keeps them."""
    measured = flood("workers")

    assert max(each["workers"] for each in measured) <= MAX_WORKERS
    assert max(each["series"] for each in measured) <= MAX_SERIES
    assert measured[-1]["resident"] < 90
    assert growth(measured, "resident") < 10


def test_names_made_up_by_a_hostile_producer_fill_a_family_and_no_more() -> None:
    """Tasks, queues, exceptions and types of events beyond the cap count under __other__, and are counted."""
    measured = flood("names", "celery-exporter", "flower")

    # beside the cap, those under __other__ that differ in a label of few values
    assert max(each["series"] for each in measured) <= MAX_SERIES + 10
    assert measured[-1]["overflow"] > 0
    assert growth(measured, "page") < 0.1
    assert growth(measured, "resident") < 10
