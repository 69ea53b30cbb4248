"""What the messages of kombu's virtual transports say of themselves, without their bodies being decoded. Pure."""

from __future__ import annotations

import msgspec

from celery_observe.attempt import unix_time

STAMP = "celery_observe_published"
"""The header in which the signal module leaves the time of publish, in microseconds of Unix time."""
_MICROSECONDS = 1_000_000


class Headers(msgspec.Struct, gc=False):
    """The headers of a task that tell of time (`celery/app/amqp.py`, `as_task_v2`)."""

    eta: str | None = None
    stamp: int | None = msgspec.field(default=None, name=STAMP)

    @property
    def due(self) -> float | None:
        """The ETA in Unix seconds."""
        return unix_time(self.eta) if self.eta else None

    @property
    def waits_since(self) -> float | None:
        """When it was published, or is due if that is later, in Unix seconds; None without a stamp."""
        return None if self.stamp is None else max(self.stamp / _MICROSECONDS, self.due or 0.0)


class Message(msgspec.Struct, gc=False):
    """A message as kombu stores it in a list: ``body``, ``headers``, ``properties``, …."""

    headers: Headers


_NO_HEADERS = Headers()
_message = msgspec.json.Decoder(Message)
_delivery = msgspec.json.Decoder(tuple[Message, str | None, str | None])


def headers_of(raw: bytes) -> Headers:
    """Return the headers of a message that waits in a list; none if it is not Celery's."""
    try:
        return _message.decode(raw).headers
    except (msgspec.DecodeError, RecursionError):
        return _NO_HEADERS


class Delivery(msgspec.Struct, gc=False):
    """A message that a worker holds: how it was sent, when it was delivered and is due, in Unix seconds."""

    exchange: str
    routing_key: str
    at: float
    due: float | None


def delivery_of(raw: bytes, at: float) -> Delivery | None:
    """Return what an entry of kombu's hash ``unacked`` says (`QoS.append`); None if it is not kombu's."""
    try:
        message, exchange, routing_key = _delivery.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return Delivery(exchange or "", routing_key or "", at, message.headers.due)
