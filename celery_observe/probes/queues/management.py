"""RabbitMQ's management API: what AMQP does not tell. Nothing is taken from a queue to look at it.

Its numbers are as old as RabbitMQ's `collect_statistics_interval`, 5 s unless set.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from celery_observe.broker import BrokerSettings, name_and_url
from celery_observe.connection import REPLY_TIMEOUT, connection_for
from celery_observe.errors import ProbeError
from celery_observe.masking import mask_url
from celery_observe.metrics import Family, queues
from celery_observe.probes import Observed, Sample
from celery_observe.probes.queues.asking import Moment, QueuesProbe
from celery_observe.probes.queues.delayed import Binding, Delays, scheduled
from celery_observe.probes.queues.names import delay_prefix
from celery_observe.settings import Settings

_MAX_BYTES: Final = 64 * 1024 * 1024
_BINDINGS_EVERY: Final = 60.0
"""Seconds between two looks at the bindings, which seldom change."""
_COLUMNS: Final = (
    "name,exclusive,messages_ready,messages_unacknowledged,consumers,head_message_timestamp,"
    "message_stats.publish,message_stats.deliver_get,message_stats.redeliver,message_stats.ack,"
    "backing_queue_status.priority_lengths"
)
_OK: Final = 200
T = TypeVar("T")


class _Stats(msgspec.Struct):
    publish: int | None = None
    deliver_get: int | None = None
    redeliver: int | None = None
    ack: int | None = None


class _Backing(msgspec.Struct):
    priority_lengths: dict[str, int] | None = None


class Queue(msgspec.Struct):
    """One queue as the API describes it; what is not known yet of a new one is None."""

    name: str
    exclusive: bool = False
    messages_ready: int | None = None
    messages_unacknowledged: int | None = None
    consumers: int | None = None
    head_message_timestamp: Any = None
    message_stats: _Stats | None = None
    backing_queue_status: _Backing | None = None

    def lengths(self) -> dict[str, int]:
        """Return the messages that are ready by priority; a queue without priorities has them under an empty one."""
        lengths = self.backing_queue_status.priority_lengths if self.backing_queue_status else None
        return lengths or {"": self.messages_ready or 0}

    @property
    def waits_since(self) -> float | None:
        """When the oldest message was published, in Unix seconds, if its publisher set the property ``timestamp``."""
        stamp = self.head_message_timestamp
        return float(stamp) if self.messages_ready and isinstance(stamp, int | float) and stamp > 0 else None


class Api:
    """One virtual host in a management API."""

    def __init__(self, url: str, credentials: tuple[str, str], virtual_host: str, context: ssl.SSLContext) -> None:
        parts = urlsplit(url)
        self._url = mask_url(url)
        self._path = f"{parts.path.rstrip('/')}/api/{{}}/{quote(virtual_host, safe='')}"
        user, password = credentials
        if parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
        self._headers = {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
        host = parts.hostname or ""
        self._connection = (
            HTTPSConnection(host, parts.port or 443, timeout=REPLY_TIMEOUT, context=context)
            if parts.scheme == "https"
            else HTTPConnection(host, parts.port or 15672, timeout=REPLY_TIMEOUT)
        )

    def get(self, what: str, kind: type[T], columns: str) -> T:
        """Return the ``queues`` or ``bindings`` of the virtual host. Raises ProbeError."""
        try:
            self._connection.request("GET", f"{self._path.format(what)}?columns={columns}", headers=self._headers)
            response = self._connection.getresponse()
            body = response.read(_MAX_BYTES)
            if response.status != _OK:
                raise ProbeError(
                    f"{self._url}: {response.status} {response.reason}. Check the user, who needs the tag "
                    "`monitoring`, the password, and the virtual host of the broker's URL."
                )
            return msgspec.json.decode(body, type=kind)
        except (OSError, HTTPException, msgspec.DecodeError) as error:
            raise ProbeError(f"{self._url}: the management API gives no answer: {error}") from error
        finally:
            self._connection.close()

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()


def management_of(broker: BrokerSettings, settings: Settings) -> Api | None:
    """Return the management API of a broker, None if the settings name none."""
    url = dict(map(name_and_url, settings.management_url)).get(broker.name)
    if url is None:
        return None
    connection = connection_for(broker, {})
    context = ssl.create_default_context(cafile=settings.broker_tls_ca_file)
    if settings.broker_tls_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    credentials = connection.userid or "guest", connection.password or "guest"
    return Api(url, credentials, connection.virtual_host or "/", context)


class ManagementQueues(QueuesProbe):
    """All queues of one virtual host."""

    name = "queues.management"
    families: tuple[Family, ...] = (
        queues.WAITING,
        queues.IN_FLIGHT,
        queues.SCHEDULED,
        queues.UNATTRIBUTED,
        queues.OLDEST_AGE,
        queues.CONSUMERS,
        queues.DEAD_LETTERS,
        queues.ORPHANS,
        queues.PUBLISHED,
        queues.DELIVERED,
        queues.REDELIVERED,
        queues.ACKNOWLEDGED,
    )

    def __init__(self, broker: BrokerSettings, settings: Settings, observed: Observed, api: Api) -> None:
        super().__init__(broker, settings, observed)
        self._api = api
        self._delays = Delays([])
        self._delays_at = 0.0

    def ask(self) -> list[Sample]:
        """Read all queues at once. Raises ProbeError."""
        listed = self._api.get("queues", list[Queue], _COLUMNS)
        delaying = any(delay_prefix(queue.name) is not None for queue in listed)
        if delaying and self._clock() - self._delays_at > _BINDINGS_EVERY:
            bindings = self._api.get("bindings", list[Binding], "source,destination,destination_type,routing_key")
            self._delays, self._delays_at = Delays(bindings), self._clock()
        return [*self._tell(listed)]

    def close(self) -> None:
        """Disconnect."""
        self._api.close()

    def _tell(self, listed: list[Queue]) -> Iterator[Sample]:
        moment = self._moment()
        known = {queue.name: queue for queue in listed if queue.messages_ready is not None}
        there = {queue.name for queue in known.values() if not queue.exclusive}
        for name in self._names.select(there):
            queue = known.get(name) or Queue(name)
            yield Sample(queues.CONSUMERS, (name,), queue.consumers or 0)
            yield Sample(queues.IN_FLIGHT, (name,), queue.messages_unacknowledged or 0)
            yield from self._queue(name, queue.lengths(), moment, since=queue.waits_since)
            yield from _counters(queue)
        yield from self._delayed(known, moment)
        orphans = [queue for queue in known.values() if self._names.is_event_or_mailbox(queue.name)]
        yield Sample(queues.ORPHANS, (), sum(not queue.consumers for queue in orphans))

    def _delayed(self, known: dict[str, Queue], moment: Moment) -> Iterator[Sample]:
        """Tell whose the delayed messages are, as far as that is certain."""
        totals: Counter[str] = Counter()
        for name, queue in known.items():
            prefix = delay_prefix(name)
            if prefix is not None:
                totals[prefix] += queue.messages_ready or 0
        unattributed = 0
        for prefix, total in totals.items():
            shares = scheduled(total, self._delays.targets(prefix), moment.waiting, moment.now)
            unattributed += total if shares is None else 0
            for name in filter(self._names.is_wanted, shares or ()):
                yield Sample(queues.SCHEDULED, (name,), (shares or {})[name])
        yield Sample(queues.UNATTRIBUTED, (), unattributed)


def _counters(queue: Queue) -> Iterator[Sample]:
    stats = queue.message_stats
    if stats is None:
        return
    for family, value in (
        (queues.PUBLISHED, stats.publish),
        (queues.DELIVERED, stats.deliver_get),
        (queues.REDELIVERED, stats.redeliver),
        (queues.ACKNOWLEDGED, stats.ack),
    ):
        if value is not None:
            yield Sample(family, (queue.name,), value)
