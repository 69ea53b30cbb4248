"""The slots that a queue should have follow from what there is to do and how long it takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_observe.capacity import RECENT, Load, MeanRuntimes, Target, desired_slots

TARGET = Target(drain=60.0, least=0, most=100)
IDLE = Load(waiting=0, in_flight=0, running=0, slots=0, mean_runtime=None)


def load(**changes: Any) -> Load:
    """An idle queue but for these changes."""
    return IDLE._replace(**changes)


@pytest.mark.parametrize(
    ("given_load", "slots"),
    [
        pytest.param(load(), 0, id="nothing to do and nobody there"),
        pytest.param(load(slots=8, mean_runtime=2.0), 0, id="nothing to do"),
        pytest.param(load(waiting=60, mean_runtime=10.0), 10, id="600 s of work in 60 s"),
        pytest.param(load(waiting=50, in_flight=10, mean_runtime=10.0), 10, id="what is in flight is to be done too"),
        pytest.param(load(waiting=61, mean_runtime=10.0), 11, id="rounded up"),
        pytest.param(load(waiting=1, mean_runtime=0.01), 1, id="at least one for a message"),
        pytest.param(load(waiting=1), 1, id="one to begin with, while runtimes are not known"),
        pytest.param(load(waiting=500, slots=4), 4, id="as many as there are, while runtimes are not known"),
        pytest.param(load(running=3, slots=8, mean_runtime=5.0), 3, id="no task is scaled away"),
        pytest.param(load(waiting=6, running=3, mean_runtime=5.0), 3, id="nor while little waits"),
        pytest.param(load(waiting=1e6, mean_runtime=60.0), 100, id="never above the most"),
    ],
)
def test_desired_slots_follow_the_formula(given_load: Load, slots: int) -> None:
    """Work in seconds, over the time in which it should be done."""
    assert desired_slots(given_load, TARGET) == slots


def test_desired_slots_are_never_below_the_least() -> None:
    """A queue that must be served at once keeps some."""
    assert desired_slots(IDLE, TARGET._replace(least=2)) == 2


counts = st.floats(min_value=0, max_value=1e9)


@given(waiting=counts, more=counts, running=counts, mean=st.none() | counts)
def test_more_to_do_never_needs_fewer_slots(waiting: float, more: float, running: float, mean: float | None) -> None:
    """And the bounds hold whatever is given."""
    one = desired_slots(load(waiting=waiting, running=running, mean_runtime=mean), TARGET)
    other = desired_slots(load(waiting=waiting + more, running=running, mean_runtime=mean), TARGET)

    assert 0 <= one <= other <= 100


def test_runtimes_are_those_of_recent_attempts() -> None:
    """A queue whose tasks have become slow is not judged by its past."""
    means = MeanRuntimes()
    means.take(0.0, {"q": (100.0, 100)})
    assert means.of("q") == 1.0

    means.take(RECENT, {"q": (300.0, 110)})

    assert means.of("q") == 20.0


def test_a_quiet_queue_keeps_its_mean() -> None:
    """Until attempts end again."""
    means = MeanRuntimes()
    for minute in range(20):
        means.take(60.0 * minute, {"q": (50.0, 10)})

    assert means.of("q") == 5.0


def test_the_mean_is_not_known_before_the_first_end() -> None:
    """Neither of a queue without attempts nor of one that nobody named."""
    means = MeanRuntimes()
    means.take(0.0, {"q": (0.0, 0)})

    assert means.of("q") is None
    assert means.of("other") is None
