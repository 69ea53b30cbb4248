"""What has to be known to talk to one broker, and what its URL says."""

from __future__ import annotations

import re
import ssl
from typing import Any
from urllib.parse import urlsplit

import msgspec
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.url import url_to_parts

from celery_observe.masking import mask, mask_url

REDIS = frozenset({"redis", "rediss", "sentinel"})
AMQP = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
_TLS = frozenset({"rediss", "amqps"})


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One broker to observe. Times are seconds; defaults are Celery's (`celery/app/defaults.py`)."""

    url: str
    """As kombu takes it: `;` separates alternates."""
    name: str = ""
    """The `broker` label; empty when there is only one broker."""
    transport_options: dict[str, Any] = {}
    """As Celery's `broker_transport_options`, `global_keyprefix` and `sep` included."""
    use_ssl: bool | dict[str, Any] | None = None
    """As Celery's `broker_use_ssl`; None leaves it to the URL. See `tls`."""
    accept_content: tuple[str, ...] = ("json",)
    event_exchange: str = "celeryev"
    event_queue_prefix: str = "celeryev"
    event_queue_ttl: float | None = 5.0
    """How long the broker keeps an event that is not read."""
    event_queue_expires: float | None = 60.0
    """How long the broker keeps a queue that nobody reads."""
    event_queue_exclusive: bool = True
    event_queue_durable: bool = False
    control_exchange: str = "celery"
    connection_timeout: float = 4.0
    login_method: str | None = None
    failover_strategy: str | None = None
    task_queue: dict[str, str] = {}
    """Task name pattern → queue; the first match counts."""
    default_queue: str | None = None
    """Where the app sends tasks that no route matches; None without an app."""
    queues: tuple[str, ...] = ()
    """The queues that the app declares."""
    entries: dict[str, str] = {}
    """Task → the entry of the app's `beat_schedule`, of tasks that one entry alone names."""
    app: Any = None
    """The user's `celery.Celery`, if it talks to this broker as it stands."""

    @property
    def transport(self) -> str:
        """The transport that kombu uses, such as `redis`."""
        return transport_of(self.url)

    @property
    def tls(self) -> bool | dict[str, Any]:
        """What kombu is told of TLS: `use_ssl`, else to verify certificate and host if a URL asks for TLS.

        Told nothing it would verify nothing of `rediss://`, and not the host of `amqps://`. What the query of a
        URL says, such as `ssl_cert_reqs`, it puts first.
        """
        if self.use_ssl or not any(transport_of(url) in _TLS for url in self.url.split(";")):
            return self.use_ssl or False
        return tls_options(self.transport, {}, verify=True)

    @property
    def masked_url(self) -> str:
        """The URL as it may be shown."""
        return mask_url(self.url)

    def masked(self) -> dict[str, Any]:
        """Return the fields as they may be shown."""
        fields = {name: mask(getattr(self, name), name) for name in self.__struct_fields__ if name != "app"}
        return fields | {"url": self.masked_url}

    def __repr__(self) -> str:
        return f"BrokerSettings({', '.join(f'{name}={value!r}' for name, value in self.masked().items())})"


_NAMED = re.compile(r"(?:(?P<name>[A-Za-z_][\w.-]*)=)?(?P<url>.*)", re.DOTALL)


def name_and_url(broker: str) -> tuple[str, str]:
    """Split `NAME=URL`; the name of a bare URL is empty."""
    match = _NAMED.fullmatch(broker)
    return (match["name"] or "", match["url"]) if match else ("", broker)


def transport_of(url: str) -> str:
    """Return kombu's name of the transport that `url` asks for, such as `redis` of `redis+socket:///run/x`."""
    return url.partition("://")[0].partition("+")[0].lower()


def url_problem(url: str) -> str | None:
    """Return, masked and with the fix, why kombu could not use a broker URL; None if it can."""
    alternates = [alternate for alternate in url.split(";") if "://" in alternate]
    if not alternates or not url.startswith(alternates[0]):
        return f"{mask_url(url)!r} is not a URL. Give one such as redis://localhost:6379/0 or amqp://localhost//."
    for alternate in alternates:
        if transport_of(alternate) not in TRANSPORT_ALIASES:
            known = ", ".join(sorted(TRANSPORT_ALIASES))
            return f"{mask_url(url)!r} is for no broker that kombu knows. Begin it with one of {known}."
        if transport_of(alternate) in REDIS | AMQP and not _has_address(alternate):
            return f"{mask_url(url)!r} has no valid host and port. Percent-encode what is special in a password."
    return None


def socket_path(url: str) -> str | None:
    """Return the path in `unix:///path`; None if this is no such URL."""
    scheme, _, path = url.partition("://")
    return path if scheme == "unix" and path.startswith("/") else None


def _has_address(url: str) -> bool:
    try:
        url_to_parts(url)
    except ValueError:
        return False
    return True


def is_http_url(url: str) -> bool:
    """Whether a URL leads to a server of HTTP, with or without TLS."""
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def tls_options(transport: str, files: dict[str, str], *, verify: bool) -> dict[str, Any]:
    """Return `use_ssl` for `ca_certs`, `certfile` and `keyfile` in the words of the transport.

    kombu hands them on as they are: the words of redis-py's `SSLConnection` begin with `ssl_`, those of
    py-amqp's `SSLTransport` do not, and it verifies the host only by a name (None: kombu's `pyamqp.py`).
    """
    options = {**files, "cert_reqs": ssl.CERT_REQUIRED if verify else ssl.CERT_NONE}
    if transport in REDIS:
        return {f"ssl_{word}": value for word, value in (options | {"check_hostname": verify}).items()}
    return options | ({"server_hostname": None} if verify else {})
