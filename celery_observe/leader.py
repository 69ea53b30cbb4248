"""Which of several replicas asks brokers and workers: whoever holds a lock in the broker itself.

The lock ends with its holder: on Redis it expires unless renewed, on RabbitMQ it goes with the connection. Whether we
lead is decided by our own clock, so that one that hangs stops to lead before another begins.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from amqp.exceptions import AccessRefused, AMQPError
from redis.exceptions import LockError, RedisError
from redis.lock import Lock as SharedLock

from celery_observe.broker import AMQP, REDIS, BrokerSettings
from celery_observe.connection import REPLY_TIMEOUT, connect, connection_for, redis_client, redis_connection
from celery_observe.errors import ProbeError, SettingsError
from celery_observe.guard import Guard
from celery_observe.masking import mask_text

PLUGIN: Final = "leader"
NAME: Final = "celery-observe.leader"
"""The key on Redis, after ``global_keyprefix``, and the queue on RabbitMQ."""
_UNUSED_FOR: Final = 3_600_000
"""Milliseconds without a replica after which RabbitMQ drops the queue."""


class Lock(Protocol):
    """A lock that one process of all has."""

    def hold(self, seconds: float) -> bool:
        """Take or keep the lock, for so long at the least; say whether we have it. Raises ProbeError or StreamError."""

    def release(self) -> None:
        """Let go of it. Never raises."""


def lock_for(broker: BrokerSettings) -> Lock:
    """Return the lock in a broker. Raises SettingsError where none can be."""
    if broker.transport in REDIS:
        return RedisLock(broker)
    if broker.transport in AMQP:
        return AmqpLock(broker)
    raise SettingsError(
        f"--probe leader: {broker.masked_url} has no lock. Give one replica --probe on, the others --probe off."
    )


class RedisLock:
    """A key with a random value that expires, renewed and released only while it has that value."""

    def __init__(self, broker: BrokerSettings) -> None:
        self._broker = broker
        self._connection: Any = None
        self._lock: SharedLock | None = None

    def hold(self, seconds: float) -> bool:
        """Take or renew it."""
        try:
            lock = self._lock or self._connect(seconds)
            try:
                return bool(lock.extend(seconds, replace_ttl=True))
            except LockError:
                return bool(lock.acquire(blocking=False))
        except (RedisError, OSError) as error:
            self._disconnect()
            raise _unable(self._broker, error) from error

    def release(self) -> None:
        """Delete the key if it is ours."""
        try:
            if self._lock is not None:
                self._lock.release()
        except (RedisError, OSError):
            return
        finally:
            self._disconnect()

    def _connect(self, seconds: float) -> SharedLock:
        self._connection = redis_connection(self._broker)
        client = redis_client(self._connection, self._broker)
        prefix = self._broker.transport_options.get("global_keyprefix", "")
        self._lock = client.lock(f"{prefix}{NAME}", timeout=seconds, blocking=False, thread_local=False)
        return self._lock

    def _disconnect(self) -> None:
        self._lock = None
        if self._connection is not None:
            self._connection.release()


class AmqpLock:
    """The one exclusive consumer of a queue. Others see that it has one, and leave no error in RabbitMQ's log."""

    def __init__(self, broker: BrokerSettings) -> None:
        self._broker = broker
        self._connection: Any = None
        self._channel: Any = None
        self._consumes = False

    def hold(self, seconds: float) -> bool:
        """Become the consumer, or make sure that we are; RabbitMQ ends it once it has not heard of us for `seconds`."""
        try:
            if self._channel is None:
                self._connect(seconds)
            _, _, consumers = self._channel.queue_declare(
                NAME, durable=True, auto_delete=False, arguments={"x-expires": _UNUSED_FOR}
            )
            self._consumes = bool(consumers) if self._consumes else not consumers and self._consume()
        except (AMQPError, OSError) as error:
            self.release()
            raise _unable(self._broker, error) from error
        return self._consumes

    def release(self) -> None:
        """Disconnect."""
        self._channel, self._consumes = None, False
        if self._connection is not None:
            self._connection.release()

    def _connect(self, seconds: float) -> None:
        timeouts = {"read_timeout": REPLY_TIMEOUT, "write_timeout": REPLY_TIMEOUT}
        self._connection = connection_for(self._broker, timeouts)
        self._connection.heartbeat = math.ceil(seconds)
        connect(self._connection, self._broker)
        self._channel = self._connection.channel()

    def _consume(self) -> bool:
        try:
            self._channel.basic_consume(NAME, no_ack=True, exclusive=True)
        except AccessRefused:  # another was quicker; the channel is closed
            self._channel = self._connection.channel()
            return False
        return True


class Leader(threading.Thread):
    """Competes for the lock until told to stop."""

    def __init__(
        self, lock: Lock, interval: float, guard: Guard, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the lead of a leader that is gone within `interval` seconds."""
        super().__init__(name="leader", daemon=True)
        self.stopping = threading.Event()
        self._lock = lock
        self._term = interval / 2
        self._guard = guard
        self._clock = clock
        self._until = 0.0

    def leads(self) -> bool:
        """Say whether we have the lock; from any thread."""
        return self._clock() < self._until

    def run(self) -> None:
        """Take it or renew it, each half of a term."""
        while not self.stopping.is_set():
            self._guard.run(PLUGIN, self.compete)
            self.stopping.wait(self._term / 2)
        self._until = 0.0
        self._lock.release()

    def compete(self) -> None:
        """Take the lock, or keep it, for one term from now on."""
        asked = self._clock()
        self._until = asked + self._term if self._lock.hold(self._term) else 0.0


def _unable(broker: BrokerSettings, error: Exception) -> ProbeError:
    reason = mask_text(str(error)) or type(error).__name__
    return ProbeError(f"{broker.masked_url}: the leader cannot be chosen: {reason}")
