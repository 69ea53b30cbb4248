"""The demo's summary fits on a screen, and says whether the numbers add up."""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import pytest

from celery_observe.demo.reading import Reading
from celery_observe.demo.shop import TASKS
from celery_observe.demo.summary import Summary, check, duration, status, summarise, table
from celery_observe.fact import Cause, Outcome

MANY = 123_456


def page(*samples: str) -> str:
    """Return a page with samples of any type."""
    return "".join(f"{sample}\n" for sample in samples)


def busy() -> Summary:
    """Return a summary in which every number is large, every kind of outcome and of cause is there."""
    outcomes = [
        f'celery_task_outcomes_total{{task="{task}",queue="q",outcome="{outcome}"}} {MANY}'
        for task in TASKS
        for outcome in Outcome
    ]
    failures = [
        f'celery_task_failures_total{{task="{task}",queue="q",exception="E",cause="{cause}"}} {MANY}'
        for task in TASKS
        for cause in Cause
    ]
    return summarise(Reading(page(*outcomes, *failures)), load=MANY)


def few(**samples: int) -> Summary:
    """Return the summary of a load of 10 calls of one task, of which `published` and outcomes are given."""
    task = 'task="orders.validate",queue="high"'
    published = samples.pop("published")
    outcomes = [f'celery_task_outcomes_total{{{task},outcome="{outcome}"}} {n}' for outcome, n in samples.items()]
    return summarise(Reading(page(f"celery_task_published_total{{{task}}} {published}", *outcomes)), load=10)


def test_the_table_fits_on_one_screen() -> None:
    """At most 22 lines, to which the caller may add two, and 100 columns; the columns stand below each other."""
    lines = table(summarise(Reading(""), load=0))

    assert len(lines) <= 22
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines[: len(TASKS) + 2]}) == 1


def test_large_numbers_do_not_break_the_columns() -> None:
    """Six digits and long times fit."""
    lines = table(busy())

    assert len({len(line) for line in lines[1 : len(TASKS) + 1]}) == 1


def test_tasks_of_others_are_left_out() -> None:
    """What else goes through the broker is not the demo's to count."""
    others = 'celery_task_outcomes_total{task="theirs",queue="q",outcome="succeeded"} 5'

    summary = summarise(Reading(page(others)), load=0)

    assert summary.total.outcomes == Counter()


def test_a_retry_is_no_end() -> None:
    """Ten tasks of which one was retried are eleven messages, eleven outcomes and ten ends."""
    summary = few(published=11, retried=1, succeeded=10)

    assert (summary.final, summary.in_flight, summary.unaccounted) == (10, 0, 0)
    assert summary.settled


def test_a_task_under_way_is_accounted_for_as_in_flight() -> None:
    """What has no outcome yet is not missing."""
    summary = few(published=10, succeeded=8)

    assert not summary.settled
    assert check(summary) == "load published 10 = 8 final outcomes + 2 in flight: all accounted for"


@pytest.mark.parametrize("published", [9, 11], ids=["one too few", "one too many"])
def test_a_number_that_lies_is_seen(published: int) -> None:
    """The load's own count is held against the exporter's."""
    summary = few(published=published, succeeded=published)

    assert not summary.settled
    assert "≠" in check(summary)
    assert "not all accounted for" in check(summary)


def test_the_line_for_logs_says_the_same_as_the_table() -> None:
    """Counts, workers and belief, in one line."""
    line = status(msgspec.structs.replace(few(published=10, succeeded=8), workers_up=2, workers=3, lag=0.004))

    assert line == ("published 10, running 0; succeeded 8; 2 of 3 workers up; 0 tasks unobserved, event lag 4 ms")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(math.nan, ""), (0.0042, "4 ms"), (0.25, "250 ms"), (1.25, "1.2 s"), (99.0, "99.0 s"), (600.0, "10 min")],
)
def test_times_are_short(seconds: float, text: str) -> None:
    """A time has the unit that suits it."""
    assert duration(seconds) == text
