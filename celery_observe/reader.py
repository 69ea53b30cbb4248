"""One broker's stream, read to the end: Stream → Decoder → Tracker → Recorder, in one thread.

What was read at once is decoded, then joined, then recorded: three loops that each run better alone.

What others want of this thread comes as messages: snapshots of workers through ``inbox``. After each connect the
bodies are held back, bounded, until the workers have said what they execute, so that no end of a task is read before
its name is known.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from celery_observe import gauges
from celery_observe.cause import UNKNOWN
from celery_observe.chronicle import Chronicle
from celery_observe.detail import detailing
from celery_observe.event import Decoder, Event, Malformed, Overheard, Snapshot
from celery_observe.fact import Polled, Step, WorkerExited, WorkerIdentified, WorkerSeen, WorkerUp
from celery_observe.fleet import Fleet, Instant
from celery_observe.hooks.registry import detail_level
from celery_observe.logs import log
from celery_observe.metrics import CATALOGUE, observer, tasks
from celery_observe.names import first_match, label_rules
from celery_observe.recorder import Recorder
from celery_observe.series import OTHER, Labels
from celery_observe.shard import Shard
from celery_observe.streams import stream_for
from celery_observe.tracing.replay_sampling import Sampling
from celery_observe.tracker import Tracker
from celery_observe.workflow import Workflows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery_observe.broker import BrokerSettings
    from celery_observe.fact import Fact
    from celery_observe.fleet import Ledger
    from celery_observe.guard import Guard
    from celery_observe.metrics import Family
    from celery_observe.settings import Settings
    from celery_observe.streams import Stream

READ_TIMEOUT = 0.25
"""Seconds after which a quiet read returns, so that the reader can tick and stop."""
TICK = 1.0
"""Seconds between two looks at the clock."""
MAX_BACKOFF = 0.5
"""Seconds between two attempts to connect, at the most: counting must resume within 2 s of the broker's return."""
STALE_AFTER = 15.0
"""Seconds without a stream after which what is told of this moment is not told any more."""
DEAD_AFTER = 30.0
"""Seconds without a tick after which the reader counts as dead."""
DEAD_AFTER_CONNECTING = 180.0
"""The same while it connects: name servers and a list of alternates take their time, and a restart would not help."""
IDLE_AFTER = 12.0
"""Seconds without an event after which none was to be expected: longer than any stream takes to notice a stall."""
DRAIN_FOR = 0.5
"""Seconds in which what has arrived is still read when told to stop."""
RECONNECT_HOLD = 0.5
"""Seconds that bodies are held back at the most when the first attempt to connect has failed, or was long ago: then
workers are only coming back too, or what they run is known but for what they took meanwhile."""
HELD_BYTES = 32 * 1024 * 1024
"""Bodies held back while workers are asked; past that they are read at once."""


_OF_WORKERS = [each for each in CATALOGUE if each.on in {WorkerUp, WorkerSeen, WorkerExited, WorkerIdentified}]
"""What the fleet tells of."""


class Reader(threading.Thread):
    """Reads the events of one broker until told to stop, through losses of the connection."""

    def __init__(self, broker: BrokerSettings, settings: Settings, recorder: Recorder, guard: Guard) -> None:
        super().__init__(name=f"reader-{broker.name or broker.transport}", daemon=True)
        self.broker = broker
        self.recorder = recorder
        recorder.start_at_zero()
        self.inbox: queue.SimpleQueue[list[Snapshot]] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self._guard = guard
        self._shard = shard = shard_of(settings)
        self._stream: Stream = stream_for(broker, self._malformed if shard is None or shard.is_first else _pass)
        self._decoder = Decoder(self._malformed, shard)
        self._facts: list[Fact] = []
        self._elsewhere = Recorder(catalogue=_OF_WORKERS, max_series=settings.max_series)
        """What workers say that another shard tells of."""
        tell = self._of_workers(self._facts.append)
        self.fleet = Fleet(tell, settings.worker_timeout, settings.replacement_window)
        rule, default = first_match(broker.task_queue), broker.default_queue
        self._tracker = Tracker(
            self._facts.append,
            self.fleet,
            queue_of=lambda name: rule(name) or default,
            label_of=label_rules(settings.task_allow, settings.task_deny, settings.task_rename),
            detail_of=detailing(detail_level(settings)),
            chronicle=self._chronicle(settings),
            shard=shard,
            max_tasks=settings.max_tracked_tasks,
        )
        self.workflows = Workflows(
            recorder.record,
            quiet=settings.workflow_quiet,
            timeout=settings.workflow_timeout,
            max_tasks=settings.max_tracked_tasks,
        )
        mine: Callable[[Any], Any] = shard.of_own_workflows if shard is not None else _all
        recorder.also(Step, mine(self.workflows.follow))
        recorder.also(Polled, mine(self.workflows.poll))
        self._hold_for = settings.inspect_timeout + 0.5 if settings.remote_control else 0.0
        self._held: list[tuple[list[bytes], Instant]] = []
        self._held_bytes = 0
        self._hold_until = 0.0
        self._connected_at: float | None = None
        self._lost_at = time.monotonic()
        self._ticked = time.monotonic()
        self._gap_told = self._lost_at
        self._read_at = self._fed_at = self._lost_at
        self._newest: tuple[Event | Overheard, float] | None = None
        self.on_connect: Callable[[], None] = lambda: None
        """Called in this thread after each connect."""
        self._reconnects = 0

    def _of_workers(self, emit: Callable[[Fact], None]) -> Callable[[Fact], None]:
        """Return what takes facts about workers: what others tell of is kept, but not served."""
        shard = self._shard
        if shard is None:
            return emit
        self.recorder[observer.SHARD].set((), shard.index)
        self.recorder[observer.SHARDS].set((), shard.count)
        return shard.of_own_workers(emit, self._elsewhere.record)

    def _chronicle(self, settings: Settings) -> Chronicle | None:
        """Return what remembers attempts for traces; None if none are rebuilt."""
        if not settings.replay_traces:
            return None
        self.recorder.exemplify()
        return Chronicle(self._facts.append, Sampling(settings.replay_ratio, settings.replay_slow).trace_of)

    # -- what other threads ask

    @property
    def live(self) -> bool:
        """Whether what the recorder tells of this moment can be believed."""
        now = time.monotonic()
        return now - self._ticked < STALE_AFTER and (
            self._connected_at is not None or now - self._lost_at < STALE_AFTER
        )

    @property
    def connected(self) -> bool:
        """Whether the stream is connected."""
        return self._connected_at is not None

    @property
    def problems(self) -> dict[str, str]:
        """Why plug-ins failed that failed when they ran last."""
        return self._guard.problems

    @property
    def dead(self) -> bool:
        """Whether the thread has ended, or hangs."""
        patience = DEAD_AFTER if self.connected else DEAD_AFTER_CONNECTING
        return not self.is_alive() or time.monotonic() - self._ticked > patience

    def troubles(self) -> list[str]:
        """Return why the numbers are not being kept up to date; nothing if they are."""
        if self.dead:
            return [f"{self.broker.masked_url}: the reader thread is dead"]
        if self.connected:
            return []
        url = self.broker.masked_url
        problem = self._guard.problems.get(self.broker.transport, "not connected yet")
        return [problem if url in problem else f"{url}: {problem}"]

    def ledgers(self) -> list[Ledger]:
        """Return what must outlive a restart."""
        return self.fleet.ledgers()

    def wanted(self) -> set[str]:
        """Return the workers that should be asked: new ones, and those whose word and events disagree."""
        strangers = {worker.name for worker in self.fleet if worker.up and worker.queues is None}
        return strangers | set(self._tracker.suspects())

    def queues_heard(self) -> set[str]:
        """Return the queues that events have named."""
        labels = [*self.recorder[tasks.PUBLISHED].children, *self.recorder[tasks.RECEIVED].children]
        return {queue for _task, queue, *_ in labels} - {UNKNOWN, OTHER}

    def consumers(self) -> Counter[str] | None:
        """Return how many live workers consume each queue; None while that is not known of all of them."""
        consumed = [worker.queues for worker in self.fleet if worker.up]
        if not self.connected or None in consumed:
            return None
        return Counter(queue for queues in consumed for queue in queues or ())

    def waiting(self) -> dict[str, list[float]]:
        """Return, by queue, since when tasks wait that were published and not received; nothing while disconnected."""
        return self._tracker.waiting() if self.connected else {}

    def up(self) -> set[str]:
        """Return the workers whose heartbeats are fresh."""
        return {worker.name for worker in self.fleet if worker.up}

    def told(self, family: Family) -> dict[Labels, float]:
        """Return the samples of a family as they would be served now, by all shards if they are of workers."""
        if family.live and not self.live:
            return {}
        elsewhere = self._elsewhere.series.get(family.name)
        return {**(elsewhere.values if elsewhere is not None else {}), **self.recorder[family].values}

    def runtimes(self) -> dict[str, tuple[float, float]]:
        """Return for each queue the sum in seconds and the number of all runtimes so far."""
        totals: dict[str, tuple[float, float]] = {}
        for (_task, name, *_), child in self.recorder[tasks.RUNTIME].histograms.copy().items():
            seconds, count = totals.get(name, (0.0, 0.0))
            totals[name] = seconds + child.total, count + sum(child.counts)
        return totals

    def resume(self, ledgers: Iterable[Ledger]) -> None:
        """Go on where an earlier run ended; before the thread starts."""
        self.fleet.resume(ledgers, _now())
        self.recorder.record_all(self._facts)

    # -- the thread

    def run(self) -> None:
        """Connect, read until the connection is lost, and again."""
        plugin = self.broker.transport
        backoff = 0.05
        while not self.stopping.is_set():
            if self._guard.run(plugin, self._connect):
                backoff = 0.05
                self._guard.run(plugin, self._read, timed=False)
            self._disconnect()
            self._pause(backoff * random.uniform(0.7, 1.0))  # noqa: S311 - jitter, not a secret
            backoff = min(MAX_BACKOFF, backoff * 2)
        self._tracker.finish()
        self._write_gauges(_now())

    def _connect(self) -> bool:
        hold, self._hold_for = self._hold_for, min(self._hold_for, RECONNECT_HOLD)
        self._stream.open()
        now = _now()
        if self._reconnects:
            self.recorder[observer.STREAM_RECONNECTS].increase(())
            self._count_gap(now.monotonic)
        self._reconnects += 1
        self._ticked = self._connected_at = self._read_at = self._fed_at = now.monotonic
        self._hold_until = now.monotonic + hold
        self.recorder[observer.STREAM_UP].set((), 1)
        self._tracker.connected(now)
        while not self.inbox.empty():
            self.inbox.get()  # of before the loss: what ran then may have ended since
        self.on_connect()
        log.info("stream connected", broker=self.broker.masked_url)
        return True

    def _disconnect(self) -> None:
        self._stream.close()
        self._release()
        if self._connected_at is not None:
            self._lost_at, self._gap_told = time.monotonic(), self._last_certain(self._connected_at)
            self._connected_at = None
        self.recorder[observer.STREAM_UP].set((), 0)

    def _last_certain(self, connected_at: float) -> float:
        """Return up to when the events that were sent have all arrived.

        A loss may be noticed late, since the peer had stalled or we had, so the time at which it is noticed says
        little. As long as events flow, the last that came tells; when none had come for long, the last read does.
        """
        if self._read_at - self._fed_at > IDLE_AFTER:
            return self._read_at
        return max(connected_at, self._fed_at - self._lag())

    def _lag(self) -> float:
        """Return the age of the newest event when it was read."""
        if self._newest is None:
            return 0.0
        event, read = self._newest
        sender = self.fleet.get(event.hostname)
        return max(0.0, read - event.timestamp - (sender.skew if sender else 0.0))

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt, ticking."""
        if not self.stopping.wait(seconds):
            self._tick_if_due(_now())

    def _read(self) -> None:
        """Read until told to stop; raises StreamError when the connection is lost."""
        while not self.stopping.is_set():
            self._take(self._stream.read(READ_TIMEOUT), _now())
        deadline = time.monotonic() + DRAIN_FOR
        while time.monotonic() < deadline and (bodies := self._stream.read(0.0)):
            self._take(bodies, _now())

    def _take(self, bodies: list[bytes], at: Instant) -> None:
        self._read_at = at.monotonic
        if bodies:
            self._fed_at = at.monotonic
        if self._hold_until:
            self._hold(bodies, at)
        elif bodies:
            self._digest(bodies, at)
        self._tick_if_due(at)

    def _digest(self, bodies: list[bytes], at: Instant) -> None:
        events = self._decoder.decode(bodies)
        self._tracker.handle_all(events, at)
        self.recorder.now = at.wall
        self.recorder.record_all(self._facts)
        if events:
            self._newest = events[-1], at.wall

    def _hold(self, bodies: list[bytes], at: Instant) -> None:
        """Keep bodies until workers have answered, for as long as they may take."""
        if bodies:
            self._held.append((bodies, at))
            self._held_bytes += sum(map(len, bodies))
        answered = self._take_snapshots(at)
        if answered or at.monotonic >= self._hold_until or self._held_bytes > HELD_BYTES:
            self._release()

    def _release(self) -> None:
        self._hold_until, self._held_bytes = 0.0, 0
        held, self._held = self._held, []
        for bodies, at in held:
            self._digest(bodies, at)

    def _take_snapshots(self, at: Instant) -> bool:
        """Take in what workers have answered, and say whether they have."""
        answered = False
        while not self.inbox.empty():
            answered = True
            for snapshot in self.inbox.get():
                self._tracker.seed(snapshot, at)
        return answered

    def _malformed(self, reason: Malformed) -> None:
        self.recorder[observer.EVENTS_MALFORMED].increase((reason,))

    # -- once a second

    def _tick_if_due(self, at: Instant) -> None:
        if at.monotonic - self._ticked < TICK:
            return
        self._ticked = at.monotonic
        self._take_snapshots(at)
        if self._connected_at is None:
            self._count_gap(at.monotonic)
        else:
            self._tracker.tick(at)
            self.recorder.record_all(self._facts)
            self._tick_workflows()
        self._write_gauges(at)

    def _tick_workflows(self) -> None:
        """Tell workflows the time of the newest event, by our clock: what was sent after it may be on its way."""
        if self._newest is not None:
            event, _ = self._newest
            sender = self.fleet.get(event.hostname)
            self.workflows.tick(event.timestamp + (sender.skew if sender is not None else 0.0))

    def _count_gap(self, now: float) -> None:
        """Add the time since the stream was lost that was not added yet; the wait for the first connect is none."""
        if self._reconnects:
            self.recorder[observer.STREAM_GAP].increase((), now - self._gap_told)
            self._gap_told = now

    def _write_gauges(self, at: Instant) -> None:
        self.recorder.record_all(self._facts)
        gauges.write(self.recorder, self._tracker, at.wall)
        gauges.write_prefetched(self.recorder, self._tracker.prefetched)
        gauges.write_workflows(self.recorder, self.workflows)
        if self._newest is not None:
            event, read = self._newest
            gauges.write_lag(self.recorder, event, self.fleet.get(event.hostname), read)


def shard_of(settings: Settings) -> Shard | None:
    """Return which shard this process is; None if it counts everything."""
    if settings.part is None:
        return None
    return Shard(settings.part.index, settings.part.count, max_tasks=settings.max_tracked_tasks)


def _all(take: Callable[[Any], None]) -> Callable[[Any], None]:
    return take


def _pass(_reason: Malformed) -> None:
    """Leave what cannot be read to the first shard."""


def _now() -> Instant:
    return Instant(time.time(), time.monotonic())
