"""Which workers are online and consume nothing: heartbeats arrive, messages wait, and no task is accepted.

Pure. A worker is judged by looks at it: it is stalled once each look for `patience` seconds has found that it could
take a message, that one waited in its queues, and that it had accepted none. Only its heartbeats make that time pass: a
solo worker in a long task is silent, and what it last said of itself is no news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection


class Look(NamedTuple):
    """One worker at one moment. What is None is not known."""

    beat: float | None
    """When it sent its last heartbeat, in Unix seconds by its clock."""
    processed: float | None
    """Tasks that it says it accepted since it started."""
    active: float | None
    """Tasks that it says it executes."""
    slots: float | None
    prefetch: float | None
    """Messages that it may hold; 0 is no limit."""
    held: float
    """Messages that it holds and that do not execute: reserved, and kept until their ETA."""
    waiting: float | None
    """Messages in the queues that it consumes; None too if it consumes none."""
    slowest_rate: float | None
    """Tasks a second by the strictest of its rate limits; None without one."""


def could_take(look: Look, patience: float) -> bool | None:
    """Say whether this worker should accept a task within `patience` seconds; None if that cannot be known."""
    if None in {look.beat, look.processed, look.active, look.waiting}:
        return None
    limited = look.slowest_rate is not None and look.slowest_rate * patience < 1
    return bool(look.waiting) and not (_is_busy(look) or _is_full(look) or limited)


def _is_busy(look: Look) -> bool:
    return (look.active or 0) >= (look.slots or 1)


def _is_full(look: Look) -> bool:
    """Whether it holds all that it may; whether those that execute count depends on when they are acknowledged."""
    return bool(look.prefetch) and look.held + (look.active or 0) >= (look.prefetch or 0)


class _Idle(NamedTuple):
    """The heartbeat since which a worker takes nothing that it could take, and what it had accepted by then."""

    beat: float
    processed: float


class Watch:
    """Looks at workers again and again."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._idle: dict[str, _Idle] = {}

    def judge(self, worker: str, look: Look) -> bool | None:
        """Say whether a worker is stalled; None if that cannot be known."""
        able = could_take(look, self._patience)
        if not able or look.beat is None or look.processed is None:
            self._idle.pop(worker, None)
            return able
        idle = self._idle.get(worker)
        if idle is None or idle.processed != look.processed:
            idle = self._idle[worker] = _Idle(look.beat, look.processed)
        return look.beat - idle.beat >= self._patience

    def keep(self, workers: Collection[str]) -> None:
        """Forget all other workers."""
        self._idle = {worker: idle for worker, idle in self._idle.items() if worker in workers}
