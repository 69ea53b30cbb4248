"""What follows from what brokers, workers and events tell: capacity, and who does not use it. Asks nobody.

It looks at the samples of other families. Where one of these is absent since it could not be read, so is what follows.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

from celery_observe.broker import BrokerSettings
from celery_observe.capacity import Load, MeanRuntimes, Target, desired_slots
from celery_observe.metrics import Family, observer, queues, tasks, workers
from celery_observe.probes import Observed, Probe, Sample, asks
from celery_observe.probes.rota import ROUND
from celery_observe.series import Labels
from celery_observe.settings import Settings
from celery_observe.stalled import Look, Watch

_INTERVAL = 2.0
"""Seconds between two looks, at the most. They cost no message."""


@asks("capacity", last=True)
def capacity(_broker: BrokerSettings, settings: Settings, observed: Observed) -> list[Probe]:
    """Return the probe, none where nobody tells what queues hold."""
    return [CapacityProbe(settings, observed)] if settings.queue_probe else []


class CapacityProbe:
    """Derives the inputs of autoscalers, and which workers are stalled."""

    name = "capacity"
    families: tuple[Family, ...] = (queues.SLOTS, queues.DESIRED_SLOTS, workers.STALLED)

    def __init__(self, settings: Settings, observed: Observed, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.interval = min(_INTERVAL, settings.queue_interval)
        self._observed = observed
        self._clock = clock
        self._target = Target(settings.drain_target, settings.min_slots, settings.max_slots)
        self._runtimes = MeanRuntimes()
        asked = ROUND * settings.inspect_interval  # by then all that is looked at is news
        self._watch = Watch(max(settings.stalled_after, asked if settings.remote_control else 0.0))
        self._shares = settings.part is not None

    def ask(self) -> list[Sample]:
        """Look at what is told now."""
        told = self._observed.told
        waiting = _by_queue(told(queues.WAITING))
        consumed = _consumed(told(workers.CONSUMES), told(workers.UP))
        return [*self._capacity(waiting, consumed), *self._stalled(waiting, consumed)]

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _capacity(self, waiting: Mapping[str, float], consumed: Mapping[str, set[str]]) -> Iterator[Sample]:
        told = self._observed.told
        self._runtimes.take(self._clock(), self._observed.runtimes())
        in_flight = _by_queue(told(queues.IN_FLIGHT))
        running = _by_queue(told(tasks.RUNNING), place=1)
        if self._shares:
            running = _by_worker(told(workers.ACTIVE), consumed)
        slots: Counter[str] = Counter()
        for (worker,), count in told(workers.SLOTS).items():
            slots.update(dict.fromkeys(consumed.get(worker, ()), int(count)))
        for name, depth in waiting.items():
            if told(observer.WORKERS_ANSWERED):
                yield Sample(queues.SLOTS, (name,), slots[name])
            load = Load(depth, in_flight[name], running[name], slots[name], self._runtimes.of(name))
            yield Sample(queues.DESIRED_SLOTS, (name,), desired_slots(load, self._target))

    def _stalled(self, waiting: Mapping[str, float], consumed: Mapping[str, set[str]]) -> Iterator[Sample]:
        up = self._observed.up()
        self._watch.keep(up)
        look = _looks(self._observed)
        for name in sorted(up):
            depths = [waiting[each] for each in consumed.get(name, ()) if each in waiting]
            stalled = self._watch.judge(name, look(name, sum(depths) if depths else None))
            if stalled is not None:
                yield Sample(workers.STALLED, (name,), stalled)


def _looks(observed: Observed) -> Callable[[str, float | None], Look]:
    """Return what makes a look at a worker out of its samples and of what waits in its queues."""
    beats, processed, active, slots, prefetch, reserved, scheduled, limits = map(
        observed.told,
        (
            workers.LAST_HEARTBEAT,
            workers.PROCESSED,
            workers.ACTIVE,
            workers.SLOTS,
            workers.PREFETCH,
            workers.RESERVED,
            workers.SCHEDULED,
            workers.RATE_LIMIT,
        ),
    )
    slowest: dict[str, float] = {}
    for (worker, _task), limit in limits.items():
        slowest[worker] = min(limit, slowest.get(worker, limit))

    def look(worker: str, waiting: float | None) -> Look:
        key = (worker,)
        held = reserved.get(key, 0) + scheduled.get(key, 0)
        return Look(
            beat=beats.get(key),
            processed=processed.get(key),
            active=active.get(key),
            slots=slots.get(key),
            prefetch=prefetch.get(key),
            held=held,
            waiting=waiting,
            slowest_rate=slowest.get(worker),
        )

    return look


def _by_queue(samples: Mapping[Labels, float], place: int = 0) -> Counter[str]:
    """Add up the samples of each queue, whose name is the label at this place."""
    total: Counter[str] = Counter()
    for labels, value in samples.items():
        total[labels[place]] += int(value)
    return total


def _by_worker(active: Mapping[Labels, float], consumed: Mapping[str, set[str]]) -> Counter[str]:
    """Return how many tasks run by queue where other shards know which: those of a worker count in all its queues."""
    total: Counter[str] = Counter()
    for (worker, *_), count in active.items():
        total.update(dict.fromkeys(consumed.get(worker, ()), int(count)))
    return total


def _consumed(consumes: Mapping[Labels, float], up: Mapping[Labels, float]) -> dict[str, set[str]]:
    """Return the queues of each worker that is not known to be gone; some send no heartbeats."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    gone = {worker for (worker, *_), value in up.items() if not value}
    for worker, name in consumes:
        if worker not in gone:
            found[worker].add(name)
    return dict(found)
