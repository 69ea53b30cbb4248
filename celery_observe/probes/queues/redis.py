"""Redis: what its lists and the hash of unacknowledged messages hold, as kombu's Redis transport lays them out.

One pipelined round trip asks for everything but the entries of ``unacked`` that are new; those are fetched in bounded
chunks. No command keeps the server busy for long: SCAN, not KEYS; tags, not HVALS. kombu prefixes only
some commands with ``global_keyprefix``, so the client is redis-py's own and all keys are ours to prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from celery_observe.broker import BrokerSettings
from celery_observe.connection import redis_client, redis_connection
from celery_observe.metrics import Family, queues
from celery_observe.probes import Observed, Probe, Sample, asks
from celery_observe.probes.queues.asking import Moment, QueuesProbe
from celery_observe.probes.queues.bindings import Bindings
from celery_observe.probes.queues.keyspace import Keyspace
from celery_observe.probes.queues.messages import headers_of
from celery_observe.probes.queues.unacked import Held, Unacked
from celery_observe.settings import Settings

_SCAN_KEYS: Final = 1000
_TAGS: Final = 5000
"""Tags of unacknowledged messages asked for at a time."""
_OVERLAP: Final = 100
"""Tags asked for twice, since those before them may be acknowledged between two questions."""
MAX_UNACKED: Final = 50_000
"""Unacknowledged messages that are looked at; if there are more, none is told of by queue."""
_ENTRIES: Final = 100
"""Entries of ``unacked`` fetched at a time."""
_MAX_BYTES: Final = 32 * 1024 * 1024
"""Of new entries that are fetched in one round; the rest is left for the next."""


class Layout(NamedTuple):
    """Where kombu keeps things, by its transport options (`kombu/transport/redis.py`, `Channel`)."""

    prefix: str
    separator: str
    steps: tuple[int, ...]
    unacked: str
    unacked_index: str
    visibility_timeout: float

    def lists(self, queue: str) -> list[str]:
        """Return the keys of a queue, one for each step of priority (`Channel._q_for_pri`)."""
        return [f"{self.prefix}{queue}{ending}" for ending in self.endings]

    @property
    def endings(self) -> list[str]:
        """What the keys of a queue end with, one for each step of priority; nothing for the first."""
        return [f"{self.separator}{step}" if step else "" for step in self.steps]


class _Depth(NamedTuple):
    """One queue: the length of each of its lists, and since when their oldest messages wait, None if not known."""

    lengths: list[int]
    heads: list[float | None]


class _Look(NamedTuple):
    """What one round trip brought."""

    depths: dict[str, _Depth]
    tags: dict[bytes, float]
    unacked: int


@asks("queues", "redis", "rediss", "sentinel")
def redis_queues(broker: BrokerSettings, settings: Settings, observed: Observed) -> list[Probe]:
    """Return the probe for Redis, none if queues are not to be asked."""
    return [RedisQueues(broker, settings, observed)] if settings.queue_probe else []


class RedisQueues(QueuesProbe):
    """The queues of one Redis database."""

    name = "queues.redis"
    first_scans = 20
    """Steps through the keyspace on connect; later rounds go one step each."""
    families: tuple[Family, ...] = (
        queues.WAITING,
        queues.IN_FLIGHT,
        queues.SCHEDULED,
        queues.ETA_BEYOND_VISIBILITY_TIMEOUT,
        queues.UNATTRIBUTED,
        queues.OLDEST_AGE,
        queues.CONSUMERS,
        queues.DEAD_LETTERS,
        queues.ORPHANS,
    )

    def __init__(self, broker: BrokerSettings, settings: Settings, observed: Observed) -> None:
        super().__init__(broker, settings, observed)
        self._connection = redis_connection(broker)
        channel = self._connection.transport.Channel
        self._layout = layout_of(channel, broker.transport_options)
        self._bindings = Bindings(self._layout.separator)
        self._keyspace = Keyspace(self._names, self._layout.prefix, self._layout.endings)
        self._unacked = Unacked(self._layout.visibility_timeout, self._bindings.queues_of)
        self._client: Redis | None = None

    def ask(self) -> list[Sample]:
        """Look at all queues. Raises ProbeError or StreamError."""
        try:
            client = self._client or self._connect()
            look = self._look(client)
            complete = self._read_unacked(client, look)
        except (RedisError, OSError) as error:
            raise self._unreadable(error) from error
        return [*self._tell(look, complete=complete)]

    def close(self) -> None:
        """Disconnect."""
        self._client = None
        self._connection.release()

    def _connect(self) -> Redis:
        self._connection = redis_connection(self._broker)
        client = self._client = redis_client(self._connection, self._broker)
        for _ in range(self.first_scans):
            if self._keyspace.take(*self._scan(client)):
                break
        exchanges = self._keyspace.exchanges()
        self._bind(exchanges, [client.smembers(self._keyspace.key_of(exchange)) for exchange in exchanges])
        return client

    def _scan(self, client: Any) -> Any:
        return client.scan(self._keyspace.cursor, match=self._keyspace.pattern, count=_SCAN_KEYS)

    # -- one round trip

    def _look(self, client: Redis) -> _Look:
        """Ask for everything at once, and take in what is found of the layout for the next time."""
        names, exchanges = self._names.select(self._found()), self._keyspace.exchanges()
        keys = [key for name in names for key in self._layout.lists(name)]
        pipe: Any = client.pipeline(transaction=False)
        for key in keys:
            pipe.llen(key)
            pipe.lindex(key, -1)
        for exchange in exchanges:
            pipe.smembers(self._keyspace.key_of(exchange))
        pipe.zrange(self._layout.unacked_index, 0, _TAGS - 1, withscores=True)
        pipe.zcard(self._layout.unacked_index)
        self._scan(pipe)
        replies = map(_checked, pipe.execute(raise_on_error=False))
        depths = {name: self._list_depth(replies) for name in names}
        self._bind(exchanges, islice(replies, len(exchanges)))
        tags, unacked, step = replies
        self._keyspace.take(*step)
        return _Look(depths, dict(tags), unacked)

    def _list_depth(self, replies: Iterator[Any]) -> _Depth:
        pairs = [(next(replies) or 0, next(replies)) for _ in self._layout.steps]
        return _Depth(
            [length for length, _ in pairs],
            [headers_of(head).waits_since for length, head in pairs if length and head is not None],
        )

    def _bind(self, exchanges: Iterable[str], tables: Iterable[Any]) -> None:
        for exchange, members in zip(exchanges, tables, strict=True):
            if members:
                self._bindings.update(exchange, members)
            else:
                self._bindings.forget(exchange)
                self._keyspace.forget(exchange)

    def _found(self) -> set[str]:
        return {*self._bindings.queues(), *self._keyspace.lists(), *self._heard()}

    # -- unacknowledged messages

    def _read_unacked(self, client: Any, look: _Look) -> bool:
        """Fetch the entries that are new, within bounds, and say whether all are known now."""
        if look.unacked > MAX_UNACKED:
            return False
        for start in range(_TAGS, look.unacked, _TAGS):
            look.tags.update(
                client.zrange(self._layout.unacked_index, start - _OVERLAP, start + _TAGS - 1, withscores=True),
            )
        unread, size = self._unacked.unread(look.tags), 0
        for start in range(0, len(unread), _ENTRIES):
            if size > _MAX_BYTES:
                return False
            tags = unread[start : start + _ENTRIES]
            entries = client.hmget(self._layout.unacked, tags)
            size += sum(len(entry) for entry in entries if entry is not None)
            self._unacked.read((tag, look.tags[tag], entry) for tag, entry in zip(tags, entries, strict=True))
        return True

    # -- samples

    def _tell(self, look: _Look, *, complete: bool) -> Iterator[Sample]:
        moment = self._moment()
        held = self._unacked.held(moment.now) if complete else None
        for name, depth in look.depths.items():
            if self._is_there(name, depth, moment, held):
                lengths = zip(map(str, self._layout.steps), depth.lengths, strict=True)
                yield from self._queue(name, dict(lengths), moment, since=_since(depth))
                if moment.consumers is not None:
                    yield Sample(queues.CONSUMERS, (name,), moment.consumers.get(name, 0))
                if held is not None and name not in held.doubtful:
                    yield from _held_of(name, held)
        yield Sample(queues.UNATTRIBUTED, (), look.unacked if held is None else held.unattributed)
        if self._keyspace.orphans is not None:
            yield Sample(queues.ORPHANS, (), self._keyspace.orphans)

    def _is_there(self, name: str, depth: _Depth, moment: Moment, held: Held | None) -> bool:
        """Whether a queue exists: an event alone does not say that it still does."""
        return (
            name in self._names.declared
            or name in (moment.consumers or {})
            or any(depth.lengths)
            or name in self._bindings.queues()
            or (held is not None and (held.in_flight[name] + held.scheduled[name]) > 0)
        )


def _held_of(name: str, held: Held) -> Iterator[Sample]:
    yield Sample(queues.IN_FLIGHT, (name,), held.in_flight[name])
    yield Sample(queues.SCHEDULED, (name,), held.scheduled[name])
    yield Sample(queues.ETA_BEYOND_VISIBILITY_TIMEOUT, (name,), held.late[name])


def _since(depth: _Depth) -> float | None:
    """Return since when the oldest message waits, if the oldest of each list has a stamp."""
    stamps = [stamp for stamp in depth.heads if stamp is not None]
    return min(stamps) if stamps and len(stamps) == len(depth.heads) else None


def _checked(reply: Any) -> Any:
    """Return a reply of a pipeline, None where a key holds no queue but something else of that name."""
    if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply


def layout_of(channel: Any, options: Mapping[str, Any]) -> Layout:
    """Return the layout by the transport options, and by kombu's own defaults where they are silent."""

    def option(name: str) -> Any:
        return options.get(name, getattr(channel, name))

    prefix = str(option("global_keyprefix"))
    return Layout(
        prefix,
        str(option("sep")),
        tuple(option("priority_steps")),
        f"{prefix}{option('unacked_key')}",
        f"{prefix}{option('unacked_index_key')}",
        float(option("visibility_timeout")),
    )
