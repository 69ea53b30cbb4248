"""`celery-observe health`: one answer, as JSON and as an exit code, for probes that run a command.

Without a broker it asks what serves on this host, a worker or an exporter: a matter of milliseconds, where
``celery inspect ping`` imports the app and waits a second. With one it asks all workers of that broker.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import msgspec
from kombu.exceptions import KombuError

from celery_observe.app import celery_app
from celery_observe.masking import mask_text

if TYPE_CHECKING:
    from celery_observe.broker import BrokerSettings
    from celery_observe.settings import Settings

NO_WORKERS = "No active workers"
_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - addresses to be replaced by one that can be asked


class Answer(msgspec.Struct, omit_defaults=True):
    """What is printed."""

    status: str
    workers: list[str] | None = None
    active_tasks: int | None = None
    reason: str | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether the exit code is 0."""
        return self.status == "healthy"


def of_process(settings: Settings, *, ready: bool, timeout: float) -> Answer:
    """Ask what serves at the host and port of the settings: /healthz, or /readyz if it is to be ``ready``."""
    scheme = "https" if settings.tls_cert_file else "http"
    host = "127.0.0.1" if settings.host in _EVERYWHERE else settings.host
    host = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{host}:{settings.port}/{'readyz' if ready else 'healthz'}"
    # Our own host, whose certificate names the service: there is nothing to verify it against.
    context = ssl._create_unverified_context() if scheme == "https" else None  # noqa: S323, SLF001 - see above
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=timeout):
            return Answer("healthy")
    except urllib.error.HTTPError as error:
        with error:
            return Answer("unhealthy", reason=_reasons(error.read()))
    except OSError as error:
        return Answer("unhealthy", reason=f"{url} does not answer: {getattr(error, 'reason', None) or error}")


def _reasons(body: bytes) -> str:
    try:
        return "; ".join(msgspec.json.decode(body)["reasons"]) or "not ready"
    except (msgspec.DecodeError, KeyError, TypeError):
        return "no answer of celery-observe"


def of_cluster(broker: BrokerSettings, timeout: float) -> Answer:
    """Ask all workers of a broker what they execute; those that answer in time are the active ones."""
    app = celery_app(broker)
    connection = app.connection_for_write(connect_timeout=timeout)
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            active: dict[str, list[Any]] = app.control.inspect(timeout=timeout, connection=connection).active() or {}
    except (*connection.connection_errors, *connection.channel_errors, OSError, KombuError) as error:
        return Answer("unhealthy", reason=f"{broker.masked_url}: {mask_text(str(error))}")
    if not active:
        return Answer("unhealthy", reason=NO_WORKERS)
    return Answer("healthy", sorted(active), sum(map(len, active.values())))
