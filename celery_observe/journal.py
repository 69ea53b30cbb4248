"""Report → Fact: what instrumented processes tell, counted once.

The counterpart of the tracker for workers that tell all of an attempt at once: nothing has to be joined, and no end
has to be guessed. Two things remain. An attempt may be reported twice, by the child that executed it and by the main
process that killed it: the first report is believed, and another delivery of the message is told from it by the time
of its receipt. And what runs for long is known from listings until its end is reported. Most attempts need none of
this, and are told together (``successes``).

Pure: the clock is an argument. Bounded: the last ends are remembered, at most ``max_tasks`` and at least half as many,
and a worker runs what its pool holds.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args

from celery_observe.attempt import between_hosts, on_one_host, unix_time, waited
from celery_observe.beat import Beats, EntrySucceeded, ailments
from celery_observe.cause import UNKNOWN
from celery_observe.ends import End, Ends
from celery_observe.fact import (
    Blocked,
    Cause,
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
    Used,
    alike,
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
    Success,
    whole,
)
from celery_observe.steps import Steps
from celery_observe.successes import Successes, least_start
from celery_observe.tracker import Running as Executing
from celery_observe.worker_beats import WorkerBeats, heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from celery_observe.fact import Each
    from celery_observe.fleet import Fleet, Instant, Worker

_UNMISSED = 2
"""Beats in a row that must leave out an attempt that runs before it has vanished: its end may be on its way."""

_PASSED_ON = frozenset({Outcome.IGNORED, Outcome.REPLACED})
"""Ends after which another task may go on under the same id and number of retries."""
_NOT_FINAL = _PASSED_ON | {Outcome.RETRIED, Outcome.CANCELLED}

_TAGS: dict[type, str] = {kind: str(kind.__struct_config__.tag) for kind in get_args(AnyReport)}
"""What each kind of report is called."""

_Key = str | tuple[str, int]
"""A task's id, and the number of its retries if there were any: ids alone are compared faster."""


def _key_of(attempt: Execution | Running) -> _Key:
    return (attempt.uuid, attempt.retries) if attempt.retries else attempt.uuid


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
    """Takes reports in and hands facts to ``emit``, those that are alike to ``emit_alike`` if given.

    ``label_of`` maps a task's name to that it is counted under; ``divide``, if given, is told each end with its users'
    labels.
    ``followed`` are the ids of the first tasks of workflows that are known.
    """

    def __init__(
        self,
        emit: Callable[[Fact], None],
        fleet: Fleet,
        *,
        emit_alike: Callable[[Fact, int, Each], None] | None = None,
        label_of: Callable[[str], str] = lambda name: name,
        divide: Callable[[Ended, Mapping[str, str] | None], None] | None = None,
        followed: Container[str] = frozenset(),
        max_tasks: int = 40_000,
    ) -> None:
        self._emit = emit
        self._emit_alike = emit_alike or _one_by_one(emit)
        self._fleet = fleet
        self._label_of = label_of
        self._divide = divide
        self._executing: dict[_Key, _Executing] = {}
        self._listed: dict[str, dict[_Key, Running]] = {}
        self._ends: Ends[_Key] = Ends(max_tasks // 2)
        self._is_followed = followed.__contains__  # which costs half as much as `in`
        self._successes = Successes(emit, self._emit_alike, fleet, label_of)
        self._workers = WorkerBeats(emit, label_of)
        self.conditions: dict[str, Condition] = {}
        """Of each worker and beat that is there, or should be."""
        self.event_counts: Counter[str] = Counter()
        """Reports handled by type; whoever collects them clears it."""
        self._beats = Beats(emit)
        self._steps = Steps(emit, label_of, followed)
        self._handlers: dict[type[AnyReport], Callable[[Any, Instant], None]] = {
            Reception: self._received,
            Placement: lambda report, _at: self._steps.placed(report),
            ChordFailure: lambda report, _at: self._steps.broken(report),
            Success: lambda report, at: self._executed(whole(report), at),
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

    def __len__(self) -> int:
        """Return how many attempts are kept, ended ones included."""
        return len(self._executing) + len(self._ends)

    def handle(self, reports: list[AnyReport], at: Instant) -> None:
        """Take in reports that were read at this instant."""
        for kind, count in Counter(map(type, reports)).items():
            self.event_counts[_TAGS[kind]] += count
        for kind, run in groupby(reports, type):
            if kind is Success and self._divide is None:
                self._succeeded(cast("list[Success]", [*run]), at)
            else:
                handle = self._handlers[kind]
                for report in run:
                    handle(report, at)

    def tick(self, at: Instant) -> None:
        """Give up on workers that are gone, and on what ran there; and on beats."""
        for beat in self._beats.forget(at.monotonic):
            self.conditions.pop(beat, None)
        for worker in self._fleet.silent(at):
            self._vanish(worker.name)
            self.conditions.pop(worker.name, None)
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
                self._emit_alike(fact, each.count, {})

    def _facts_of(self, arrival: Arrival, worker: str) -> Iterator[Fact]:
        task, queue = self._label_of(arrival.name), arrival.queue or UNKNOWN
        yield Received(task, queue, worker)
        if arrival.redelivered:
            yield Redelivered(task, queue, worker)
        if arrival.priority is not None:
            yield Prioritised(queue, str(arrival.priority))

    def _succeeded(self, reports: list[Success], at: Instant) -> None:
        """Tell of attempts together; but for those, found by halving, of which something is known already."""
        if self._are_new(reports):
            self._ends.remember_all(
                [(each.uuid, End(each.received, each.timestamp, requeued=False)) for each in reports]
            )
            self._successes.tell(reports, at)
        elif len(reports) == 1:
            self._executed(whole(reports[0]), at)
        else:
            middle = len(reports) // 2
            self._succeeded(reports[:middle], at)
            self._succeeded(reports[middle:], at)

    def _are_new(self, reports: list[Success]) -> bool:
        uuids = {each.uuid for each in reports}
        known = self._ends.knows_any(uuids) or not self._executing.keys().isdisjoint(uuids)
        return len(uuids) == len(reports) and not (known or any(map(self._is_followed, uuids)))

    def _executed(self, report: Execution, at: Instant) -> None:
        task, queue = self._label_of(report.name), report.queue or UNKNOWN
        key = (report.uuid, report.retries) if report.retries else report.uuid
        before = self._ends.get(key)
        told = before is not None and report.received == before.received
        executing = self._executing.pop(key, None) if self._executing else None
        if executing is None and not told:
            self._begin(report, task, queue, report.hostname, at)
        if before is not None and (told or self._is_duplicate(report, before)):
            self._emit(DuplicateOutcome(task))
            return
        if report.outcome not in _PASSED_ON:
            self._ends.remember(key, End(report.received, report.timestamp, report.requeued))
        self._steps.executed(report)
        end = self._end(report, task, queue)
        if executing is not None or report.states is not None or report.blocked is not None:
            self._tell_of_itself(end, report, executing)
        if self._divide is not None:
            self._divide(end, report.labels or (executing.labels if executing is not None else None))

    def _is_duplicate(self, report: Execution, before: End) -> bool:
        """Count a second execution as such, and say whether it began before the first had ended."""
        if before.requeued or report.outcome in _PASSED_ON:
            return False
        self._emit(DuplicateExecution(self._label_of(report.name), report.queue or UNKNOWN, report.hostname))
        return (report.started or report.timestamp) <= before.at

    def _begin(self, attempt: Execution | Running, task: str, queue: str, worker: str, at: Instant) -> None:
        """Count the start of an attempt, and its waits."""
        started = attempt.started
        if started is None:
            return
        ledger = self._fleet.meet(worker, at).ledger
        ledger.start(max(started, least_start(ledger)))
        if attempt.eta:
            eta = unix_time(attempt.eta)
            worker_wait, queue_wait = waited(attempt.received, eta, started), waited(attempt.published, eta, started)
        else:
            worker_wait = between_hosts(attempt.received, started)
            queue_wait = between_hosts(attempt.published, started)
        self._emit(Started(task, queue, worker, worker_wait, queue_wait))

    def _end(self, report: Execution, task: str, queue: str) -> Ended:
        worker, outcome, runtime, total = report.hostname, report.outcome, report.runtime, None
        if runtime is None:
            runtime = on_one_host(report.started, report.timestamp)
        if outcome not in _NOT_FINAL and not report.requeued:
            first = report.first_published if report.retries else report.published
            total = between_hosts(first, report.timestamp)
        end = Ended(task, queue, worker, outcome, runtime, total, report.trace_id)
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
        """Tell what the attempt has said: at its end, or before it was killed."""
        told = executing.progress if executing is not None else None
        for state, seconds in seconds_by_state(report, told).items():
            self._emit(InState(end.task, end.queue, end.worker, state, seconds))
        blocked = seconds_blocked(report, told)
        if blocked is not None:
            self._emit(Blocked(end.task, end.queue, end.worker, blocked))

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
        key = _key_of(attempt)
        if key not in self._executing and not self._has_ended(key, attempt):
            self._executing[key] = _Executing(attempt, worker)
            self._steps.started(attempt, worker)
            self._begin(attempt, self._label_of(attempt.name), attempt.queue or UNKNOWN, worker, at)
        return self._executing.get(key)

    # -- workers

    def _running(self, report: Listing, _at: Instant) -> None:
        listed = self._listed.setdefault(report.hostname, {})
        listed.update({_key_of(each): each for each in report.running})

    def _beat(self, report: Beat, at: Instant) -> None:
        event = heartbeat(report)
        worker = self._fleet.hear(event, at)
        if self._fleet.is_new_instance(worker, event, at):
            self._vanish(worker.name)
            worker = self._fleet.restart(worker, event, at)
        worker.queues = tuple(report.queues)
        self.conditions[worker.name] = Condition(at.monotonic, tuple(report.troubles), tuple(report.ailments))
        overtaken = min(worker.ledger.ahead, report.slots or 0)
        self._compare(worker, report, at)
        self._fleet.beat(worker, event, at, overtaken)
        self._workers.tell(report)
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
        end = self._ends.get(key)
        return end is not None and end.received == attempt.received

    def _vanish(self, worker: str) -> None:
        """End what a worker executed that is gone."""
        for key in [key for key, each in self._executing.items() if each.worker == worker]:
            self._vanish_one(key)
        self._listed.pop(worker, None)
        self._workers.forget(worker)

    def _vanish_one(self, key: _Key) -> None:
        each = self._executing.pop(key)
        attempt = each.attempt
        self._ends.remember(key, End(attempt.received, attempt.started, requeued=True))
        self._steps.started(attempt, each.worker, vanished=True)
        task, queue = self._label_of(attempt.name), attempt.queue or UNKNOWN
        end = Ended(task, queue, each.worker, Outcome.VANISHED, None)
        self._emit(end)
        if self._divide is not None:
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


def _one_by_one(emit: Callable[[Fact], None]) -> Callable[[Fact, int, Each], None]:
    def emit_alike(fact: Fact, times: int, each: Each) -> None:
        for one in alike(fact, times, each):
            emit(one)

    return emit_alike
