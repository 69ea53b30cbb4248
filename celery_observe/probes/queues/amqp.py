"""RabbitMQ and other AMQP 0-9-1 brokers: what a passive declare tells, messages that are ready and consumers.

AMQP cannot list queues: those of the app, of the settings, of workers and of events are asked for, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from amqp.exceptions import AMQPError, ChannelError, NotFound

from celery_observe.broker import BrokerSettings
from celery_observe.connection import REPLY_TIMEOUT, connect, connection_for
from celery_observe.metrics import Family, queues
from celery_observe.probes import Observed, Probe, Sample, asks
from celery_observe.probes.queues.asking import QueuesProbe
from celery_observe.probes.queues.management import ManagementQueues, management_of
from celery_observe.settings import Settings

_ASK_AGAIN: Final = 60.0
"""Seconds after which a queue is asked for again that did not exist: each time costs a channel and a line in a log."""
_TIMEOUTS: Final = {"read_timeout": REPLY_TIMEOUT, "write_timeout": REPLY_TIMEOUT}


class _Answer(NamedTuple):
    """What a queue answers."""

    ready: int
    consumers: int


@asks("queues", "amqp", "amqps", "pyamqp")
def rabbitmq_queues(broker: BrokerSettings, settings: Settings, observed: Observed) -> list[Probe]:
    """Return the probe for AMQP and, where its address is known, before it the one for the management API."""
    if not settings.queue_probe:
        return []
    management = management_of(broker, settings)
    amqp = AmqpQueues(broker, settings, observed)
    return [ManagementQueues(broker, settings, observed, management), amqp] if management else [amqp]


class AmqpQueues(QueuesProbe):
    """The queues of one virtual host, as far as they are known by name."""

    name = "queues.amqp"
    families: tuple[Family, ...] = (queues.WAITING, queues.OLDEST_AGE, queues.CONSUMERS, queues.DEAD_LETTERS)

    def __init__(self, broker: BrokerSettings, settings: Settings, observed: Observed) -> None:
        super().__init__(broker, settings, observed)
        self._connection = connection_for(broker, _TIMEOUTS)
        self._channel: Any = None
        self._refused: dict[str, float] = {}
        """The queues that were not there or not ours, and when to ask for them again."""

    def ask(self) -> list[Sample]:
        """Declare all known queues passively. Raises ProbeError or StreamError."""
        try:
            if self._channel is None:
                self._connect()
            answers = {name: self._declare(name) for name in self._names.select(self._heard())}
        except (AMQPError, OSError) as error:
            raise self._unreadable(error) from error
        return [*self._tell({name: answer for name, answer in answers.items() if answer is not None})]

    def close(self) -> None:
        """Disconnect."""
        self._channel = None
        self._connection.release()

    def _connect(self) -> None:
        self._connection = connection_for(self._broker, _TIMEOUTS)
        connect(self._connection, self._broker)
        self._channel = self._connection.channel()

    def _declare(self, name: str) -> _Answer | None:
        """Ask for one queue; None if it is not there. A queue that the settings declare holds nothing until it is."""
        none = _Answer(0, 0) if name in self._names.declared else None
        if self._refused.get(name, 0.0) > self._clock():
            return none
        self._refused.pop(name, None)
        try:
            _, ready, consumers = self._channel.queue_declare(name, passive=True)
        except ChannelError as error:  # which has closed the channel
            self._channel = self._connection.channel()
            self._refused[name] = self._clock() + _ASK_AGAIN
            return none if isinstance(error, NotFound) else None
        return _Answer(ready, consumers)

    def _tell(self, answers: dict[str, _Answer]) -> Iterator[Sample]:
        moment = self._moment()
        for name, (ready, consumers) in answers.items():
            yield Sample(queues.CONSUMERS, (name,), consumers)
            yield from self._queue(name, {"": ready}, moment)
