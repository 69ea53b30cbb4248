"""Redis, its TLS, Unix socket and Sentinel variants: pub/sub read straight from the socket.

Kombu and redis-py connect (authentication, TLS, Sentinel, database); from then on the socket is ours.
Channel names are those of `kombu/transport/redis.py: Channel._get_subscribe_topic`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import hiredis
import msgspec
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from celery_observe.connection import CONNECT_TIMEOUT, REPLY_TIMEOUT, cannot, connect, connection_for
from celery_observe.errors import StreamError
from celery_observe.event import MAX_BODY_BYTES, Malformed
from celery_observe.settings import BrokerSettings
from celery_observe.streams import handles
from celery_observe.streams.content import ContentReader
from celery_observe.streams.envelope import json_envelope, unwrap
from celery_observe.streams.wire import Beat, Wire

CLIENT_NAME: Final = "celery-observe"
"""How we are called in `CLIENT LIST`."""
_INCOMPLETE: Final = False
_PING: Final = hiredis.pack_command(("PING",))
# hiredis moves the rest of its buffer after every reply, which makes large feeds several times as dear.
_FEED_BYTES: Final = 16 * 1024
_PMESSAGE_LENGTH: Final = 4  # its name, the pattern, the channel, the payload
_MAX_REPLY_BYTES: Final = 2 * MAX_BODY_BYTES
_MESSAGE: Final = 4  # pmessage, pattern, channel, payload
_REST: Final = 0.02


@handles("redis", "rediss", "sentinel")
class RedisStream:
    """The events that Celery publishes to Redis channels, one channel for each type of event.

    Every `ping_every` seconds the server is asked for a sign of life, for which it has `pong_within` seconds.
    """

    def __init__(
        self,
        broker: BrokerSettings,
        on_malformed: Callable[[Malformed], None],
        *,
        ping_every: float = 2.0,
        pong_within: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._replies = Replies(ContentReader(broker.accept_content, on_malformed), on_malformed)
        self._ping = Beat(_PING, every=ping_every, within=pong_within)
        self._clock = clock
        self._wire: Wire | None = None
        connection_for(broker, _options(broker))  # now, so that wrong settings show at once

    def open(self) -> None:
        """Connect and subscribe. Raises StreamError."""
        self.close()
        connection, pattern = _connect(self._broker)
        sock = connection._sock  # noqa: SLF001 - redis-py has no other way to it
        self._wire = Wire(sock, self._ping, maker=connection, rest=_REST, clock=self._clock)
        self._replies.reset()
        try:
            self._subscribe(self._wire, pattern)
        except StreamError as error:
            self.close()
            raise cannot(self._broker, f"subscribe to {pattern}", error) from error

    def read(self, timeout: float) -> list[bytes]:
        """Return the JSON bodies that have arrived, [] when none does within `timeout` seconds."""
        if self._wire is None:
            raise StreamError("the stream is not open")
        deadline = self._clock() + timeout
        while True:
            left = deadline - self._clock()
            bodies = self._replies.feed(self._wire.receive(left))
            if bodies or left <= 0:
                return bodies

    def close(self) -> None:
        """Disconnect. Never raises."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _subscribe(self, wire: Wire, pattern: str) -> None:
        command: Any = ("PSUBSCRIBE", pattern)
        wire.send(hiredis.pack_command(command))
        deadline = self._clock() + REPLY_TIMEOUT
        while not self._replies.subscribed:
            left = deadline - self._clock()
            if left <= 0:
                raise StreamError("no answer")
            self._replies.feed(wire.receive(left))


class Replies:
    """What the server says on a subscribed connection (RESP 2), to JSON bodies. No I/O."""

    def __init__(self, content: ContentReader, on_malformed: Callable[[Malformed], None]) -> None:
        self._content = content
        self._on_malformed = on_malformed
        self.reset()

    def reset(self) -> None:
        """Start over, on a new connection."""
        self._reader: Any = hiredis.Reader()  # its `feed` takes any buffer
        self._unfinished = 0
        self.subscribed = False
        """Whether the server has confirmed the subscription."""

    def feed(self, data: memoryview) -> list[bytes]:
        """Return the bodies that `data`, split anywhere, completes.

        Raises StreamError when the server reports an error, or sends what is no RESP or too large.
        """
        bodies: list[bytes] = []
        try:
            for start in range(0, len(data), _FEED_BYTES):
                self._reader.feed(data[start : start + _FEED_BYTES])
                self._unfinished += _FEED_BYTES
                self._take(bodies)
        except hiredis.ProtocolError as error:
            raise StreamError(f"the server does not speak the Redis protocol: {error}") from error
        if self._unfinished > _MAX_REPLY_BYTES:
            self._on_malformed(Malformed.TOO_LARGE)
            raise StreamError("a message is too large to be an event, and is skipped by a new connection")
        return bodies

    def _take(self, bodies: list[bytes]) -> None:
        """Take the replies that are complete. The loop that every event goes through: no call that can be spared."""
        replies = list(iter(self._reader.gets, False))  # noqa: FBT003 - what hiredis says when there is no more
        if replies:
            self._unfinished = 0
        for reply in replies:
            if not isinstance(reply, list) or len(reply) != _MESSAGE:
                self._heed(reply)
                continue
            try:
                bodies.append(json_envelope(reply[3]).body)
            except (msgspec.DecodeError, ValueError, RecursionError):
                bodies += self._other_content(reply[3])

    def _other_content(self, envelope: bytes) -> list[bytes]:
        """Return the body of an envelope as JSON, if it can be had."""
        try:
            body, content = unwrap(envelope)
        except (msgspec.DecodeError, ValueError, RecursionError):
            self._on_malformed(Malformed.ENVELOPE)
            return []
        read = self._content.to_json(body, content)
        return [] if read is None else [read]

    def _heed(self, reply: Any) -> None:
        """Take what is no message: a confirmation, the answer to PING, or an error."""
        if isinstance(reply, hiredis.ReplyError):
            raise StreamError(f"the server says: {reply}")
        self.subscribed |= reply[0] == b"psubscribe"


def _options(broker: BrokerSettings) -> dict[str, Any]:
    timeouts = {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_timeout": REPLY_TIMEOUT}
    # Without it each Sentinel that is down would be asked again and again before the next.
    once = {**timeouts, "retry": Retry(NoBackoff(), 0)}
    sentinel = once | (broker.transport_options.get("sentinel_kwargs") or {})
    return {**timeouts, "socket_keepalive": True, "sentinel_kwargs": sentinel}


def _connect(broker: BrokerSettings) -> tuple[Any, str]:
    """Return redis-py's connection, which speaks RESP 2, and the pattern to subscribe to."""
    connection = connection_for(broker, _options(broker))
    connect(connection, broker)
    try:
        channel = connection.default_channel
        pool = channel.pool
        pool.connection_kwargs["protocol"] = 2
        redis_connection = pool.make_connection()
        redis_connection.connect()
        _say_who(redis_connection)
        return redis_connection, _pattern(channel, broker.event_exchange)
    except (RedisError, OSError) as error:
        raise cannot(broker, "connect to the broker", error) from error
    finally:
        connection.release()


def _say_who(redis_connection: Any) -> None:
    """Name the connection; a user who may not is served all the same."""
    with suppress(ResponseError):
        redis_connection.send_command("CLIENT", "SETNAME", CLIENT_NAME)
        redis_connection.read_response()


def _pattern(channel: Any, exchange: str) -> str:
    suffix = "/*" if channel.fanout_patterns else ""
    return f"{channel.global_keyprefix}{channel.keyprefix_fanout}{exchange}{suffix}"
