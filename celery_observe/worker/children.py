"""The children of the pool: how many were started, and how they have gone."""

from __future__ import annotations

import signal
from collections import Counter
from typing import Any

from kombu.asynchronous import get_event_loop

from celery_observe.worker.guard import harmless

_SHRUNK = "shrunk"
"""The pool was made smaller, by an autoscaler or remote control: billiard terminates the child, too."""
_RECYCLED = 155
"""billiard's EX_RECYCLE: the child has reached ``max_tasks_per_child`` or ``max_memory_per_child``."""


class Children:
    """Watches the processes that the pool makes. billiard reaps them; this only reads what it has found."""

    def __init__(self) -> None:
        self.spawned = 0
        self._met: list[Any] = []
        """Those that were in the pool when it was last looked at: one that has gone may be there still."""
        self._were_met = False
        self._living: list[Any] = []
        self._exits: Counter[str] = Counter()

    def expect(self, sender: Any, **_: Any) -> None:
        """Take note that the pool is about to make a child, and look at it as soon as the main loop turns."""
        self.spawned += 1
        hub = get_event_loop()
        if hub is not None:
            hub.call_soon(self._meet, sender)

    @harmless
    def _meet(self, pool: Any) -> None:
        self._were_met = True
        known, self._met = set(map(id, self._met)), list(pool._pool)  # noqa: SLF001 - billiard's list
        self._living += [child for child in self._met if id(child) not in known]

    def exits(self) -> dict[str, int]:
        """Return how many have gone since the worker started, by reason."""
        for child in self._living.copy():
            code = _exit_code(child)
            if code is not None:
                self._exits[_SHRUNK if _was_let_go(child) else _reason_of(code)] += 1
                self._living.remove(child)
        return dict(self._exits)

    @property
    def pids(self) -> list[int]:
        """The processes that live, as far as is known."""
        return [child.pid for child in self._living.copy() if _exit_code(child) is None and child.pid]

    @property
    def extinct(self) -> bool:
        """Whether there were children and none lives, such as between two of a pool of one."""
        return self._were_met and all(_exit_code(child) is not None for child in self._living.copy())


def _exit_code(child: Any) -> int | None:
    """Return what billiard has reaped, without reaping: its own accounts would miss what we took."""
    return getattr(getattr(child, "_popen", None), "returncode", None)


def _was_let_go(child: Any) -> bool:
    """Say whether billiard ended a child that executed nothing (``Pool.shrink``), and not a job with its child."""
    return getattr(child, "_controlled_termination", False) and not getattr(child, "_job_terminated", False)


def _reason_of(code: int) -> str:
    """Name an exit code: exited, recycled, failed, or the signal that killed."""
    if code < 0:
        return _signal_name(-code)
    return {0: "exited", _RECYCLED: "recycled"}.get(code, "failed")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name.lower()
    except ValueError:
        return "signal"
