"""Waiting for what a real process does, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02
PATIENCE = 30.0
"""Seconds to wait for what comes in one on an idle machine. A test that is about a time says so itself."""


def eventually(probe: Callable[[], T], timeout: float = PATIENCE, *, what: str | Callable[[], str] = "") -> T:
    """The first truthy answer of `probe`, asked again and again for `timeout` seconds.

    Raises:
        AssertionError: none came; says `what` was awaited, asked then if it can be, and the last answer.
    """
    answer = settled(probe, bool, timeout)
    if not answer:
        awaited = what() if callable(what) else what
        message = f"not within {timeout} s: {awaited or probe!r} (last answer: {answer!r})"
        raise AssertionError(message)
    return answer


def settled(probe: Callable[[], T], accepts: Callable[[T], bool], timeout: float = PATIENCE) -> T:
    """The first answer of `probe` that `accepts` takes, or the last one of `timeout` seconds, for a test to judge.

    What is asked for once more may have changed meanwhile.
    """
    deadline = time.monotonic() + timeout
    while not accepts(answer := probe()) and time.monotonic() <= deadline:
        time.sleep(POLL_SECONDS)
    return answer
