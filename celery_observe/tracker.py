"""Event → Fact: joins what one task did, so that each attempt has one start, one queue and one outcome.

Celery repeats itself (a hard time limit is announced twice), reorders (the next attempt is received, and may start,
before ``task-retried``; ``task-received`` may precede ``task-sent``), re-uses ids (retry, ``replace``, redelivery)
and says nothing at all of some ends. An attempt is told by its task id and its number of retries; a message that was
put back on the queue, or a task that replaces itself under its own id, opens a new one.

Pure: the clock is an argument. Bounded: ``max_tasks`` attempts are kept, ended ones go first.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import chain, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from celery_observe.attempt import Attempt, between_hosts, on_one_host, unix_time
from celery_observe.cause import UNKNOWN, diagnose, is_reject, unregistered_name
from celery_observe.chords import CHORD_UNLOCK
from celery_observe.detail import Detailing, detailing
from celery_observe.event import Malformed
from celery_observe.fact import (
    Cause,
    CustomEvent,
    DuplicateExecution,
    DuplicateOutcome,
    Ended,
    EventMalformed,
    Fact,
    Failed,
    Finished,
    Outcome,
    Polled,
    Published,
    Received,
    Redelivered,
    Started,
    Step,
    TaskEvicted,
    TaskFact,
    Waited,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_observe.chronicle import Chronicle
    from celery_observe.event import Event, Overheard, RunningTask, Snapshot
    from celery_observe.fleet import Fleet, Instant, Worker
    from celery_observe.shard import Shard

_SURPLUS_HEARTBEATS = 3
"""Heartbeats in a row that must say that fewer tasks run than we believe before the worker is asked."""
_PATIENCE = 60
"""Ticks without any ``task-sent`` after which facts no longer wait for one to name their queue."""
_LATE = 2.0
"""Seconds after an attempt's end in which word of its publish or receipt may still arrive."""
_SETTLED = 1.0
"""Seconds after which the events of something a worker did are surely on their way."""

_type = attrgetter("type")
_TOLD_OF_OTHERS = (Step, Polled, TaskEvicted)
"""Facts about tasks that another shard counts."""
_NOT_FINAL = frozenset({Outcome.RETRIED, Outcome.CANCELLED})
_FAILURES = frozenset({Outcome.FAILED, Outcome.UNREGISTERED, Outcome.REJECTED})


class Running(msgspec.Struct, gc=False):
    """The attempts of one task and queue that execute now; ``oldest`` started first, in Unix seconds by our clock."""

    count: int
    oldest: float


class Tracker:
    """Joins events to facts and hands them to ``emit``.

    ``queue_of`` maps a task name to the queue it is routed to, None where no rule or route says. ``label_of`` maps a
    task name to the name it is counted under. ``detail_of`` makes what is told of a failure beside its labels.
    ``chronicle`` remembers what traces are rebuilt from, if they are. Of several shards it is this ``shard``: what
    others count it takes in for the sake of workers and workflows.
    """

    def __init__(  # noqa: PLR0913  what a tracker is told by its settings, each a name of its own
        self,
        emit: Callable[[Fact], None],
        fleet: Fleet,
        *,
        queue_of: Callable[[str], str | None] = lambda _name: None,
        label_of: Callable[[str], str] = lambda name: name,
        detail_of: Detailing = detailing("none"),  # noqa: B008 - a function
        chronicle: Chronicle | None = None,
        shard: Shard | None = None,
        max_tasks: int = 40_000,
    ) -> None:
        self._emit = self._emit_all = emit
        self._shard = shard
        self._overheard = 0
        self._fleet = fleet
        self._queue_of = queue_of
        self._label_of = label_of
        self._detail_of = detail_of
        self._chronicle = chronicle
        if chronicle is not None:
            chronicle.known = lambda uuid: self._open.get(uuid) or self._ended.get(uuid)
        self._max_tasks = max_tasks
        self._open: dict[str, Attempt] = {}
        self._ended: dict[str, Attempt] = {}
        self._era = 0
        self._patience = _PATIENCE
        self._holding: list[Attempt] = []
        self._held_before: list[Attempt] = []
        self._early: list[tuple[str, CustomEvent]] = []
        self._early_before: list[tuple[str, CustomEvent]] = []
        self.event_counts: Counter[str] = Counter()
        """Events handled by type; whoever collects them clears it."""
        self._task_events = self._handlers()
        self._other_events: dict[str | None, Callable[[Any, Instant], None]] = {
            "worker-online": self._heartbeat,
            "worker-heartbeat": self._heartbeat,
            "worker-offline": self._farewell,
            None: self._overhear,
        }

    def _handlers(self) -> dict[str | None, Callable[[Any, Instant], object]]:
        """Return what takes in the events of tasks, by type."""
        handlers: dict[str | None, Callable[[Any, Instant], object]] = {
            "task-sent": self._sent,
            "task-received": self._received,
            "task-started": self._started,
            "task-succeeded": self._succeeded,
            "task-failed": self._failed,
            "task-retried": self._retried,
            "task-revoked": self._revoked,
            "task-rejected": self._rejected,
            "task-cancelled": self._cancelled,
        }
        if self._shard is None:
            return handlers
        return {kind: partial(self._sort, handler) for kind, handler in handlers.items()}

    def __len__(self) -> int:
        """Return how many attempts are kept, ended ones included."""
        return len(self._open) + len(self._ended)

    def handle(self, event: Event | Overheard, at: Instant) -> None:
        """Take in one event that was read at this instant."""
        self.handle_all([event], at)

    def handle_all(self, events: Sequence[Event | Overheard], at: Instant) -> None:
        """Take in events that were read at this instant, in their order."""
        self.event_counts.update(filter(None, map(_type, events)))
        of_tasks = self._task_events
        for event in events:
            handler = of_tasks.get(event.type)
            if handler is None:
                handler = self._other_events.get(event.type, self._custom)
            elif event.uuid is None:
                handler = self._nameless
            handler(event, at)

    def connected(self, at: Instant) -> None:
        """Note that the stream is connected from now on, and that what was sent before may be lost."""
        self._era += 1
        self._fleet.trust_from(at)

    def tick(self, at: Instant) -> None:
        """Do what the passing of time asks for: give up on workers that are gone and on what ran there."""
        self._patience = max(0, self._patience - 1)
        for attempt in self._held_before:
            self._release(attempt)
        self._held_before, self._holding = self._holding, []
        self._release_early()
        for worker in self._fleet.silent(at):
            self._vanish(worker)
            self._fleet.forget(worker)
        for worker in self._fleet:
            if worker.exited and worker.running and not worker.lingers:
                self._vanish(worker)
        if self._chronicle is not None:
            self._chronicle.tick()

    def finish(self) -> None:
        """Tell at once what waits to be told: no more events will come."""
        if self._chronicle is not None:
            self._chronicle.settle()

    def running(self) -> dict[tuple[str, str], Running]:
        """Return what executes now, by task and queue."""
        found: dict[tuple[str, str], Running] = {}
        for worker in self._fleet:
            skew = worker.skew
            for attempt in worker.running:
                if attempt.foreign:
                    continue
                started = (attempt.started or 0.0) + skew
                entry = found.get(key := (attempt.task, attempt.queue))
                if entry is None:
                    found[key] = Running(1, started)
                    continue
                entry.count += 1
                if started < entry.oldest:  # noqa: PLR1730 - min() costs as much as all the rest
                    entry.oldest = started
        return found

    def waiting(self) -> dict[str, list[float]]:
        """Return, by queue, since when tasks wait that were published and not received: Unix seconds, an ETA if later.

        Another thread may ask: it looks at a copy of what is kept.
        """
        found: dict[str, list[float]] = {}
        for attempt in list(self._open.values()):
            last = attempt.upcoming or attempt
            if last.published is not None and last.received is None and last.started is None and not last.foreign:
                found.setdefault(last.queue, []).append(max(last.published, last.eta or 0.0))
        return found

    def prefetched(self) -> Counter[tuple[str, ...]]:
        """Return how many tasks without an ETA workers hold that have not started, by worker and task."""
        found: Counter[tuple[str, ...]] = Counter()
        for attempt in self._open.values():
            last = attempt.upcoming or attempt
            if last.received is not None and last.started is None and last.eta is None and not last.foreign:
                found[last.worker, last.task] += 1
        up = {worker.name for worker in self._fleet if worker.up}
        return Counter({labels: count for labels, count in found.items() if labels[0] in up})

    # -- what other shards count

    def _sort(self, handler: Callable[[Event, Instant], object], event: Event, at: Instant) -> None:
        """Handle an event of a task; of one that is only followed, tell nothing but what its workflow wants."""
        if self._shard is None or not self._shard.follows(event):
            handler(event, at)
            return
        self.event_counts[event.type] -= 1
        self._emit = self._murmur
        try:
            handler(event, at)
        finally:
            self._emit = self._emit_all

    def _murmur(self, fact: Fact) -> None:
        if isinstance(fact, _TOLD_OF_OTHERS):
            self._emit_all(fact)

    def _overhear(self, heard: Overheard, at: Instant) -> None:
        """Note what a worker does with a task that is not tracked: that it lives, and how many it has started."""
        uuid, said = heard.uuid, heard.said
        if uuid is None:
            return
        if said == "task-started":
            worker = self._hear_instance(heard, at)
            if worker.former_pid is None or not worker.is_former(heard):
                worker.ledger.start(heard.timestamp)
            if uuid not in worker.others and self._overheard < self._max_tasks:
                worker.others.add(uuid)
                self._overheard += 1
        elif said == "task-received":
            self._fleet.hear(heard, at)
        elif said == "task-sent":
            self._patience = _PATIENCE
        elif said in self._task_events:
            known = self._fleet.get(heard.hostname)
            if known is not None and uuid in known.others:
                known.others.remove(uuid)
                self._overheard -= 1

    def _end_elsewhere(self, worker: Worker, uuids: set[str]) -> None:
        self._overheard -= len(uuids)
        worker.others -= uuids

    def _is_known(self, uuid: str) -> bool:
        """Say whether a task is tracked, or would be."""
        return self._shard is None or self._shard.owns(uuid) or uuid in self._open or uuid in self._ended

    # -- the life of a task

    def _sent(self, event: Event, at: Instant) -> None:
        self._patience = _PATIENCE
        uuid = event.uuid or ""
        attempt = self._open.get(uuid) or self._ended.get(uuid)
        if attempt is None:
            attempt = self._open_attempt(event)
        elif self._is_published_next(attempt, event, at):
            attempt = self._follow(attempt, event)
        elif (event.retries or 0) < attempt.retries:
            self._emit(Published(self._label(event), event.queue or UNKNOWN, event.hostname))
            return
        self._learn(attempt, event)
        attempt.published = event.timestamp
        if attempt.queue == UNKNOWN:
            attempt.queue = self._queue_of(event.name or "") or UNKNOWN
        if attempt.held is not None:
            self._release(attempt)
        if event.root_id != uuid or attempt.root is not None:
            self._follow_workflow(attempt, event)
        self._emit(Published(attempt.task, attempt.queue, event.hostname))
        if attempt.first_published is None and not event.retries:
            attempt.first_published = event.timestamp
            if attempt.finished is not None and attempt.outcome is not None:
                total = between_hosts(attempt.first_published, attempt.finished)
                self._emit(Finished(attempt.task, attempt.queue, attempt.worker, attempt.outcome, total))
        if attempt.started is not None:
            self._emit(Waited(attempt.task, attempt.queue, attempt.worker, attempt.queue_wait()))

    def _is_published_next(self, attempt: Attempt, event: Event, at: Instant) -> bool:
        """Say whether a message was published after this attempt's: publishers race with workers and come in late."""
        retries = event.retries or 0
        if attempt.outcome is not None:
            late = at.monotonic - attempt.ended < _LATE if attempt.ended is not None else False
            awaited = retries < attempt.retries or (retries == attempt.retries and attempt.published is None)
            return not (late and awaited)
        if retries != attempt.retries or attempt.published is None:
            return retries > attempt.retries
        return attempt.started is not None or not self._is_same_task(attempt, event)

    def _received(self, event: Event, at: Instant) -> None:
        self._fleet.hear(event, at)
        uuid = event.uuid or ""
        attempt = self._open.get(uuid) or self._ended.get(uuid)
        if attempt is None:
            attempt = self._open_attempt(event)
        elif attempt.outcome is not None:
            attempt = self._received_after_end(attempt, event, at)
        elif (event.retries or 0) > attempt.retries:
            attempt = self._follow(attempt, event)
        elif attempt.started is not None or attempt.received is not None:
            attempt = self._received_again(attempt, event)
        elif event.name is not None:
            attempt.task = self._label(event)  # that which workers give it: `shadow` hides the name it was sent under
        self._learn(attempt, event)
        if attempt.received is None:
            attempt.received = event.timestamp
        if attempt.started is None:
            attempt.worker = event.hostname
        if attempt.queue == UNKNOWN:
            attempt.queue = self._only_queue(event.hostname) or self._queue_of(event.name or "") or UNKNOWN
        if event.root_id != uuid or attempt.root is not None:
            self._follow_workflow(attempt, event)
        self._tell(attempt, Received(attempt.task, attempt.queue, event.hostname))

    def _received_after_end(self, attempt: Attempt, event: Event, at: Instant) -> Attempt:
        """Take a message for a task that has ended: its next attempt, the same message once more, or late word of it.

        Where publishers do not tell, a task that was published again under its old id cannot be told from a
        message that was delivered again; it counts as a new attempt, lest its outcome be dropped.
        """
        if (event.retries or 0) > attempt.retries or not self._is_same_task(attempt, event):
            return self._follow(attempt, event)
        if attempt.received is None and attempt.ended is not None and at.monotonic - attempt.ended < _LATE:
            return attempt
        if attempt.outcome is not Outcome.IGNORED and (attempt.is_reopened or attempt.published is not None):
            self._redelivered(attempt, event)
        return self._follow(attempt, event) if attempt.is_reopened or attempt.published is None else attempt

    def _received_again(self, attempt: Attempt, event: Event) -> Attempt:
        """Take a message for a task that waits or runs: what it replaced itself with, or the same message once more."""
        follower = attempt.upcoming
        if self._is_same_task(attempt, event) and (follower is None or follower.task != attempt.task):
            self._redelivered(attempt, event)
            return attempt
        follower = self._follow(attempt, event)
        if follower.retries == attempt.retries:
            self._end(attempt, Outcome.IGNORED)
        return follower

    def _redelivered(self, attempt: Attempt, event: Event) -> None:
        attempt.redelivered = event.timestamp
        self._emit(Redelivered(attempt.task, attempt.queue, event.hostname))

    def _started(self, event: Event, at: Instant) -> None:
        worker = self._hear_instance(event, at)
        if worker.former_pid is None or not worker.is_former(event):
            worker.ledger.start(event.timestamp)
        uuid = event.uuid or ""
        attempt = self._open.get(uuid) or self._ended.get(uuid)
        if attempt is None:
            attempt = self._open_attempt(event)
        elif attempt.outcome is not None:
            if attempt.outcome is Outcome.RETRIED or attempt.is_reopened:
                attempt = self._follow(attempt, event)
        elif attempt.started is not None and attempt.upcoming is not None:
            attempt = attempt.upcoming
        if attempt.outcome is not None or (attempt.started is not None and not attempt.seeded):
            self._started_again(attempt, event, worker)
            return
        if attempt.seeded:
            attempt.seeded = False
            self._halt(attempt)  # it may have been another worker that listed it
        self._run(attempt, worker, event.timestamp)
        if attempt.root is not None:
            self._emit(_step(attempt))
        queue_wait = attempt.queue_wait()
        self._tell(attempt, Started(attempt.task, attempt.queue, event.hostname, attempt.worker_wait(), queue_wait))

    def _started_again(self, attempt: Attempt, event: Event, worker: Worker) -> None:
        """Take a second execution of an attempt: what goes on, if anything, is the latest."""
        self._emit(DuplicateExecution(attempt.task, attempt.queue, event.hostname))
        self._emit(Started(attempt.task, attempt.queue, event.hostname, None))
        if attempt.outcome is None:
            self._halt(attempt)
            self._run(attempt, worker, event.timestamp)

    def _run(self, attempt: Attempt, worker: Worker, started: float) -> None:
        attempt.started = started
        attempt.worker = worker.name
        attempt.era = self._era
        if attempt.queue == UNKNOWN:
            attempt.queue = self._only_queue(worker.name) or UNKNOWN
        worker.running.add(attempt)

    def _succeeded(self, event: Event, at: Instant) -> None:
        self._terminal(event, at, Outcome.SUCCEEDED)

    def _retried(self, event: Event, at: Instant) -> None:
        overtaking = self._open.get(event.uuid or "")
        if overtaking is not None and overtaking.overtaken:  # word of one before, which does not say of which
            overtaking.overtaken -= 1
            return
        attempt = self._terminal(event, at, Outcome.RETRIED)
        if self._chronicle is not None and attempt.outcome is Outcome.RETRIED:
            self._chronicle.fail(attempt, event, self._fleet.get(attempt.worker))

    def _cancelled(self, event: Event, at: Instant) -> None:
        self._terminal(event, at, Outcome.CANCELLED)

    def _revoked(self, event: Event, at: Instant) -> None:
        revoked = Outcome.EXPIRED if event.expired else Outcome.REVOKED
        self._terminal(event, at, Outcome.TERMINATED if event.terminated else revoked)

    def _rejected(self, event: Event, at: Instant) -> None:
        attempt = self._terminal(event, at, Outcome.REJECTED, final=not event.requeue)
        attempt.requeued = attempt.requeued or bool(event.requeue)  # a repetition may say so, too

    def _failed(self, event: Event, at: Instant) -> None:
        if is_reject(event.exception, event.traceback):
            self._terminal(event, at, Outcome.REJECTED)
            return
        failure = diagnose(event.exception, event.traceback)
        outcome = Outcome.FAILED
        if failure.cause is Cause.UNREGISTERED:
            outcome = Outcome.UNREGISTERED
            event.name = event.name or unregistered_name(event.exception)
        attempt = self._terminal(event, at, outcome)
        if attempt.outcome in _FAILURES and not attempt.failed:
            attempt.failed = True
            detail = self._detail_of(attempt.uuid, attempt.retries, event.exception, event.traceback)
            fact = Failed(attempt.task, attempt.queue, event.hostname, *failure, detail)
            if self._chronicle is not None:
                fact.trace_id = self._chronicle.fail(attempt, event, self._fleet.get(attempt.worker))
            self._tell(attempt, fact)

    def _terminal(self, event: Event, at: Instant, outcome: Outcome, *, final: bool = True) -> Attempt:
        """End the attempt that an event speaks of, once, and return it; the task goes on unless it is ``final``."""
        uuid = event.uuid or ""
        attempt = self._open.get(uuid) or self._ended.get(uuid)
        if attempt is None:
            attempt = self._open_attempt(event)
        elif attempt.outcome is not None:
            self._emit(DuplicateOutcome(attempt.task))
            return attempt
        follower = attempt.upcoming
        if follower is not None and outcome is not Outcome.RETRIED and follower.started is not None:
            attempt = follower
        if not attempt.worker:
            attempt.worker = event.hostname
        runtime = event.runtime
        if runtime is None or runtime < 0.0:
            runtime = on_one_host(attempt.started, event.timestamp) if attempt.worker == event.hostname else None
        attempt.ended = at.monotonic
        attempt.stopped = event.timestamp
        attempt.requeued = not final
        if final and outcome not in _NOT_FINAL:
            attempt.finished = event.timestamp
        self._end(attempt, outcome, runtime)
        return attempt

    def _end(self, attempt: Attempt, outcome: Outcome, runtime: float | None = None) -> None:
        """Give an attempt its outcome."""
        attempt.outcome = outcome
        if attempt.root is not None:
            self._emit(_step(attempt))
        worker = self._fleet.get(attempt.worker)
        if worker is not None:
            worker.running.discard(attempt)
        total = between_hosts(attempt.first_published, attempt.finished)
        fact = Ended(attempt.task, attempt.queue, attempt.worker, outcome, runtime, total)
        if self._chronicle is not None:
            fact.trace_id = self._chronicle.end(attempt, runtime, worker)
        self._tell(attempt, fact)
        if self._open.get(attempt.uuid) is attempt:
            self._close(attempt)

    def _follow_workflow(self, attempt: Attempt, event: Event) -> None:
        """Tell of a task that belongs to a workflow, and of the first one of that when there is a second.

        Publishers before message protocol 2 name no root. A retry says that it was published by its own task.
        """
        if event.root_id is None:
            return
        if event.root_id != attempt.uuid and attempt.root is None:
            root = self._open.get(event.root_id) or self._ended.get(event.root_id)
            if root is not None and root.root is None:
                root.root = event.root_id
                self._emit(_step(root))
            attempt.root = event.root_id
        if event.parent_id != attempt.uuid:
            attempt.parent = event.parent_id
            if self._chronicle is not None and event.parent_id is not None:
                self._chronicle.publish(attempt, event.parent_id)
        self._emit(_step(attempt))

    def _halt(self, attempt: Attempt) -> None:
        """Take an attempt from those that execute."""
        worker = self._fleet.get(attempt.worker)
        if worker is not None:
            worker.running.discard(attempt)

    def _close(self, attempt: Attempt) -> None:
        """Move an ended attempt aside and put the next one, if announced, in its place."""
        del self._open[attempt.uuid]
        follower, attempt.upcoming = attempt.upcoming, None
        if follower is not None and follower.first_published is None:
            follower.first_published = attempt.first_published
        if follower is None or follower.outcome is not None:
            self._ended[attempt.uuid] = follower or attempt
        else:
            self._open[attempt.uuid] = follower

    def _custom(self, event: Event, _at: Instant) -> None:
        """Count an event of the application's own; it takes its own way, and may overtake those that name its task."""
        if event.uuid is None:
            return
        if self._shard is not None and self._shard.follows(event):
            self.event_counts[event.type] -= 1
            return
        attempt = self._find(event)
        if attempt is not None:
            self._emit(CustomEvent(attempt.task, attempt.queue, event.hostname, event.type))
        else:
            self._early.append((event.uuid, CustomEvent(UNKNOWN, UNKNOWN, event.hostname, event.type)))

    def _release_early(self) -> None:
        """Count the custom events that have waited for the name of their task, known by now or not."""
        for uuid, fact in self._early_before:
            attempt = self._open.get(uuid) or self._ended.get(uuid)
            if attempt is not None:
                fact.task, fact.queue = attempt.task, attempt.queue
            self._emit(fact)
        self._early_before, self._early = self._early, []

    def _tell(self, attempt: Attempt, fact: TaskFact) -> None:
        """Emit a fact, a moment later if its queue is not known but publishers tell it: ``task-sent`` may be late."""
        if attempt.foreign:
            return
        if attempt.queue != UNKNOWN or not self._patience:
            self._emit(fact)
        elif attempt.held is None:
            attempt.held = [fact]
            self._holding.append(attempt)
        else:
            attempt.held.append(fact)

    def _release(self, attempt: Attempt) -> None:
        held, attempt.held = attempt.held, None
        for fact in held or ():
            fact.task, fact.queue = attempt.task, attempt.queue
            self._emit(fact)

    def _nameless(self, _event: object, _at: Instant) -> None:
        self._emit(EventMalformed(Malformed.MISSING_FIELD))

    # -- finding and keeping attempts

    def _find(self, event: Event) -> Attempt | None:
        uuid = event.uuid or ""
        return self._open.get(uuid) or self._ended.get(uuid)

    def _open_attempt(self, event: Event) -> Attempt:
        """Keep a new attempt for an id that is not known, or no more."""
        if len(self._open) + len(self._ended) >= self._max_tasks:
            self._evict()
        attempt = self._attempt(event)
        self._open[attempt.uuid] = attempt
        return attempt

    def _attempt(self, event: Event) -> Attempt:
        attempt = Attempt(event.uuid or "", self._label(event), event.queue or UNKNOWN, event.retries or 0)
        attempt.foreign = self._shard is not None and self._shard.follows(event)
        return attempt

    def _follow(self, attempt: Attempt, event: Event) -> Attempt:
        """Return the attempt after this one: announced already, or new under the same id."""
        follower = attempt.upcoming
        if follower is not None and (event.retries or 0) <= follower.retries:
            return follower
        if follower is not None:
            follower.overtaken = attempt.overtaken + 1
            self._end(attempt, Outcome.RETRIED)
            return self._follow(follower, event)
        follower = self._attempt(event)
        follower.turn, follower.root, follower.parent = attempt.turn + 1, attempt.root, attempt.parent
        if event.name == CHORD_UNLOCK:
            follower.root = follower.root or follower.uuid
            self._emit(Polled(follower.uuid, follower.root, None, follower.retries))
        if event.name is None:
            follower.task, follower.queue = attempt.task, attempt.queue
            follower.retries = attempt.retries + (attempt.outcome is Outcome.RETRIED)
        if self._chronicle is not None:
            self._chronicle.follow(attempt, follower)
        if attempt.outcome is None:
            follower.first_published = attempt.first_published
            attempt.upcoming = follower
        else:
            if attempt.outcome is Outcome.RETRIED or attempt.is_reopened:
                follower.first_published = attempt.first_published
            if follower.queue == UNKNOWN and follower.task == attempt.task and attempt.is_delivered_again:
                follower.queue = attempt.queue
            self._ended.pop(attempt.uuid, None)
            self._open[attempt.uuid] = follower
        return follower

    def _learn(self, attempt: Attempt, event: Event) -> None:
        """Take over what an earlier event of this attempt did not say."""
        if attempt.task == UNKNOWN and event.name:
            attempt.task = self._label(event)
        if attempt.queue == UNKNOWN and event.queue:
            attempt.queue = event.queue
        if event.eta is not None:
            attempt.eta = unix_time(event.eta)

    def _evict(self) -> None:
        """Let go of a twentieth of what is kept: what ended first, then what waits, then what runs."""
        quota = max(1, self._max_tasks // 20)
        for uuid in list(islice(self._ended, quota)):
            del self._ended[uuid]
            quota -= 1
        if not quota:
            return
        waiting = (uuid for uuid, attempt in self._open.items() if attempt.started is None)
        running = (uuid for uuid, attempt in self._open.items() if attempt.started is not None)
        evicted = list(islice(chain(waiting, running), quota))
        for uuid in evicted:
            attempt = self._open.pop(uuid)
            self._halt(attempt)
            if attempt.upcoming is not None:
                self._halt(attempt.upcoming)
                attempt.upcoming = None  # it may know the attempt before: of what knows each other nothing is freed
        self._emit(TaskEvicted(len(evicted)))

    def _label(self, event: Event) -> str:
        return self._label_of(event.name) if event.name else UNKNOWN

    def _is_same_task(self, attempt: Attempt, event: Event) -> bool:
        return attempt.task in {UNKNOWN, self._label(event)}

    def _only_queue(self, hostname: str) -> str | None:
        """Return the queue of a worker that consumes just one."""
        worker = self._fleet.get(hostname)
        queues = worker.queues if worker is not None else None
        return queues[0] if queues is not None and len(queues) == 1 else None

    # -- what workers say of themselves

    def seed(self, snapshot: Snapshot, at: Instant) -> None:
        """Take in what a worker says it executes and holds: what we never saw, and what it no longer runs."""
        worker = self._fleet.meet(snapshot.worker, at)
        worker.queues = snapshot.queues if snapshot.queues is not None else worker.queues
        self._fleet.identify(worker, pool=snapshot.pool)
        for item in snapshot.active or ():
            if not self._is_known(item.uuid):
                continue
            attempt = self._seeded(item, worker)
            if item.started is not None and _may_be_start(attempt, item.started):
                attempt.seeded = True
                self._run(attempt, worker, item.started)
        for item in snapshot.reserved:
            if self._is_known(item.uuid):
                self._seeded(item, worker)
        if snapshot.active is not None:
            self._compare(worker, snapshot.active, snapshot.asked - worker.skew)

    def _seeded(self, item: RunningTask, worker: Worker) -> Attempt:
        attempt = self._open.get(item.uuid) or self._ended.get(item.uuid)
        if attempt is None:
            if len(self) >= self._max_tasks:
                self._evict()
            queue = item.queue or self._only_queue(worker.name) or self._queue_of(item.name) or UNKNOWN
            attempt = Attempt(item.uuid, self._label_of(item.name), queue, worker=worker.name)
            self._open[item.uuid] = attempt
        return attempt

    def _compare(self, worker: Worker, active: tuple[RunningTask, ...], asked: float) -> None:
        """Note which attempts are not listed that we believe to run; their last events may be on their way.

        ``asked`` is by the worker's clock.
        """
        listed = {item.uuid for item in active}
        self._end_elsewhere(worker, worker.others - listed)
        worker.absent = {
            attempt.uuid: asked
            for attempt in worker.running
            if attempt.uuid not in listed and (attempt.started or 0.0) < asked - _SETTLED
        }

    def suspects(self) -> list[str]:
        """Return the workers that have said for a while that they run fewer tasks than we believe."""
        return [worker.name for worker in self._fleet if worker.surplus >= _SURPLUS_HEARTBEATS]

    def _hear_instance(self, event: Event | Overheard, at: Instant) -> Worker:
        """Return the worker instance that sent this, ending what ran in the one before."""
        worker = self._fleet.get(event.hostname)
        if worker is not None and event.pid == worker.ledger.pid and event.processed is None:
            worker.heard = at.monotonic
            return worker
        worker = self._fleet.hear(event, at)
        if self._fleet.is_new_instance(worker, event, at):
            self._vanish(worker)
            worker = self._fleet.restart(worker, event, at)
        return worker

    def _heartbeat(self, event: Event, at: Instant) -> None:
        self._count_own(event)
        worker = self._hear_instance(event, at)
        if not worker.is_former(event):
            self._settle(worker, event)
            self._fleet.beat(worker, event, at)

    def _count_own(self, event: Event) -> None:
        """Count an event of a worker only if that is this shard's."""
        if self._shard is not None and not self._shard.owns(event.hostname):
            self.event_counts[event.type] -= 1

    def _farewell(self, event: Event, at: Instant) -> None:
        self._count_own(event)
        worker = self._fleet.hear(event, at)
        if not worker.is_former(event):
            self._fleet.bid_farewell(worker, event.active)

    def _settle(self, worker: Worker, event: Event) -> None:
        """End the attempts that this worker does not run any more though no event said so."""
        if event.active is None:
            return
        idle_at = worker.idle_at
        for attempt in list(worker.running):
            missed = worker.absent.get(attempt.uuid)
            if (idle_at is not None and (attempt.started or 0.0) <= idle_at) or (
                missed is not None and event.timestamp > missed + _SETTLED
            ):
                self._end(attempt, self._silent_outcome(attempt, worker))
        worker.idle_at = event.timestamp if event.active == 0 else None
        if event.active == 0:
            self._end_elsewhere(worker, worker.others.copy())
        executing = len(worker.running) + len(worker.others)
        worker.surplus = worker.surplus + 1 if executing > event.active else 0

    def _silent_outcome(self, attempt: Attempt, worker: Worker) -> Outcome:
        """Name the end of which nothing was said.

        An announced next attempt means it was retried. A worker of Celery 5.7 on is silent only on ``Ignore``,
        if no event can have been lost; older ones also when a child exits by ``sys.exit``.
        """
        if attempt.upcoming is not None and attempt.upcoming.retries > attempt.retries:
            return Outcome.RETRIED
        all_seen = attempt.era == self._era and (attempt.started or 0.0) > worker.lossy_until and worker.ledger.complete
        return Outcome.IGNORED if worker.announces_exits and all_seen else Outcome.VANISHED

    def _vanish(self, worker: Worker) -> None:
        for attempt in list(worker.running):
            self._end(attempt, Outcome.VANISHED)
        worker.running.clear()
        self._end_elsewhere(worker, worker.others.copy())


def _may_be_start(attempt: Attempt, started: float) -> bool:
    """Say whether what a worker lists as started then may be this attempt, rather than the one before under its id."""
    since = attempt.received
    if since is None and attempt.turn:
        since = attempt.published
    return attempt.outcome is None and attempt.started is None and (since is None or started >= since)


def _step(attempt: Attempt) -> Step:
    """Return what is known of an attempt of a task of a workflow."""
    goes_on = attempt.outcome is None or attempt.outcome in _NOT_FINAL or attempt.requeued
    return Step(
        task=attempt.task,
        queue=attempt.queue,
        worker=attempt.worker,
        uuid=attempt.uuid,
        root=attempt.root or attempt.uuid,
        parent=attempt.parent,
        turn=attempt.turn,
        retries=attempt.retries,
        published=attempt.published,
        eta=attempt.eta,
        received=attempt.received,
        started=attempt.started,
        ended=attempt.stopped,
        outcome=attempt.outcome,
        open=goes_on,
    )
