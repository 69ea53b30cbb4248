"""Any other broker that kombu can speak to, at kombu's speed: memory, filesystem, and the rest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from kombu.exceptions import KombuError
from kombu.messaging import Consumer
from kombu.transport import virtual

from celery_observe.connection import cannot, connect, connection_for, event_queue
from celery_observe.errors import StreamError
from celery_observe.event import Malformed
from celery_observe.masking import mask_text
from celery_observe.settings import BrokerSettings
from celery_observe.streams import ANY_SCHEME, handles
from celery_observe.streams.content import Content, ContentReader

_BATCH: Final = 500
# What kombu raises for a message that it cannot take apart.
_BROKEN_ENVELOPE: Final = (LookupError, TypeError, ValueError, AttributeError)


class _SealedMessage(virtual.Message):
    """A message that stays as compressed as it came: we decompress it, within bounds."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **kwargs: Any) -> None:
        headers = dict(payload["headers"])
        self.compression: str | None = headers.pop("compression", None)
        super().__init__({**payload, "headers": headers}, channel=channel, **kwargs)  # type: ignore[no-untyped-call]


@handles(ANY_SCHEME)
class KombuStream:
    """The events of a broker that has no faster stream, through kombu's own consumer."""

    def __init__(self, broker: BrokerSettings, on_malformed: Callable[[Malformed], None]) -> None:
        self._broker = broker
        self._on_malformed = on_malformed
        self._content = ContentReader(broker.accept_content, on_malformed)
        self._connection = connection_for(broker, {})  # now, so that wrong settings show at once
        self._queue: Any = None
        self._bodies: list[bytes] = []

    def open(self) -> None:
        """Connect and consume. Raises StreamError."""
        self.close()
        self._connection = connection_for(self._broker, {})
        connect(self._connection, self._broker)
        try:
            self._consume(self._connection.channel())
        except _errors(self._connection) as error:
            self.close()
            raise cannot(self._broker, "read events", error) from error

    def read(self, timeout: float) -> list[bytes]:
        """Return the JSON bodies that have arrived, [] when none does within `timeout` seconds."""
        if self._queue is None:
            raise StreamError("the stream is not open")
        try:
            with suppress(TimeoutError):
                self._drain(timeout)
                while len(self._bodies) < _BATCH:
                    self._drain(0)
        except _errors(self._connection) as error:
            reason = mask_text(str(error)) or type(error).__name__
            raise StreamError(f"the connection is lost: {reason}") from error
        bodies, self._bodies = self._bodies, []
        return bodies

    def close(self) -> None:
        """Disconnect. Never raises."""
        queue, self._queue = self._queue, None
        with suppress(*_errors(self._connection), *_BROKEN_ENVELOPE):
            if queue is not None:
                queue.delete()  # for brokers that know no queue that is exclusive or deletes itself
        with suppress(*_errors(self._connection), *_BROKEN_ENVELOPE):
            self._connection.release()

    def _consume(self, channel: Any) -> None:
        if isinstance(channel, virtual.Channel):
            if not channel.supports_fanout:
                self._connection.release()
                raise StreamError(
                    f"{self._broker.masked_url}: kombu's {self._broker.transport} transport cannot publish to "
                    "many readers, so that Celery's events do not get here. Use Redis or RabbitMQ for events."
                )
            channel.Message = _SealedMessage
        self._queue = event_queue(self._broker, self._connection)(channel)
        Consumer(
            channel,
            queues=[self._queue],
            no_ack=True,
            on_message=self._receive,
            on_decode_error=self._refuse,
        ).consume()

    def _drain(self, timeout: float) -> None:
        try:
            self._connection.drain_events(timeout=timeout)
        except _BROKEN_ENVELOPE:
            self._on_malformed(Malformed.ENVELOPE)

    def _receive(self, message: Any) -> None:
        compression = getattr(message, "compression", None)
        content = Content(message.content_type, message.content_encoding, compression)
        payload = message.body.encode() if isinstance(message.body, str) else bytes(message.body or b"")
        body = self._content.to_json(payload, content)
        if body is not None:
            self._bodies.append(body)

    def _refuse(self, _message: Any, _error: Exception) -> None:
        self._on_malformed(Malformed.ENVELOPE)


def _errors(connection: Any) -> tuple[type[Exception], ...]:
    return (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
