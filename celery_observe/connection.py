"""Kombu's connection to a broker, made from settings: it parses URLs, TLS options and lists of alternates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from celery.events.event import get_exchange
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import KombuError
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_observe.errors import SettingsError, StreamError
from celery_observe.masking import mask_text
from celery_observe.settings import BrokerSettings

CONNECT_TIMEOUT: Final = 2.0
"""Seconds for the TCP connection to one of the broker's addresses, unless the settings allow less."""
REPLY_TIMEOUT: Final = 3.0
"""Seconds for each answer while connecting."""
_VERIFY: Final = "certificate verify failed"
_DISTRUST: Final = "Give the CA of its certificate with --broker-tls-ca-file, and the host that the certificate names."
_CHECK: Final = "Check that the broker runs, and the user, password, host, port and path of its URL."


class VerifiedConnection(Connection):
    """A connection that verifies each of a broker's addresses by the name of its own.

    kombu writes the first host into the options of TLS (`transport/pyamqp.py`), where it would be the name of all.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._tls = options.get("ssl", False)
        super().__init__(*args, **options | {"ssl": _copy(self._tls)})  # type: ignore[no-untyped-call]

    def switch(self, conn_str: str) -> None:
        """Use another of the addresses."""
        if isinstance(self._tls, Mapping) and "server_hostname" in self._tls:
            self._initial_params["ssl"] = _copy(self._tls)
        super().switch(conn_str)  # type: ignore[no-untyped-call]


def _copy(ssl: Any) -> Any:
    return dict(ssl) if isinstance(ssl, Mapping) else ssl


def connection_for(broker: BrokerSettings, options: Mapping[str, Any]) -> Any:
    """Return a closed connection, with `options` over the user's transport options.

    Raises SettingsError when kombu knows no such transport or URL parameter.
    """
    try:
        connection = VerifiedConnection(
            broker.url,
            ssl=broker.tls,
            connect_timeout=min(CONNECT_TIMEOUT, broker.connection_timeout),
            login_method=broker.login_method,
            failover_strategy=broker.failover_strategy or "round-robin",
            transport_options={**broker.transport_options, **options},
        )
        connection.transport  # noqa: B018 - imports what the transport needs
    except (KeyError, TypeError, ImportError) as error:
        raise SettingsError(f"{broker.masked_url}: {error}. Check its scheme and its parameters.") from error
    except ValueError:  # whose text may quote a part of the password
        raise SettingsError(
            f"{broker.masked_url}: not a URL. Percent-encode special characters in user and password."
        ) from None
    return connection


def connect(connection: Any, broker: BrokerSettings) -> None:
    """Connect to the first of the broker's addresses that answers; each is tried once. Raises StreamError."""
    errors = (*connection.connection_errors, *connection.channel_errors, KombuError, OSError, ValueError)
    retries = max(len(connection.alt), 1) - 1
    try:
        connection.ensure_connection(max_retries=retries, interval_start=0, interval_step=0, interval_max=0)
    except errors as error:
        connection.release()
        raise cannot(broker, "connect", error) from error


def redis_connection(broker: BrokerSettings) -> Any:
    """Return a closed connection to Redis or its Sentinels, bounded in time. Raises SettingsError."""
    timeouts = {"socket_connect_timeout": CONNECT_TIMEOUT, "socket_timeout": REPLY_TIMEOUT}
    once = {**timeouts, "retry": Retry(NoBackoff(), 0)}
    sentinel = once | (broker.transport_options.get("sentinel_kwargs") or {})
    return connection_for(broker, {**timeouts, "socket_keepalive": True, "sentinel_kwargs": sentinel})


def redis_client(connection: Any, broker: BrokerSettings) -> Redis:
    """Connect, and return a client that asks once and prefixes no key. Raises StreamError."""
    connect(connection, broker)
    pool = connection.default_channel.pool
    pool.connection_kwargs |= {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
    return Redis(connection_pool=pool)


def cannot(broker: BrokerSettings, do_what: str, error: BaseException) -> StreamError:
    """Return the StreamError for what failed while opening a stream."""
    reason = mask_text(str(error)).strip().rstrip(".") or type(error).__name__
    return StreamError(f"{broker.masked_url}: cannot {do_what}: {reason}. {_DISTRUST if _VERIFY in reason else _CHECK}")


def event_queue(broker: BrokerSettings, connection: Any) -> Any:
    """Return the queue that an event receiver reads, as `celery/events/receiver.py` declares it."""
    return Queue(
        f"{broker.event_queue_prefix}.{uuid4()}",
        exchange=get_exchange(connection, name=broker.event_exchange),
        routing_key="#",
        auto_delete=not broker.event_queue_durable,
        durable=broker.event_queue_durable,
        exclusive=broker.event_queue_exclusive,
        message_ttl=broker.event_queue_ttl,
        expires=broker.event_queue_expires,
    )
