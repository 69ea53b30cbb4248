"""The workers, by what they say of themselves: alive or gone, and how many tasks we did not see.

Loss. A heartbeat carries ``processed``, the number of tasks its worker has accepted; each of them should have sent one
``task-started``. Heartbeats leave at once while task events wait in the worker's buffer, so a heartbeat is judged when
the next but one arrives, by the started events that bear a time up to its own. A worker is an instance: its name, its
pid, and a count that never falls.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from celery_observe.attempt import Attempt
from celery_observe.departures import Departures
from celery_observe.event import LIVE
from celery_observe.fact import (
    Exit,
    Fact,
    Unobserved,
    WorkerExited,
    WorkerForgotten,
    WorkerIdentified,
    WorkerSeen,
    WorkerUp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from celery_observe.event import Event, Overheard

MAX_WORKERS = 5000
"""Above this many workers those unheard of the longest are forgotten."""

REPLACEMENT_WINDOW = 120.0
"""Seconds before and after a goodbye in which a worker that comes takes the place, unless set."""

FAREWELL_GRACE = 10.0
"""Seconds after a goodbye in which a worker may come back, and its last events arrive."""

_MISSED_HEARTBEATS = 5
_LEAST_SILENCE = 10.0
_SKEW_WINDOW = 8


class Instant(NamedTuple):
    """One moment on our two clocks: Unix seconds, and seconds that never jump."""

    wall: float
    monotonic: float


class Ledger(msgspec.Struct):
    """What one worker instance accepted and what we saw of it; kept across restarts of the observer."""

    worker: str
    pid: int | None = None
    base: int | None = None
    """``processed`` at the first heartbeat; None before it."""
    opened: float = 0.0
    """Time of the first heartbeat, and of the two last: all by the worker's clock."""
    timestamp_before: float = 0.0
    timestamp: float = 0.0
    processed_before: int = 0
    """``processed`` at the last heartbeat but one, and at the last."""
    processed: int = 0
    seen_before: int = 0
    """Started events that bear a time up to the last heartbeat but one, up to the last, and later."""
    seen: int = 0
    ahead: int = 0
    short: int = 0
    """What was missing when the heartbeat before was judged."""
    unobserved: int = 0

    def open(self, processed: int, timestamp: float, overtaken: int = 0) -> None:
        """Start to count at this heartbeat; so many starts were told before though it does not count them."""
        self.base = self.processed_before = self.processed = processed
        self.opened = self.timestamp_before = self.timestamp = timestamp
        self.seen_before, self.seen, self.ahead, self.short = overtaken, 0, 0, 0

    def start(self, timestamp: float) -> None:
        """Count one task-started."""
        if timestamp > self.timestamp:
            self.ahead += 1
        elif timestamp > self.timestamp_before:
            self.seen += 1
        elif timestamp > self.opened:
            self.seen_before += 1

    def start_all(self, timestamps: Sequence[float]) -> None:
        """Count so many task-started."""
        if min(timestamps) > self.timestamp:
            self.ahead += len(timestamps)
            return
        for timestamp in timestamps:
            self.start(timestamp)

    @property
    def missing(self) -> int:
        """How many tasks accepted before the last heartbeat but one no started event has told of."""
        return max(0, self.processed_before - (self.base or 0) - self.seen_before)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing up to the last heartbeat but what was found to be unobserved."""
        return self.processed - (self.base or 0) - self.seen_before - self.seen <= self.unobserved

    def beat(self, processed: int, timestamp: float) -> int:
        """Take a heartbeat in, and return how many more tasks are now known to be unobserved."""
        missing = self.missing
        news = max(0, min(missing, self.short) - self.unobserved)
        self.unobserved += news
        self.short = missing
        self.processed_before, self.processed = self.processed, processed
        self.timestamp_before, self.timestamp = self.timestamp, timestamp
        self.seen_before, self.seen, self.ahead = self.seen_before + self.seen, self.ahead, 0
        return news


class Worker(msgspec.Struct):
    """One worker as far as we know it."""

    name: str
    ledger: Ledger
    heard: float
    """When it was last heard of, by our monotonic clock."""
    freq: float = 2.0
    """Seconds between its heartbeats."""
    up: bool = False
    departed: bool = False
    """It said goodbye, which it also does before it connects again."""
    left: float = 0.0
    """When it last did, by our monotonic clock."""
    lingers: bool = False
    """It said so while tasks still ran, which it waits for."""
    exited: bool = False
    """It did not come back."""
    version: str = ""
    pool: str = ""
    """As `--pool` calls it; empty until it was asked."""
    traces: bool = False
    """Whether it makes spans of its tasks itself, as its heartbeats say."""
    queues: tuple[str, ...] | None = None
    """The queues it consumes; None until it was asked."""
    former_pid: int | None = None
    """Of the instance before; its last events may still be on their way, or two workers share a name."""
    lossy_until: float = 0.0
    """Time of the last heartbeat that told of a loss, by its clock; what ran then may have ended unseen."""
    idle_at: float | None = None
    """Time of its last heartbeat, by its clock, if that said that nothing runs."""
    running: set[Attempt] = msgspec.field(default_factory=set)
    """Attempts that execute on it; the tracker's."""
    others: set[str] = msgspec.field(default_factory=set)
    """Tasks of other shards that execute on it; the tracker's."""
    surplus: int = 0
    """Heartbeats in a row that said fewer tasks run than we believe."""
    absent: dict[str, float] = msgspec.field(default_factory=dict)
    """Tasks that a snapshot did not list though we believe they run: task id → time, by the worker's clock."""
    differences: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=_SKEW_WINDOW))

    @property
    def skew(self) -> float:
        """Our clock less the worker's, in seconds."""
        return min(self.differences, default=0.0)

    def is_former(self, event: Event | Overheard) -> bool:
        """Say whether this event comes from the process that had the name before."""
        return self.former_pid is not None and event.pid == self.former_pid

    @property
    def announces_exits(self) -> bool:
        """Whether this Celery sends an event when a pool child exits by ``sys.exit``: from 5.7 on."""
        major, _, rest = self.version.partition(".")
        minor = rest.partition(".")[0]
        return major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= (5, 7)


class Fleet:
    """All workers. Emits worker facts; the tracker asks it where a task runs and what a worker consumes."""

    def __init__(
        self,
        emit: Callable[[Fact], None],
        worker_timeout: float = 300.0,
        replacement_window: float = REPLACEMENT_WINDOW,
        *,
        whole: bool = True,
    ) -> None:
        """Know no worker.

        ``whole``: all workers of the broker are heard, so that others may be seen to take the place of one.
        """
        self._emit = emit
        self._timeout = worker_timeout
        window = min(replacement_window, worker_timeout / 2)  # while it is remembered who left
        self._departures = Departures(emit if whole else lambda _fact: None, window)
        self._workers: dict[str, Worker] = {}
        self.get = self._workers.get
        """Returns a worker that was heard of before, by its name; bound once, since every event asks."""
        self._given_up: list[Worker] = []
        self._trusted_from = 0.0

    def __iter__(self) -> Iterator[Worker]:
        """Iterate over the workers known."""
        return iter(list(self._workers.values()))

    def hear(self, event: Event | Overheard, at: Instant) -> Worker:
        """Note that this event came from a worker's main process, and return the worker."""
        worker = self._workers.get(event.hostname)
        if worker is None:
            worker = self._admit(Ledger(event.hostname, event.pid), at)
            if event.type == "worker-online":  # others were there before we were
                self._departures.arrive(worker.name, at.monotonic)
        if worker.former_pid is None or not worker.is_former(event):
            worker.heard = at.monotonic
        return worker

    def _admit(self, ledger: Ledger, at: Instant) -> Worker:
        if len(self._workers) >= MAX_WORKERS:
            self._thin_out()
        worker = self._workers[ledger.worker] = Worker(ledger.worker, ledger, at.monotonic)
        return worker

    def _thin_out(self) -> None:
        """Give up the twentieth of the workers that were heard of the longest ago."""
        for worker in sorted(self._workers.values(), key=lambda each: each.heard)[: MAX_WORKERS // 20]:
            del self._workers[worker.name]
            self._given_up.append(worker)

    def meet(self, name: str, at: Instant) -> Worker:
        """Return a worker that answered us, known before or not."""
        return self._workers.get(name) or self._admit(Ledger(name), at)

    def is_new_instance(self, worker: Worker, event: Event | Overheard, at: Instant) -> bool:
        """Say whether this event shows a new process under a known name."""
        ledger = worker.ledger
        if ledger.pid is None:
            ledger.pid = event.pid
        if event.pid is not None and event.pid != ledger.pid:
            return not worker.is_former(event) or at.monotonic - worker.heard > _LEAST_SILENCE
        return event.processed is not None and event.processed < ledger.processed

    def restart(self, worker: Worker, event: Event | Overheard, at: Instant) -> Worker:
        """Begin a new instance under a known name; all that it accepts from its first task on is expected."""
        if worker.up:
            self._exit(worker, Exit.RESTARTED)
        else:
            if worker.departed and not worker.exited:
                self._exit(worker, Exit.SHUTDOWN)
            self._departures.arrive(worker.name, at.monotonic)
        ledger = Ledger(worker.name, event.pid, base=0)
        former = worker.ledger.pid if worker.ledger.pid != event.pid else None
        fresh = Worker(worker.name, ledger, at.monotonic, queues=worker.queues, pool=worker.pool, former_pid=former)
        self._workers[worker.name] = fresh
        return fresh

    def beat(self, worker: Worker, event: Event, at: Instant, overtaken: int = 0) -> None:
        """Take in a heartbeat or greeting; those that answer a broadcast carry no counts.

        ``overtaken``: how many starts were told before it though it does not count them, should it be the first.
        """
        worker.differences.append(at.wall - event.timestamp)
        worker.freq = event.freq or worker.freq
        worker.traces = event.celery_observe_tracing == LIVE
        if event.processed is not None:
            self._count(worker, event.processed, event.timestamp, overtaken)
        load1 = event.loadavg[0] if event.loadavg else None
        self._emit(WorkerSeen(worker.name, event.timestamp, worker.skew, event.processed, event.active, load1))
        if event.sw_ver and event.sw_ver != worker.version:
            self.identify(worker, version=event.sw_ver)
        if not worker.up:
            self._departures.come_back(worker.name)
            worker.up, worker.departed, worker.exited = True, False, False
            self._emit(WorkerUp(worker.name, 1))

    def identify(self, worker: Worker, *, version: str = "", pool: str = "") -> None:
        """Note what is now known of a worker's version or pool."""
        identity = version or worker.version, pool or worker.pool
        if identity != (worker.version, worker.pool):
            worker.version, worker.pool = identity
            self._emit(WorkerIdentified(worker.name, *identity))

    def _count(self, worker: Worker, processed: int, timestamp: float, overtaken: int) -> None:
        ledger = worker.ledger
        if ledger.base is None:
            ledger.open(processed, timestamp, overtaken)
            self._emit(Unobserved(worker.name, 0))
        elif news := ledger.beat(processed, timestamp):
            worker.lossy_until = timestamp
            self._emit(Unobserved(worker.name, news))

    def bid_farewell(self, worker: Worker, active: int | None = None) -> None:
        """Note that a worker said goodbye, while so many tasks still ran."""
        worker.departed, worker.left = True, worker.heard
        worker.lingers = bool(active)
        if worker.up:
            worker.up = False
            self._emit(WorkerUp(worker.name, 0))

    def trust_from(self, at: Instant) -> None:
        """The stream is connected from now on: silence before this says nothing about the workers."""
        self._trusted_from = at.monotonic
        self._departures.watch_from(at.monotonic)

    def silent(self, at: Instant) -> list[Worker]:
        """Declare lost whoever missed too many heartbeats; return those gone for the timeout, and those given up."""
        gone, self._given_up = self._given_up, []
        for worker in self._workers.values():
            silence = at.monotonic - max(worker.heard, self._trusted_from)
            if worker.up and silence > max(_MISSED_HEARTBEATS * worker.freq, _LEAST_SILENCE):
                worker.up = False
                self._emit(WorkerUp(worker.name, 0))
                self._exit(worker, Exit.LOST)
            elif worker.departed and not worker.exited and silence > FAREWELL_GRACE:
                worker.exited = True
                self._exit(worker, Exit.SHUTDOWN)
            if silence > self._timeout:
                gone.append(worker)
        self._departures.settle(at.monotonic, {worker.name: worker.queues for worker in self if worker.up})
        return gone

    def _exit(self, worker: Worker, kind: Exit) -> None:
        """Tell that a worker left, and whether others may take its place: not if its name has a new process."""
        self._emit(WorkerExited(worker.name, kind))
        if kind is not Exit.RESTARTED:
            farewell = kind is Exit.SHUTDOWN
            at = worker.left if farewell else worker.heard
            self._departures.leave(worker.name, worker.queues, at, farewell=farewell)

    def forget(self, worker: Worker) -> None:
        """Drop a worker and its series."""
        if self._workers.get(worker.name) is worker:
            del self._workers[worker.name]
        if worker.name not in self._workers:
            self._departures.forget(worker.name)
            self._emit(WorkerForgotten(worker.name))

    def ledgers(self) -> list[Ledger]:
        """Return what must outlive a restart of the observer."""
        return [worker.ledger for worker in self if worker.ledger.base is not None]

    def resume(self, ledgers: Iterable[Ledger], at: Instant) -> None:
        """Go on with the ledgers of an earlier run, so that what happened in between counts as unobserved."""
        for ledger in ledgers:
            self._admit(ledger, at)
            if ledger.unobserved:
                self._emit(Unobserved(ledger.worker, ledger.unobserved))
