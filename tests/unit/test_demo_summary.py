"""The demo's summary fits on a screen, and says whether the numbers add up."""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import pytest

from celery_observe.demo.summary import AREAS, Summary, check, duration, status, summarise, table
from celery_observe.fact import Cause, Outcome

MANY = 123_456


def page(*samples: str) -> str:
    """Return a page with samples of any type."""
    return "".join(f"{sample}\n" for sample in samples)


def busy() -> Summary:
    """Return a summary in which every number is large, every kind of outcome and of cause is there."""
    outcomes = [
        f'celery_task_outcomes_total{{task="{area}.task",queue="q",outcome="{outcome}"}} {MANY}'
        for area in AREAS
        for outcome in Outcome
    ]
    failures = [
        f'celery_task_failures_total{{task="{area}.task",queue="q",exception="E",cause="{cause}"}} {MANY}'
        for area in AREAS
        for cause in Cause
    ]
    return summarise(page(*outcomes, *failures), "", load=MANY)


def few(**samples: int) -> Summary:
    """Return the summary of 10 messages, 6 of them of workers; `published` and outcomes are what events tell."""
    task = 'task="orders.validate",queue="high"'
    published = samples.pop("published")
    outcomes = [f'celery_task_outcomes_total{{{task},outcome="{outcome}"}} {n}' for outcome, n in samples.items()]
    events = page(f"celery_task_published_total{{{task}}} {published}", *outcomes)
    return summarise(events, page(f"celery_task_publish_seconds_count{{{task}}} 6"), load=4)


def test_the_table_fits_on_one_screen() -> None:
    """At most 22 lines, to which the caller may add two, and 100 columns; the columns stand below each other."""
    lines = table(summarise("", "", load=0))

    assert len(lines) <= 22
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines[: len(AREAS) + 2]}) == 1


def test_large_numbers_do_not_break_the_columns() -> None:
    """Six digits and long times fit."""
    lines = table(busy())

    assert len({len(line) for line in lines[1 : len(AREAS) + 1]}) == 1


def test_tasks_of_others_are_left_out() -> None:
    """What else goes through the broker is not the demo's to count."""
    others = 'celery_task_outcomes_total{task="theirs",queue="q",outcome="succeeded"} 5'

    summary = summarise(page(others), "", load=0)

    assert summary.total.outcomes == Counter()


def test_a_task_under_way_is_accounted_for_as_in_flight() -> None:
    """What has no outcome yet is not missing."""
    summary = few(published=10, succeeded=7, retried=1)

    assert not summary.settled
    assert check(summary).startswith("publishers sent 10 = 8 outcomes + 2 in flight + 0 dead letters: all accounted")


def test_what_nobody_consumes_is_not_awaited() -> None:
    """A message in the dead-letter queue is accounted for as just that."""
    letters = 'celery_task_published_total{task="payments.charge",queue="dead_letters"} 2'

    summary = summarise(page(letters), "", load=2)

    assert (summary.in_flight, summary.dead, summary.settled) == (0, 2, True)


def test_all_tasks_of_an_area_are_one_row() -> None:
    """There are more tasks than lines on a screen."""
    counts = [f'celery_task_published_total{{task="orders.{name}",queue="q"}} 3' for name in ("validate", "cancel")]

    orders = summarise(page(*counts), "", load=6).rows[0]

    assert (orders.area, orders.published) == ("orders", 6)


@pytest.mark.parametrize("published", [9, 11], ids=["one too few", "one too many"])
def test_a_number_that_lies_is_seen(published: int) -> None:
    """What publishers say is held against what events tell."""
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
