"""RabbitMQ and other AMQP 0-9-1 brokers: frames read straight from the socket.

Kombu and py-amqp make the connection (authentication, TLS, virtual host) and declare the queue as Celery's
receiver does (`celery/events/receiver.py`); from then on the socket is ours.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable
from typing import Any, Final

from amqp.exceptions import AMQPError

from celery_observe.connection import REPLY_TIMEOUT, cannot, connect, connection_for, event_queue
from celery_observe.errors import StreamError
from celery_observe.event import Malformed
from celery_observe.masking import mask_text
from celery_observe.settings import BrokerSettings
from celery_observe.streams import handles
from celery_observe.streams.content import JSON, ContentReader
from celery_observe.streams.frames import (
    HEARTBEAT,
    Delivery,
    FrameError,
    FrameParser,
    Method,
    content_of,
    method_frame,
    reply_of,
)
from celery_observe.streams.wire import Beat, Wire

CONSUMER_TAG: Final = "celery-observe"
"""How we are called among the consumers of a broker."""
_REST: Final = 0.02
_CONNECTION_CLOSE: Final = (10, 50)
_FAREWELL: Final = method_frame(_CONNECTION_CLOSE, struct.pack(">HBHH", 200, 0, 0, 0))
_ENDINGS: Final = {
    _CONNECTION_CLOSE: "the broker closed the connection",
    (20, 40): "the broker closed the channel",
    (60, 30): "the broker deleted the event queue of the consumer",
}


@handles("amqp", "amqps", "pyamqp")
class AmqpStream:
    """The events that Celery publishes to a topic exchange, read from a queue of our own.

    Both sides send a heartbeat every half of `heartbeat` seconds; a broker that is silent for two is lost.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        on_malformed: Callable[[Malformed], None],
        *,
        heartbeat: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._on_malformed = on_malformed
        self._content = ContentReader(broker.accept_content, on_malformed)
        self._clock = clock
        timeouts = {"read_timeout": REPLY_TIMEOUT, "write_timeout": REPLY_TIMEOUT}
        self._options = {**timeouts, "heartbeat": heartbeat}
        connection_for(broker, self._options)  # now, so that wrong settings show at once
        self._wire: Wire | None = None
        self._frames = FrameParser()

    def open(self) -> None:
        """Connect and consume. Raises StreamError."""
        self.close()
        connection = connection_for(self._broker, self._options)
        connect(connection, self._broker)
        try:
            _consume(connection, self._broker)
        except (AMQPError, OSError) as error:
            connection.release()
            raise cannot(self._broker, "read events", error) from error
        amqp = connection.connection
        self._frames = FrameParser(amqp.frame_max)
        beat = Beat(HEARTBEAT, every=amqp.heartbeat / 2, within=amqp.heartbeat * 1.5)
        self._wire = Wire(amqp.transport.sock, beat, maker=amqp, rest=_REST, clock=self._clock)

    def read(self, timeout: float) -> list[bytes]:
        """Return the JSON bodies that have arrived, [] when none does within `timeout` seconds."""
        if self._wire is None:
            raise StreamError("the stream is not open")
        deadline = self._clock() + timeout
        while True:
            left = deadline - self._clock()
            bodies = self._take(self._wire.receive(left))
            if bodies or left <= 0:
                return bodies

    def close(self) -> None:
        """Disconnect. Never raises."""
        if self._wire is None:
            return
        with contextlib.suppress(StreamError):
            self._wire.send(_FAREWELL)
        self._wire.close()
        self._wire = None

    def _take(self, data: memoryview) -> list[bytes]:
        bodies: list[bytes] = []
        try:
            for item in self._frames.feed(data):
                if isinstance(item, Delivery):
                    self._take_delivery(item, bodies)
                elif isinstance(item, Method):
                    _check(item)
                else:
                    self._on_malformed(item)
        except FrameError as error:
            raise StreamError(f"the broker does not speak AMQP 0-9-1: {error}") from error
        return bodies

    def _take_delivery(self, delivery: Delivery, bodies: list[bytes]) -> None:
        try:
            content = content_of(delivery.properties)
        except ValueError:
            self._on_malformed(Malformed.ENVELOPE)
            return
        body = delivery.body if content is JSON else self._content.to_json(delivery.body, content)
        if body is not None:
            bodies.append(body)


def _consume(connection: Any, broker: BrokerSettings) -> None:
    channel = connection.channel()
    queue = event_queue(broker, connection)(channel)
    queue.declare()
    # No reply is asked for: whatever comes from now on comes to us, not to py-amqp.
    channel.basic_consume(queue.name, consumer_tag=CONSUMER_TAG, no_ack=True, nowait=True)


def _check(method: Method) -> None:
    ending = _ENDINGS.get(method.id)
    if ending is not None:
        raise StreamError(f"{ending}: {mask_text(reply_of(method))}")
