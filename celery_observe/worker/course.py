"""What an attempt tells of itself while it executes: its states, its progress, and its waits for other tasks.

Only attempts that tell something have a course. It is reported while it goes on, and once more as a whole with the end.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery_observe.report import Execution, Labelling, Progress, Running
from celery_observe.worker.reporter import reporter

if TYPE_CHECKING:
    from collections.abc import Mapping

FREELY = 100
"""Reports of one attempt that are sent at once; after these, one a second at the most."""
INTERVAL = 1.0
MOST_STATES = 20
"""States of one attempt; more are one."""
OTHER = "__other__"
LONGEST = 100
"""Characters of the name of a state, or of the value of a label."""

_clock = time.perf_counter


class Course:
    """That of one attempt, in the process that executes it."""

    __slots__ = (
        "_attempt",
        "_blocked",
        "_entered",
        "_hostname",
        "_labels",
        "_ratio",
        "_shown",
        "_state",
        "_states",
        "_told",
        "_told_at",
        "_waiting",
        "_waits",
    )

    def __init__(self, hostname: str, attempt: Running) -> None:
        self._hostname = hostname
        self._attempt = attempt
        self._labels: dict[str, str] | None = None
        self._state: str | None = None
        self._entered = 0.0
        self._states: dict[str, float] = {}
        self._ratio: float | None = None
        self._blocked: float | None = None
        self._waiting: float | None = None
        self._waits = 0
        self._shown = False
        self._told = 0
        self._told_at = 0.0

    def label(self, labels: Mapping[str, str] | None, seconds: float, *, failed: bool) -> None:
        """Report what the user's callable says of the attempt, and how long it took to say it."""
        self._labels = {name: legible(value) for name, value in (labels or {}).items()} or None
        reporter.send(Labelling(time.time(), self._hostname, self._attempt, seconds, self._labels, failed=failed))

    def enter(self, state: str | None, ratio: float | None) -> None:
        """Go over to a state, None for one of Celery's own, of which so much is done."""
        state = legible(state) if state is not None else None
        if state != self._state:
            self._leave()
            if state is not None and state not in self._states and len(self._states) >= MOST_STATES:
                state = OTHER
            self._state, self._entered, self._ratio = state, _clock(), None
        self.advance(ratio)

    def advance(self, ratio: float | None) -> None:
        """Stay in the state, of which so much is done."""
        if ratio is not None:
            self._ratio = ratio
        self._tell()

    def wait(self) -> None:
        """Begin to wait for a result, which may be one of several that are already waited for."""
        self._waits += 1
        if self._waiting is None:
            self._waiting = _clock()
            self._shown = self._tell()

    def go_on(self) -> None:
        """Have the result, or none."""
        self._waits -= 1
        if self._waits <= 0 and self._waiting is not None:
            self._blocked = (self._blocked or 0.0) + _clock() - self._waiting
            self._waiting = None
            self._tell(due=self._shown)

    def end(self, execution: Execution) -> None:
        """Complete the report of the end."""
        self._leave()
        execution.states = self._states or None
        execution.blocked = self._blocked
        execution.labels = self._labels

    def _leave(self) -> None:
        if self._state is not None:
            self._states[self._state] = self._states.get(self._state, 0.0) + _clock() - self._entered

    def _tell(self, *, due: bool = False) -> bool:
        """Report the course so far, and say so, unless it has been told too often of late."""
        now = _clock()
        if self._told >= FREELY and now - self._told_at < INTERVAL and not due:
            return False
        self._told += 1
        self._told_at = now
        wall = time.time()
        reporter.send(
            Progress(
                timestamp=wall,
                hostname=self._hostname,
                attempt=self._attempt,
                states=self._states or None,
                state=self._state,
                since=wall - (now - self._entered) if self._state is not None else None,
                ratio=self._ratio,
                blocked=self._blocked,
                waiting=wall - (now - self._waiting) if self._waiting is not None else None,
            )
        )
        return True


def legible(text: str) -> str:
    """Return a text of the user's as it may be told: not too long, and UTF-8."""
    return text[:LONGEST].encode(errors="replace").decode()
