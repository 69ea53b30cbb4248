"""What a Redis says of itself, and what the headers of its oldest messages say. Only commands that read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import msgspec
from redis import Redis as Client
from redis.exceptions import RedisError, ResponseError

from celery_observe.broker import BrokerSettings
from celery_observe.connection import redis_client, redis_connection
from celery_observe.doctor.evidence import OutputLimit, Peek, Redis
from celery_observe.errors import ProbeError
from celery_observe.masking import mask_text
from celery_observe.probes.queues.messages import STAMP
from celery_observe.probes.queues.redis import Layout, layout_of
from celery_observe.streams.redis import CLIENT_NAME

_MAX_QUEUES = 50
"""Queues that are looked into."""
_MESSAGES = 10
"""The oldest messages of each of their lists, whose headers are read."""
_MAX_BYTES = 8 * 1024 * 1024
"""Of messages that are fetched, after which no further queue is looked into."""
_LARGE = 256 * 1024
"""Bytes of a message on average above which a list is not looked into."""
_SAMPLES = 3
T = TypeVar("T")


class _Headers(msgspec.Struct):
    task: str = ""
    stamp: float | None = msgspec.field(default=None, name=STAMP)


class _Properties(msgspec.Struct):
    priority: int | None = None


class _Message(msgspec.Struct):
    """A message as kombu stores it in a list; its body is skipped by the decoder."""

    headers: _Headers
    properties: _Properties = msgspec.field(default_factory=_Properties)
    content_type: str = msgspec.field(default="", name="content-type")


_message = msgspec.json.Decoder(_Message)


class Told(NamedTuple):
    """The facts, and what is missing and why."""

    redis: Redis
    missing: dict[str, str]


def redis(broker: BrokerSettings, waiting: Iterable[str]) -> Told:
    """Return what a Redis tells; ``waiting`` are the queues to look into. Raises ProbeError."""
    return _asked(broker, lambda server: server.facts(list(waiting)[:_MAX_QUEUES]))


def observers(broker: BrokerSettings) -> int:
    """Return how many exporters read the events of a Redis. Raises ProbeError."""
    return _asked(broker, lambda server: server.observers())


def _asked(broker: BrokerSettings, ask: Callable[[_Server], T]) -> T:
    connection = redis_connection(broker)
    layout = layout_of(connection.transport.Channel, broker.transport_options)
    try:
        return ask(_Server(redis_client(connection, broker), layout))
    except (RedisError, OSError) as error:
        raise ProbeError(f"{broker.masked_url}: {mask_text(str(error)) or type(error).__name__}") from error
    finally:
        connection.release()


class _Server:
    """One server; commands that it refuses are named."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client: Any = client
        self._layout = layout
        self._missing: dict[str, str] = {}

    def facts(self, queues: list[str]) -> Told:
        info = self._allowed("redis.info", self._client.info) or {}
        limits = self._allowed("redis.output", lambda: self._client.config_get("client-output-buffer-limit")) or {}
        save = self._allowed("redis.save", lambda: self._client.config_get("save")) or {}
        peeks = self._allowed("redis.messages", lambda: self._peeks(queues)) or ()
        told = Redis(
            version=str(info.get("redis_version", "")),
            max_memory=int(info.get("maxmemory", 0)),
            policy=str(info.get("maxmemory_policy", "noeviction")),
            evicted=int(info.get("evicted_keys", 0)),
            appends=bool(info.get("aof_enabled")),
            save=save.get("save"),
            output_limit=output_limit(limits.get("client-output-buffer-limit", "")),
            disconnected=info.get("client_output_buffer_limit_disconnections"),
            skew=self._allowed("redis.time", self._skew),
            visibility_timeout=self._layout.visibility_timeout,
            priority_steps=self._layout.steps,
            peeks=peeks,
        )
        return Told(told, self._missing)

    def observers(self) -> int:
        return sum(each.get("name") == CLIENT_NAME for each in self._client.client_list(_type="pubsub"))

    def _allowed(self, part: str, ask: Callable[[], T]) -> T | None:
        """Return an answer; None and the reason for a command that this user, or a managed server, may not use."""
        try:
            return ask()
        except ResponseError as error:
            self._missing[part] = f"Redis says: {mask_text(str(error))}"
            return None

    def _skew(self) -> float:
        before = time.time()
        seconds, micros = self._client.time()
        return (before + time.time()) / 2 - float(seconds + micros / 1e6)

    def _peeks(self, queues: list[str]) -> tuple[Peek, ...]:
        found, size = [], 0
        for queue in queues:
            raw = [message for key in self._layout.lists(queue) for message in self._oldest(key)]
            found.append(peek(queue, raw))
            size += sum(map(len, raw))
            if size > _MAX_BYTES:
                break
        return tuple(found)

    def _oldest(self, key: str) -> list[bytes]:
        """Return the oldest messages of a list, none if they are so large that fetching them would take long."""
        length = self._client.llen(key)
        size = self._client.memory_usage(key, samples=_SAMPLES) if length else None
        if not size or size / length > _LARGE:
            return []
        found: list[bytes] = self._client.lrange(key, -_MESSAGES, -1)
        return found


def peek(queue: str, raw: Iterable[bytes]) -> Peek:
    """Return what the headers of messages say; those that are not Celery's say nothing. Pure."""
    messages = []
    for each in raw:
        try:
            messages.append(_message.decode(each))
        except (msgspec.DecodeError, RecursionError, ValueError):
            continue
    return Peek(
        queue=queue,
        tasks=frozenset(each.headers.task for each in messages if each.headers.task),
        content_types=frozenset(each.content_type for each in messages if each.content_type),
        priorities=frozenset(each.properties.priority for each in messages if each.properties.priority is not None),
        stamped=any(each.headers.stamp is not None for each in messages),
    )


def output_limit(text: str) -> OutputLimit | None:
    """Return the limit for pub/sub out of `client-output-buffer-limit`: `normal 0 0 0 pubsub 33554432 8388608 60`."""
    words = text.split()
    try:
        at = words.index("pubsub")
        return OutputLimit(*map(int, words[at + 1 : at + 4]))
    except (ValueError, TypeError):
        return None
