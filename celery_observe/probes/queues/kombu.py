"""Any other broker: the number of messages, where kombu's transport can tell it without creating the queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kombu.exceptions import KombuError
from kombu.transport import virtual

from celery_observe.broker import BrokerSettings
from celery_observe.connection import connect, connection_for
from celery_observe.errors import ProbeError
from celery_observe.metrics import Family, queues
from celery_observe.probes import ANY_SCHEME, Observed, Probe, Sample, asks
from celery_observe.probes.queues.asking import QueuesProbe
from celery_observe.settings import Settings


@asks("queues", ANY_SCHEME)
def other_queues(broker: BrokerSettings, settings: Settings, observed: Observed) -> list[Probe]:
    """Return the probe for any transport of kombu, none if queues are not to be asked."""
    return [KombuQueues(broker, settings, observed)] if settings.queue_probe else []


class KombuQueues(QueuesProbe):
    """The queues that events and workers tell of, through kombu's channel."""

    name = "queues.kombu"
    families: tuple[Family, ...] = (queues.WAITING, queues.OLDEST_AGE, queues.CONSUMERS, queues.DEAD_LETTERS)

    def __init__(self, broker: BrokerSettings, settings: Settings, observed: Observed) -> None:
        super().__init__(broker, settings, observed)
        self._connection = connection_for(broker, {})
        self._channel: Any = None

    def ask(self) -> list[Sample]:
        """Ask for the size of each queue. Raises ProbeError or StreamError."""
        errors = (*self._connection.connection_errors, *self._connection.channel_errors, OSError, KombuError)
        try:
            if self._channel is None:
                self._connect()
            heard = self._heard()
            sizes = {name: self._size(name, heard) for name in self._names.select(heard)}
        except errors as error:
            raise self._unreadable(error) from error
        return [*self._tell({name: size for name, size in sizes.items() if size is not None})]

    def close(self) -> None:
        """Disconnect."""
        self._channel = None
        self._connection.release()

    def _connect(self) -> None:
        self._connection = connection_for(self._broker, {})
        connect(self._connection, self._broker)
        channel = self._connection.default_channel
        if not isinstance(channel, virtual.Channel) or type(channel)._size is virtual.Channel._size:  # noqa: SLF001  kombu has no public name for it
            raise ProbeError(
                f"{self._broker.masked_url}: kombu's {self._broker.transport} transport cannot tell what queues hold. "
                "Turn this off with --no-queue-probe."
            )
        self._channel = channel

    def _size(self, name: str, heard: set[str]) -> int | None:
        """Return the size of a queue that is known to exist: transports that cannot say so may create it when asked."""
        channel = self._channel
        can_say = type(channel)._has_queue is not virtual.Channel._has_queue  # noqa: SLF001  the same
        exists = channel._has_queue(name) if can_say else name in heard  # noqa: SLF001  the same
        if not exists:
            return 0 if can_say and name in self._names.declared else None
        return int(channel._size(name))  # noqa: SLF001  the same

    def _tell(self, sizes: dict[str, int]) -> Iterator[Sample]:
        moment = self._moment()
        for name, size in sizes.items():
            if moment.consumers is not None:
                yield Sample(queues.CONSUMERS, (name,), moment.consumers.get(name, 0))
            yield from self._queue(name, {"": size}, moment)
