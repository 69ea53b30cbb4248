"""What a Redis says of itself, and what the headers of its oldest messages say. Only commands that read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

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


def redis(broker: BrokerSettings, waiting: Iterable[str], ours: int) -> tuple[Redis, dict[str, str]]:
    """Return the facts, and why some are missing. Raises ProbeError.

    ``waiting`` are the queues to look into, ``ours`` is how many readers of events this process has open.
    """
    connection = redis_connection(broker)
    layout = layout_of(connection.transport.Channel, broker.transport_options)
    try:
        return _Server(redis_client(connection, broker), layout).facts(list(waiting)[:_MAX_QUEUES], ours)
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

    def facts(self, queues: list[str], ours: int) -> tuple[Redis, dict[str, str]]:
        info = self._allowed("redis.info", self._client.info) or {}
        limits = self._allowed("redis.output", lambda: self._client.config_get("client-output-buffer-limit")) or {}
        save = self._allowed("redis.save", lambda: self._client.config_get("save")) or {}
        clients = self._allowed("redis.clients", lambda: self._client.client_list(_type="pubsub"))
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
            observers=None if clients is None else _observers(clients) - ours,
            peeks=peeks,
        )
        return told, self._missing

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


def _observers(clients: Iterable[dict[str, Any]]) -> int:
    return sum(each.get("name") == CLIENT_NAME for each in clients)


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
