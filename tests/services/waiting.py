"""Waiting for what a real process does, without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02


def eventually(probe: Callable[[], T], timeout: float = 10.0, *, what: str = "") -> T:
    """The first truthy answer of `probe`, asked again and again for `timeout` seconds.

    Raises:
        AssertionError: none came; says `what` was awaited and the last answer.
    """
    deadline = time.monotonic() + timeout
    while not (answer := probe()):
        if time.monotonic() > deadline:
            message = f"not within {timeout} s: {what or probe!r} (last answer: {answer!r})"
            raise AssertionError(message)
        time.sleep(POLL_SECONDS)
    return answer
