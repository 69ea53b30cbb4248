"""What the probes of all kinds of brokers have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from celery_observe.broker import BrokerSettings
from celery_observe.errors import ProbeError
from celery_observe.masking import mask_text
from celery_observe.metrics import queues
from celery_observe.probes import Observed, Sample
from celery_observe.probes.queues.age import oldest_age
from celery_observe.probes.queues.names import QueueNames
from celery_observe.settings import Settings


class Moment(NamedTuple):
    """What events and workers say at one time, in Unix seconds."""

    now: float
    consumers: Mapping[str, int] | None
    waiting: Mapping[str, Sequence[float]]

    def oldest_age(self, name: str, depth: int) -> float | None:
        """Return the age of the oldest of so many messages of a queue; None if events do not tell."""
        return oldest_age(self.waiting.get(name, ()), depth, self.now)


class QueuesProbe:
    """What is known of the queues of a broker without asking it."""

    def __init__(
        self,
        broker: BrokerSettings,
        settings: Settings,
        observed: Observed,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.interval = settings.queue_interval
        self._broker = broker
        self._observed = observed
        self._clock = clock
        self._names = QueueNames(broker, settings)

    def _heard(self) -> set[str]:
        """Return the queues that events name or live workers consume."""
        return {*self._observed.queues_heard(), *(self._observed.consumers() or {})}

    def _moment(self) -> Moment:
        """Note what events and workers say now: after the broker has answered, since events are the slower ones."""
        return Moment(self._clock(), self._observed.consumers(), self._observed.waiting())

    def _queue(
        self, name: str, lengths: Mapping[str, int], moment: Moment, *, since: float | None = None
    ) -> Iterator[Sample]:
        """Tell what waits in a queue by priority, and for how long: since a known time, or else by the events."""
        depth = sum(lengths.values())
        if self._names.is_dead_letter(name):
            yield Sample(queues.DEAD_LETTERS, (name,), depth)
            return
        for priority, length in lengths.items():
            yield Sample(queues.WAITING, (name, priority), length)
        age = moment.oldest_age(name, depth) if since is None else max(0.0, moment.now - since)
        if age is not None:
            yield Sample(queues.OLDEST_AGE, (name,), age)

    def _unreadable(self, error: Exception) -> ProbeError:
        reason = mask_text(str(error)) or type(error).__name__
        return ProbeError(f"{self._broker.masked_url}: queues cannot be read: {reason}")
