"""What the broker says of queues: the samples of its probes, asked once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from celery_observe.broker import BrokerSettings
from celery_observe.doctor.evidence import Queue, Worker
from celery_observe.errors import ProbeError
from celery_observe.metrics import Family
from celery_observe.metrics import queues as families
from celery_observe.probes import Told, answer_of, probes_for
from celery_observe.probes.queues.management import management_of
from celery_observe.probes.queues.redis import RedisQueues
from celery_observe.series import Labels
from celery_observe.settings import Settings
from celery_observe.streams.amqp import CONSUMER_TAG

_SCANS = 300
"""Steps of a thousand keys through the keyspace of a Redis: this is the only round."""


class Queues(NamedTuple):
    """The queues, and the keys that nobody needs any more, None if that is not known."""

    queues: tuple[Queue, ...]
    orphans: int | None


class _Known:
    """What the events and the workers of a broker tell its probes: here, only who consumes what."""

    def __init__(self, workers: Iterable[Worker]) -> None:
        self._consumers = Counter(queue.name for worker in workers for queue in worker.queues or ())

    def queues_heard(self) -> set[str]:
        return set(self._consumers)

    def consumers(self) -> Mapping[str, int]:
        return self._consumers

    def waiting(self) -> Mapping[str, Sequence[float]]:
        return {}

    def up(self) -> set[str]:
        return set()

    def told(self, _family: Family) -> Mapping[Labels, float]:
        return {}

    def runtimes(self) -> Mapping[str, tuple[float, float]]:
        return {}


def queues(broker: BrokerSettings, settings: Settings, workers: Iterable[Worker]) -> Queues:
    """Ask the probes of this kind of broker. Raises ProbeError if none can tell."""
    told: Told = {}
    problems = []
    for probe in probes_for(broker, settings, _Known(workers)):
        if not probe.name.startswith("queues."):
            continue
        if isinstance(probe, RedisQueues):
            probe.first_scans = _SCANS
        try:
            told = answer_of(probe) | told
        except ProbeError as error:
            problems.append(str(error))
        finally:
            probe.close()
    if not told:
        raise ProbeError("; ".join(problems) or "queues are not asked for")
    return _queues(told)


class _Consumer(msgspec.Struct):
    consumer_tag: str = ""


def observers(broker: BrokerSettings, settings: Settings) -> int:
    """Return how many exporters read the events of a RabbitMQ. Raises ProbeError."""
    api = management_of(broker, settings)
    if api is None:
        raise ProbeError("which exporters read events is not known: give --management-url")
    return sum(each.consumer_tag == CONSUMER_TAG for each in api.get("consumers", list[_Consumer], "consumer_tag"))


def _queues(told: Told) -> Queues:
    waiting: dict[str, dict[str, float]] = {}
    for (name, priority), value in told[families.WAITING.name].items():
        waiting.setdefault(name, {})[priority] = value
    consumers = told[families.CONSUMERS.name]
    beyond = told.get(families.ETA_BEYOND_VISIBILITY_TIMEOUT.name, {})
    dead = {name for (name,) in told.get(families.DEAD_LETTERS.name, {})}  # nobody is expected to consume these
    names = sorted((waiting.keys() | {name for (name,) in consumers}) - dead)
    found = [
        Queue(
            name=name,
            waiting=int(sum(waiting.get(name, {}).values())),
            priorities=frozenset(priority for priority, value in waiting.get(name, {}).items() if priority and value),
            consumers=int(consumers[name,]) if (name,) in consumers else None,
            beyond=int(beyond.get((name,), 0)),
        )
        for name in names
    ]
    orphans = told.get(families.ORPHANS.name, {}).get(())
    return Queues(tuple(found), None if orphans is None else int(orphans))
