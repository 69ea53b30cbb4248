"""What is told of a failure tells where, and no values unless asked for."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from celery_observe.detail import LEVELS, arguments, detailing
from celery_observe.fact import Detail

MINE = """\
Traceback (most recent call last):
  File "/app/celery/app/trace.py", line 479, in trace_task
    R = retval = fun(*args, **kwargs)
                 ^^^^^^^^^^^^^^^^^^^^
  File "/app/tasks.py", line 7, in charge
    raise ValueError(f"no card {card}")
ValueError: no card 4111 1111
  for customer 12
"""
PASSWORD = "hunter2"


def told(level: str, trace: str = MINE, exception: str = "ValueError('no card 4111 1111')") -> Detail:
    """Return what a level tells of a failure."""
    detail = detailing(level)("id", 2, exception, trace)
    assert detail is not None
    return detail


def test_nothing_is_told_unless_it_is_wanted() -> None:
    """The level none makes nothing."""
    assert detailing("none")("id", 0, "KeyError('x')", MINE) is None
    assert detailing("auto")("id", 0, "KeyError('x')", MINE) is None


def test_a_traceback_is_told_without_the_text_of_the_exception() -> None:
    """Frames quote source code; the text quotes values."""
    detail = told("traceback")

    assert (detail.uuid, detail.retries, detail.text) == ("id", 2, None)
    assert detail.traceback is not None
    assert 'File "/app/tasks.py", line 7, in charge\n    raise ValueError' in detail.traceback
    assert "4111" not in detail.traceback
    assert "customer" not in detail.traceback
    assert "^^^" not in detail.traceback


def test_the_text_is_told_if_allowed() -> None:
    """All lines of it, from the traceback: Celery's ``repr`` may be of a wrapper."""
    assert told("text", exception="ExceptionWithTraceback()").text == "no card 4111 1111\n  for customer 12"
    assert told("text", "", "KeyError('x')").text == "KeyError('x')"
    assert told("text", "", "").text is None


def test_secrets_are_masked_in_all_texts() -> None:
    """Those in URLs, and those that are named."""
    trace = MINE.replace("R = retval", f"connect('redis://:{PASSWORD}@h/0')").replace("no card", f"password={PASSWORD}")

    assert PASSWORD not in str(told("text", trace))
    assert PASSWORD not in arguments(f"('redis://u:{PASSWORD}@h',)", f"{{'password': '{PASSWORD}'}}")


def raised(call: Any) -> str:
    """Return the traceback of what a call raises."""
    try:
        call()
    except Exception:  # noqa: BLE001 - whatever it is
        return traceback.format_exc()
    raise AssertionError


def test_texts_of_earlier_exceptions_are_not_told() -> None:
    """Of a chain of causes, nor of a group."""

    def chain() -> None:
        try:
            dict[str, int]()[PASSWORD]
        except KeyError as error:
            raise RuntimeError("later") from error

    def group() -> None:
        raise ExceptionGroup(PASSWORD, [ValueError(PASSWORD), TypeError(PASSWORD)])

    for call in (chain, group):
        assert PASSWORD not in str(told("traceback", raised(call)))


@pytest.mark.parametrize("level", LEVELS[1:])
def test_a_huge_traceback_is_cut(level: str) -> None:
    """Ten megabytes are a few thousand characters, and quickly so."""
    frame = '  File "/app/deep.py", line 7, in deep\n    deep(' + "x" * 5000 + ")\n"
    trace = "Traceback (most recent call last):\n" + frame * 2000 + "RecursionError: " + "y" * 60_000

    detail = told(level, trace)

    assert len(str(detail)) < 8000
    assert "/app/deep.py" in (told("traceback", "T\n" + frame * 2000 + "E: x").traceback or "")


@pytest.mark.parametrize(
    "trace", ["", "\x00\ud800", "File", '  File "', 'Traceback\n  File "a", line 1, in b', "\n" * 70000]
)
def test_what_is_no_traceback_harms_nobody(trace: str) -> None:
    """Events are written by strangers."""
    str(told("arguments", trace)).encode()
