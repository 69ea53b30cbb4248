"""Report → Fact: what instrumented processes tell, counted once.

The counterpart of the tracker for workers that tell all of an attempt at once: nothing has to be joined, and no end
has to be guessed. Two things remain. An attempt may be reported twice, by the child that executed it and by the main
process that killed it: the first report is believed, and another delivery of the message is told from it by the time
of its receipt. And what runs for long is known from listings until its end is reported.

Pure: the clock is an argument. Bounded: the last ends are remembered, at most ``max_tasks`` and at least half as many,
and a worker runs what its pool holds.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_observe.attempt import between_hosts, on_one_host, unix_time, waited
from celery_observe.beat import Beats, EntrySucceeded, ailments
from celery_observe.cause import UNKNOWN
from celery_observe.event import Event
from celery_observe.fact import (
    Blocked,
    Cause,
    ChildrenExited,
    DuplicateExecution,
    DuplicateOutcome,
    Ended,
    Fact,
    Failed,
    InState,
    MessageRefused,
    Outcome,
    PluginRan,
    Prioritised,
    Published,
    PublishFailed,
    PublishTimed,
    Received,
    Redelivered,
    ReportsLost,
    Started,
    TaskLimited,
    Used,
    WorkerReported,
    WorkerStopped,
)
from celery_observe.progress import seconds_blocked, seconds_by_state
from celery_observe.report import (
    AnyReport,
    Arrival,
    Beat,
    ChordFailure,
    Clock,
    Due,
    Entries,
    Execution,
    Labelling,
    Listing,
    Loss,
    Placement,
    Progress,
    Publication,
    Reception,
    Refusal,
    Running,
    Sent,
)
from celery_observe.steps import Steps
from celery_observe.tracker import Running as Executing

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from celery_observe.fleet import Fleet, Instant, Worker

_UNMISSED = 2
"""Beats in a row that must leave out an attempt that runs before it has vanished: its end may be on its way."""

_PASSED_ON = frozenset({Outcome.IGNORED, Outcome.REPLACED})
"""Ends after which another task may go on under the same id and number of retries."""
_NOT_FINAL = _PASSED_ON | {Outcome.RETRIED, Outcome.CANCELLED}

_Key = tuple[str, int]
"""A task's id and number of retries."""


class _End(NamedTuple):
    """Which delivery of an attempt's message ended, when, and whether the message went back to the queue."""

    received: float | None
    at: float
    requeued: bool


class _Executing:
    """An attempt that executes, what it has told of itself, and how many beats have not listed it."""

    __slots__ = ("attempt", "labels", "missed", "progress", "worker")

    def __init__(self, attempt: Running, worker: str) -> None:
        self.attempt = attempt
        self.worker = worker
        self.missed = 0
        self.progress: Progress | None = None
        self.labels: dict[str, str] | None = None


class Condition(NamedTuple):
    """What a worker last said of itself, and when by our monotonic clock."""

    at: float
    troubles: tuple[str, ...]
    ailments: tuple[str, ...]


class Journal:
    """Takes reports in and hands facts to ``emit``.

    ``label_of`` maps a task's name to that it is counted under; ``divide`` is told each end with its users' labels.
    ``followed`` are the ids of the first tasks of workflows that are known.
    """

    def __init__(
        self,
        emit: Callable[[Fact], None],
        fleet: Fleet,
        *,
        label_of: Callable[[str], str] = lambda name: name,
        divide: Callable[[Ended, Mapping[str, str] | None], None] = lambda _end, _labels: None,
        followed: Container[str] = frozenset(),
        max_tasks: int = 40_000,
    ) -> None:
        self._emit = emit
        self._fleet = fleet
        self._label_of = label_of
        self._divide = divide
        self._max_tasks = max_tasks
        self._executing: dict[_Key, _Executing] = {}
        self._listed: dict[str, dict[_Key, Running]] = {}
        # Two dictionaries, of which the older is forgotten as a whole: to delete the first key of one, again and again,
        # has Python look past all that were deleted before it.
        self._ended: dict[_Key, _End] = {}
        self._ended_before: dict[_Key, _End] = {}
        self._limited: dict[str, set[str]] = {}
        self._stopped: set[str] = set()
        self.conditions: dict[str, Condition] = {}
        """Of each worker and beat that is there, or should be."""
        self.event_counts: Counter[str] = Counter()
        """Reports handled by type; whoever collects them clears it."""
        self._beats = Beats(emit)
        self._steps = Steps(emit, label_of, followed)
        handlers: dict[type[AnyReport], Callable[[Any, Instant], None]] = {
            Reception: self._received,
            Placement: lambda report, _at: self._steps.placed(report),
            ChordFailure: lambda report, _at: self._steps.broken(report),
            Execution: self._executed,
            Progress: self._progressed,
            Labelling: self._labelled,
            Publication: self._published,
            Listing: self._running,
            Beat: self._beat,
            Clock: self._clock,
            Entries: lambda report, _at: self._beats.know(report),
            Due: lambda report, _at: self._beats.due(report),
            Sent: lambda report, _at: self._beats.sent(report),
            Refusal: self._refused,
            Loss: self._lost,
        }
        self._handlers = {kind: (str(kind.__struct_config__.tag), handler) for kind, handler in handlers.items()}

    def __len__(self) -> int:
        """Return how many attempts are kept, ended ones included."""
        return len(self._executing) + len(self._ended) + len(self._ended_before)

    def handle(self, report: AnyReport, at: Instant) -> None:
        """Take in one report that was read at this instant."""
        kind, handler = self._handlers[type(report)]
        self.event_counts[kind] += 1
        handler(report, at)

    def tick(self, at: Instant) -> None:
        """Give up on workers that are gone, and on what ran there; and on beats."""
        for beat in self._beats.forget(at.monotonic):
            self.conditions.pop(beat, None)
        for worker in self._fleet.silent(at):
            self._vanish(worker.name)
            self.conditions.pop(worker.name, None)
            self._stopped.discard(worker.name)
            self._fleet.forget(worker)

    def running(self) -> dict[tuple[str, str], Executing]:
        """Return what executes now, by task and queue."""
        found: dict[tuple[str, str], Executing] = {}
        for each in self._executing.values():
            attempt = each.attempt
            key = self._label_of(attempt.name), attempt.queue or UNKNOWN
            entry = found.setdefault(key, Executing(0, attempt.started))
            entry.count += 1
            entry.oldest = min(entry.oldest, attempt.started)
        return found

    def progress(self) -> Iterator[tuple[str, Progress]]:
        """Yield what the attempts that execute now have told of themselves, each with its task."""
        for each in self._executing.values():
            if each.progress is not None:
                yield self._label_of(each.attempt.name), each.progress

    # -- tasks

    def _published(self, report: Publication, _at: Instant) -> None:
        task, queue = self._label_of(report.name), report.queue or UNKNOWN
        if report.exception is not None:
            self._emit(PublishFailed(task, queue, report.hostname, report.exception))
            return
        self._steps.published(report)
        self._emit(Published(task, queue, report.hostname))
        if report.seconds is not None:
            self._emit(PublishTimed(task, queue, report.hostname, report.seconds))

    def _received(self, report: Reception, _at: Instant) -> None:
        for each in report.arrivals:
            for fact in self._facts_of(each, report.hostname):
                for _ in range(each.count):
                    self._emit(fact)

    def _facts_of(self, arrival: Arrival, worker: str) -> Iterator[Fact]:
        task, queue = self._label_of(arrival.name), arrival.queue or UNKNOWN
        yield Received(task, queue, worker)
        if arrival.redelivered:
            yield Redelivered(task, queue, worker)
        if arrival.priority is not None:
            yield Prioritised(queue, str(arrival.priority))

    def _executed(self, report: Execution, at: Instant) -> None:
        key = report.uuid, report.retries
        before = self._end_of(key)
        told = before is not None and report.received == before.received
        executing = self._executing.pop(key, None)
        if executing is None and not told:
            self._begin(report, at, report.hostname)
        if before is not None and (told or self._is_duplicate(report, before)):
            self._emit(DuplicateOutcome(self._label_of(report.name)))
            return
        if report.outcome not in _PASSED_ON:
            self._remember(key, _End(report.received, report.timestamp, report.requeued))
        self._steps.executed(report)
        self._tell_of_itself(self._end(report), report, executing)

    def _is_duplicate(self, report: Execution, before: _End) -> bool:
        """Count a second execution as such, and say whether it began before the first had ended."""
        if before.requeued or report.outcome in _PASSED_ON:
            return False
        self._emit(DuplicateExecution(self._label_of(report.name), report.queue or UNKNOWN, report.hostname))
        return (report.started or report.timestamp) <= before.at

    def _begin(self, attempt: Execution | Running, at: Instant, worker: str) -> None:
        """Count the start of an attempt, and its waits."""
        if attempt.started is None:
            return
        started = attempt.started
        ledger = self._fleet.meet(worker, at).ledger
        # What the main process had accepted before its first beat was told or listed by then: this it accepted later,
        # though the child may have started it before.
        ledger.start(started if started > ledger.opened else math.nextafter(ledger.opened, math.inf))
        eta = unix_time(attempt.eta) if attempt.eta else None
        waits = waited(attempt.received, eta, started), waited(attempt.published, eta, started)
        self._emit(Started(self._label_of(attempt.name), attempt.queue or UNKNOWN, worker, *waits))

    def _end(self, report: Execution) -> Ended:
        task, queue, worker = self._label_of(report.name), report.queue or UNKNOWN, report.hostname
        runtime = report.runtime
        if runtime is None:
            runtime = on_one_host(report.started, report.timestamp)
        total = None
        if report.outcome not in _NOT_FINAL and not report.requeued:
            first = report.first_published if report.retries else report.published
            total = between_hosts(first, report.timestamp)
        end = Ended(task, queue, worker, report.outcome, runtime, total, report.trace_id)
        self._emit(end)
        if report.entry is not None:
            self._emit(EntrySucceeded(report.entry, report.timestamp))
        if report.exception is not None:
            cause = report.cause or Cause.EXCEPTION
            self._emit(Failed(task, queue, worker, report.exception, cause, report.detail, report.trace_id))
        if report.cpu is not None or report.memory is not None:
            self._emit(Used(task, queue, worker, report.cpu, report.memory))
        return end

    def _tell_of_itself(self, end: Ended, report: Execution, executing: _Executing | None) -> None:
        """Tell what the attempt, or else its user's callable, has said: at its end, or before it was killed."""
        told = executing.progress if executing is not None else None
        for state, seconds in seconds_by_state(report, told).items():
            self._emit(InState(end.task, end.queue, end.worker, state, seconds))
        blocked = seconds_blocked(report, told)
        if blocked is not None:
            self._emit(Blocked(end.task, end.queue, end.worker, blocked))
        self._divide(end, report.labels or (executing.labels if executing is not None else None))

    def _progressed(self, report: Progress, at: Instant) -> None:
        executing = self._meet(report.attempt, at, report.hostname)
        if executing is not None:
            executing.progress = report

    def _labelled(self, report: Labelling, at: Instant) -> None:
        self._emit(PluginRan("labels", int(not report.failed), int(report.failed), report.seconds))
        executing = self._meet(report.attempt, at, report.hostname)
        if executing is not None:
            executing.labels = report.labels

    def _meet(self, attempt: Running, at: Instant, worker: str) -> _Executing | None:
        """Return an attempt that executes, begun if it was not known yet; None if it has ended."""
        key = attempt.uuid, attempt.retries
        if key not in self._executing and not self._has_ended(key, attempt):
            self._executing[key] = _Executing(attempt, worker)
            self._steps.started(attempt, worker)
            self._begin(attempt, at, worker)
        return self._executing.get(key)

    def _remember(self, key: _Key, end: _End) -> None:
        if len(self._ended) >= self._max_tasks // 2:
            self._ended_before, self._ended = self._ended, {}
        self._ended[key] = end

    def _end_of(self, key: _Key) -> _End | None:
        return self._ended.get(key) or self._ended_before.get(key)

    # -- workers

    def _running(self, report: Listing, _at: Instant) -> None:
        listed = self._listed.setdefault(report.hostname, {})
        listed.update({(each.uuid, each.retries): each for each in report.running})

    def _beat(self, report: Beat, at: Instant) -> None:
        event = _heartbeat(report)
        worker = self._fleet.hear(event, at)
        if self._fleet.is_new_instance(worker, event, at):
            self._vanish(worker.name)
            worker = self._fleet.restart(worker, event, at)
        worker.queues = tuple(report.queues)
        self.conditions[worker.name] = Condition(at.monotonic, tuple(report.troubles), tuple(report.ailments))
        overtaken = min(worker.ledger.ahead, report.slots or 0)
        self._compare(worker, report, at)
        self._fleet.beat(worker, event, at, overtaken)
        self._tell(report)
        if report.leaving:
            del self.conditions[worker.name]
            self._vanish(worker.name)
            self._fleet.bid_farewell(worker)

    def _compare(self, worker: Worker, report: Beat, at: Instant) -> None:
        """Begin what a complete listing names, and give up what it has left out too often."""
        listed = self._listed.pop(worker.name, {})
        if len(listed) < report.listed:
            return
        for attempt in listed.values():
            self._meet(attempt, at, worker.name)
        for key, each in list(self._executing.items()):
            each.missed = 0 if key in listed else each.missed + (each.worker == worker.name)
            if each.missed >= _UNMISSED:
                self._vanish_one(key)

    def _has_ended(self, key: _Key, attempt: Running) -> bool:
        """Say whether a listing was overtaken by the end of what it names."""
        end = self._end_of(key)
        return end is not None and end.received == attempt.received

    def _tell(self, report: Beat) -> None:
        worker = report.hostname
        if report.stopped_by and worker not in self._stopped:
            self._emit(WorkerStopped(worker, report.stopped_by))
        (self._stopped.add if report.stopped_by else self._stopped.discard)(worker)
        self._emit(
            WorkerReported(
                worker,
                report.reserved,
                report.scheduled,
                report.prefetch,
                report.slots,
                int(report.connected),
                report.restarts,
                report.spawned,
                report.memory,
                report.children_memory,
            )
        )
        limited = {limit.name for limit in report.limits}
        for limit in report.limits:
            self._emit(TaskLimited(worker, self._label_of(limit.name), limit.rate, limit.waiting))
        for name in self._limited.get(worker, set()) - limited:
            self._emit(TaskLimited(worker, self._label_of(name), math.inf, 0))
        self._limited[worker] = limited
        for reason, count in report.exits.items():
            self._emit(ChildrenExited(worker, reason, count))

    def _vanish(self, worker: str) -> None:
        """End what a worker executed that is gone."""
        for key in [key for key, each in self._executing.items() if each.worker == worker]:
            self._vanish_one(key)
        self._listed.pop(worker, None)
        self._limited.pop(worker, None)

    def _vanish_one(self, key: _Key) -> None:
        each = self._executing.pop(key)
        attempt = each.attempt
        self._remember(key, _End(attempt.received, attempt.started, requeued=True))
        self._steps.started(attempt, each.worker, vanished=True)
        task, queue = self._label_of(attempt.name), attempt.queue or UNKNOWN
        end = Ended(task, queue, each.worker, Outcome.VANISHED, None)
        self._emit(end)
        self._divide(end, each.labels)

    def _clock(self, report: Clock, at: Instant) -> None:
        self._beats.hear(report, at.monotonic)
        if report.leaving:
            self.conditions.pop(report.hostname, None)
        else:
            self.conditions[report.hostname] = Condition(at.monotonic, (), tuple(ailments(report)))

    def _refused(self, report: Refusal, _at: Instant) -> None:
        self._emit(MessageRefused(report.hostname))

    def _lost(self, report: Loss, _at: Instant) -> None:
        self._emit(ReportsLost(report.hostname, report.dropped, report.errors))


def _heartbeat(beat: Beat) -> Event:
    return Event(
        type="worker-heartbeat",
        timestamp=beat.timestamp,
        hostname=beat.hostname,
        pid=beat.pid,
        freq=1.0,
        active=beat.active,
        processed=beat.processed,
        loadavg=beat.loadavg or None,
        sw_ver=beat.version or None,
    )
