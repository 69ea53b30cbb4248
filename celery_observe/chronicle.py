"""What traces are rebuilt from: attempts that have ended, kept for a moment, until all of them is surely known.

Events come in any order, and the publish of an attempt may become known after its end. So an attempt is told one to
two ticks after it ended, as a whole. Only what the tracker does not keep by itself is kept here: which attempt
published a task, which came before it under its id, and what it raised.

Pure. Bounded: past ``most`` attempts they are told at once, and of what was told little is kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from celery_observe.attempt import Attempt, Memory
from celery_observe.cause import diagnose
from celery_observe.detail import frames
from celery_observe.fact import AttemptId, AttemptsReplayed, Fact, Outcome, Replayed, Traced

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_observe.event import Event
    from celery_observe.fleet import Worker


_RECENT = 4
"""Attempts of a task that are remembered: one of them published what becomes known of within two ticks."""
_NOTHING, _TOLD = Memory(), Memory(told=True)
"""Of attempts of which there is nothing to remember, before and after they were told; never written to."""


class _Ended(NamedTuple):
    """An attempt that has ended, and what was known then."""

    attempt: Attempt
    runtime: float | None
    worker: Worker | None
    seen: float
    """When its worker had sent its last heartbeat, by its clock."""
    follower: Attempt | None
    """The next under the same id, if it was announced."""


class Chronicle:
    """Remembers attempts and hands ``Traced`` to ``emit``.

    ``trace_of`` says in which trace an attempt will be seen, if it is certain to be: given the root, the outcome and
    the longest of its times in seconds.
    """

    def __init__(
        self,
        emit: Callable[[Fact], None],
        trace_of: Callable[[str, Outcome, float], str | None] = lambda _root, _outcome, _seconds: None,
        *,
        most: int = 20_000,
    ) -> None:
        self._emit = emit
        self._trace_of = trace_of
        self._most = most
        self._ended: list[_Ended] = []
        self._ended_before: list[_Ended] = []
        self._published: list[tuple[Attempt, str]] = []
        self._published_before: list[tuple[Attempt, str]] = []
        self.known: Callable[[str], Attempt | None] = lambda _uuid: None
        """Returns the attempt of a task that the tracker keeps, by its id."""

    def publish(self, attempt: Attempt, parent: str) -> None:
        """Note that a task was published by another; by which attempt of that is seen when its events have come too."""
        if attempt.memory is None or attempt.memory.publisher is None:
            if len(self._published) >= self._most:
                self._place()
            self._published.append((attempt, parent))

    def follow(self, attempt: Attempt, follower: Attempt) -> None:
        """Note that an attempt comes after another under the same id."""
        before, memory = attempt.memory or _NOTHING, _memory(follower)
        memory.previous = attempt.id
        memory.repeats = follower.retries == attempt.retries
        memory.publisher = before.publisher
        memory.recent = (*before.recent[1 - _RECENT :], attempt)
        if before.recent:
            before.recent = ()

    def fail(self, attempt: Attempt, event: Event, worker: Worker | None) -> str | None:
        """Note what an attempt raised that has ended, and return the trace in which it will be seen."""
        memory = _memory(attempt)
        if not memory.told:
            memory.exception, memory.cause = diagnose(event.exception, event.traceback)
            memory.frames = frames(event.traceback or "")
        return self._trace(attempt, 0.0, worker)

    def end(self, attempt: Attempt, runtime: float | None, worker: Worker | None) -> str | None:
        """Take in an attempt that has just ended, and return the trace in which it will be seen, if that is certain."""
        seen = worker.ledger.timestamp if worker is not None else 0.0
        if len(self._ended) >= self._most:
            self.settle()
        self._ended.append(_Ended(attempt, runtime, worker, seen, attempt.upcoming))
        return self._trace(attempt, max(runtime or 0.0, attempt.queue_wait() or 0.0), worker)

    def _trace(self, attempt: Attempt, seconds: float, worker: Worker | None) -> str | None:
        root = _root(attempt)
        if root is None or attempt.outcome is None or (worker is not None and worker.traces):
            return None
        return self._trace_of(root, attempt.outcome, seconds)

    def tick(self) -> None:
        """Tell what ended before the last tick."""
        self._place()
        ready, self._ended_before, self._ended = self._ended_before, self._ended, []
        for ended in ready:
            self._tell(ended)

    def _place(self) -> None:
        """Find the publishers of what was published before the last time."""
        published, self._published_before, self._published = self._published_before, self._published, []
        for attempt, parent in published:
            memory = _memory(attempt)
            if memory.publisher is None and not memory.told:
                memory.publisher = _publisher(parent, self.known(parent), attempt)

    def settle(self) -> None:
        """Tell all, without waiting for more."""
        self.tick()
        self.tick()

    def _tell(self, ended: _Ended) -> None:
        attempt, worker = ended.attempt, ended.worker
        root = _root(attempt)
        if worker is not None and worker.traces:
            self._emit(AttemptsReplayed(Replayed.LIVE, 1))
        elif root is None:
            self._emit(AttemptsReplayed(Replayed.ROOT_UNKNOWN, 1))
        else:
            self._emit(_traced(ended, root))
        if attempt.memory is None:
            attempt.memory = _TOLD
        elif not attempt.memory.told:
            attempt.memory.told, attempt.memory.frames = True, None


def _memory(attempt: Attempt) -> Memory:
    if attempt.memory is None:
        attempt.memory = Memory()
    return attempt.memory


def _root(attempt: Attempt) -> str | None:
    """Return the id of the first task of its workflow; its own, if events that would name another do not."""
    if attempt.root is None and attempt.published is None and attempt.received is None:
        return None
    return attempt.root or attempt.uuid


def _publisher(parent: str, latest: Attempt | None, child: Attempt) -> AttemptId:
    """Return which attempt of a parent published a task: the last whose message was there by then.

    To ask for its start would be too much: the main process of a worker tells of that when it comes to it, which may be
    after the child has published. And to publish its retry is the last that an attempt does. Without word of the
    publish it is the last whose message was there when the task was received.
    """
    if latest is None:
        return AttemptId(parent)
    attempts = [*(latest.memory.recent if latest.memory is not None else ()), latest]
    if latest.upcoming is not None:
        attempts.append(latest.upcoming)
    at = child.first_published or child.published or child.received or 0.0
    there = [each for each in attempts if _begun(each) <= at]
    return (there[-1] if there else attempts[0]).id


def _begun(attempt: Attempt) -> float:
    """Return the first that is known of an attempt."""
    known = (attempt.published, attempt.received, attempt.started)
    return min((time for time in known if time is not None), default=math.inf)


def _last_seen(ended: _Ended) -> float | None:
    """Return the last that is known of an attempt of whose end nobody told: its worker lived, or the next was sent."""
    follower = ended.follower
    following = (follower.published or follower.received) if follower is not None else None
    return max(ended.seen, following or 0.0) or None


def _traced(ended: _Ended, root: str) -> Traced:
    attempt = ended.attempt
    memory = attempt.memory or _NOTHING
    return Traced(
        task=attempt.task,
        queue=attempt.queue,
        worker=attempt.worker,
        attempt=attempt.id,
        root=root,
        outcome=attempt.outcome or Outcome.VANISHED,
        published=attempt.published,
        eta=attempt.eta,
        received=attempt.received,
        started=attempt.started,
        ended=attempt.stopped if attempt.stopped is not None else _last_seen(ended),
        estimated=attempt.stopped is None,
        runtime=ended.runtime,
        queue_wait=attempt.queue_wait(),
        worker_wait=attempt.worker_wait(),
        redelivered=attempt.redelivered is not None,
        first=attempt.first_published is not None,
        parent=memory.publisher,
        previous=memory.previous,
        exception=memory.exception,
        cause=memory.cause,
        frames=memory.frames,
    )
