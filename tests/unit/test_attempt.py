"""The arithmetic of an attempt's times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_observe.attempt import Attempt, between_hosts, on_one_host, unix_time

TEN_YEARS = 10 * 365 * 86400.0


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [(1.0, 3.5, 2.5), (2.0, 2.0, 0.0), (3.0, 2.9, None), (None, 1.0, None), (1.0, None, None), (0.0, TEN_YEARS, None)],
)
def test_a_time_on_one_host_is_never_negative(start: float | None, end: float | None, seconds: float | None) -> None:
    """Where its clock jumped, the time is not known."""
    assert on_one_host(start, end) == seconds


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [(1.0, 3.5, 2.5), (3.0, 2.5, 0.0), (5.0, 2.0, None), (None, 1.0, None), (1.0, None, None), (0.0, TEN_YEARS, None)],
)
def test_a_time_between_hosts_forgives_a_small_difference_of_clocks(
    start: float | None, end: float | None, seconds: float | None
) -> None:
    """Up to a second reads as no time; more is no time at all."""
    assert between_hosts(start, end) == seconds


@pytest.mark.parametrize(
    ("eta", "expected"),
    [
        ("1970-01-01T00:01:00+00:00", 60.0),
        ("1970-01-01T01:01:00+01:00", 60.0),
        ("1970-01-01T00:01:00", 60.0),
        ("1970-01-01T00:01:00.500000Z", 60.5),
        ("soon", None),
        ("", None),
        ("9999-12-31T23:59:59-23:59", 253402387139.0),
    ],
)
def test_an_eta_is_a_moment(eta: str, expected: float | None) -> None:
    """In UTC where it names no zone."""
    assert unix_time(eta) == expected


@given(st.text())
def test_whatever_is_called_an_eta_is_a_moment_or_none(eta: str) -> None:
    """Nothing is raised."""
    assert unix_time(eta) is None or isinstance(unix_time(eta), float)


def test_a_wait_begins_at_the_eta_if_that_is_later() -> None:
    """Both in the queue and in the worker."""
    attempt = Attempt("a", "t", "q", published=1.0, received=2.0, eta=10.0, started=12.0)

    assert (attempt.queue_wait(), attempt.worker_wait()) == (2.0, 2.0)


def test_a_wait_begins_with_the_message_if_its_eta_has_passed() -> None:
    """It was published late."""
    attempt = Attempt("a", "t", "q", published=3.0, received=4.0, eta=1.0, started=12.0)

    assert (attempt.queue_wait(), attempt.worker_wait()) == (9.0, 8.0)


def test_no_wait_is_known_of_what_was_not_published_or_did_not_start() -> None:
    """None is not zero."""
    assert Attempt("a", "t", "q", eta=1.0, started=2.0).queue_wait() is None
    assert Attempt("a", "t", "q", published=1.0).queue_wait() is None
