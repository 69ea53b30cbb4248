"""What is kept of one attempt of a task, and the arithmetic of its times."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import sub
from typing import TYPE_CHECKING

import msgspec

from celery_observe.fact import AttemptId, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_observe.fact import Cause, TaskFact

_DELIVERED_AGAIN = frozenset({Outcome.REJECTED, Outcome.CANCELLED, Outcome.VANISHED})
_CLOCK_TOLERANCE = 1.0
"""Seconds by which the clocks of two hosts may differ before a negative time is dropped instead of read as zero."""
_LONGEST = 10 * 365 * 86400.0
"""Seconds; a longer time is a clock's mistake."""


class Memory(msgspec.Struct, gc=False):
    """What only traces want to know of an attempt."""

    publisher: AttemptId | None = None
    """The attempt that published the task."""
    previous: AttemptId | None = None
    """The attempt before, under the same id."""
    recent: tuple[Attempt, ...] = ()
    """The last ones before, while there is none after it."""
    repeats: bool = False
    """Whether one before had the same id and number of retries."""
    exception: str | None = None
    """The class of what it raised."""
    cause: Cause | None = None
    frames: str | None = None
    """Of the traceback of that, until it is told."""
    told: bool = False
    """Whether the attempt was told: what comes later comes in vain."""


class Attempt(msgspec.Struct, gc=False, eq=False):
    """One attempt of a task, equal to itself only.

    Times are Unix seconds by the clock of whoever did it; None where no event said.
    """

    uuid: str
    task: str
    queue: str
    retries: int = 0
    first_published: float | None = None
    """Of the first attempt of the task."""
    published: float | None = None
    eta: float | None = None
    received: float | None = None
    redelivered: float | None = None
    started: float | None = None
    worker: str = ""
    outcome: Outcome | None = None
    ended: float | None = None
    """When an event told its outcome, by our monotonic clock."""
    finished: float | None = None
    """When the task ended with it, by its worker's clock; None if the task goes on."""
    seeded: bool = False
    """Known to run from a snapshot; the event of its start may follow."""
    requeued: bool = False
    """Its message went back to the queue."""
    failed: bool = False
    """Its failure was counted."""
    era: int = 0
    """The unbroken stretch of the stream in which it started."""
    held: list[TaskFact] | None = None
    """Facts that wait for the name of the queue."""
    upcoming: Attempt | None = None
    """The next attempt, announced before this one's end was."""
    turn: int = 0
    """How many messages under this id came before it."""
    root: str | None = None
    """Id of the first task of its workflow; None if it is alone, as far as we know."""
    parent: str | None = None
    """Id of the task that published it, if it belongs to a workflow."""
    stopped: float | None = None
    """When it ended, by its worker's clock, as far as events told."""
    overtaken: int = 0
    """How many attempts before have been ended as retried without having been told so, which may still come."""
    foreign: bool = False
    """Another shard counts it; it is followed for the sake of its workflow."""
    memory: Memory | None = None
    """None unless traces are rebuilt, and there is something to remember."""

    @property
    def is_delivered_again(self) -> bool:
        """Whether the broker has its message back, or still has it."""
        return self.requeued or self.outcome in _DELIVERED_AGAIN

    @property
    def is_reopened(self) -> bool:
        """Whether its task may go on under the same number of retries although it has ended."""
        return self.is_delivered_again or self.outcome is Outcome.IGNORED

    @property
    def id(self) -> AttemptId:
        """What all who read the same events call it, once it was received."""
        memory = self.memory
        again = self.received or self.started if memory is not None and memory.repeats else None
        return AttemptId(self.uuid, self.retries, again)

    def queue_wait(self) -> float | None:
        """Return the seconds from publish, or ETA if that is later, to start."""
        published, eta = self.published, self.eta
        return between_hosts(published if eta is None or published is None else max(published, eta), self.started)

    def worker_wait(self) -> float | None:
        """Return the seconds from receipt, or ETA if that is later, to start."""
        received, eta = self.received, self.eta
        return between_hosts(received if eta is None or received is None else max(received, eta), self.started)


def on_one_host(start: float | None, end: float | None) -> float | None:
    """Return the seconds between two times of one clock; None if one is unknown or the clock jumped."""
    if start is None or end is None:
        return None
    seconds = end - start
    return seconds if 0.0 <= seconds < _LONGEST else None


def between_hosts(start: float | None, end: float | None) -> float | None:
    """Return the seconds between times of two clocks; a small negative time is their difference and reads as zero."""
    if start is None or end is None:
        return None
    seconds = end - start
    if seconds < 0.0:
        return 0.0 if seconds >= -_CLOCK_TOLERANCE else None
    return seconds if seconds < _LONGEST else None


def each_between_hosts(starts: Sequence[float | None], ends: Sequence[float | None]) -> Sequence[float | None]:
    """Return the seconds from each start to the end that goes with it, as ``between_hosts`` does."""
    if None not in starts and None not in ends:
        seconds: list[float] = list(map(sub, ends, starts))
        if min(seconds) >= 0.0 and max(seconds) < _LONGEST:
            return seconds
    return list(map(between_hosts, starts, ends))


def waited(since: float | None, eta: float | None, started: float | None) -> float | None:
    """Return the seconds from a time, or the ETA if that is later, to the start."""
    return between_hosts(max(since, eta) if since is not None and eta is not None else since, started)


def unix_time(eta: str) -> float | None:
    """Return the Unix time of an ISO 8601 ``eta``, read as UTC where it names no zone; None if it is not one."""
    try:
        moment = datetime.fromisoformat(eta)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
