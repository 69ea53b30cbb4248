"""A running exposition, and what a client gets from it."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from celery_observe.exposition import Exposition, Page, Readiness

READY = Readiness(ready=True)
TEXT_PAGE = b"# TYPE celery_demo gauge\ncelery_demo 1.0\n" * 100
OPENMETRICS_PAGE = TEXT_PAGE + b"# EOF\n"


@dataclass(frozen=True)
class Settings:
    """Loopback, a free port, and nothing protected."""

    host: str = "127.0.0.1"
    port: int = 0
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    tls_client_ca_file: Path | None = None
    basic_auth_file: Path | None = None
    bearer_token_file: Path | None = None


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def page(openmetrics: bool) -> bytes:
    """Render one or the other constant page."""
    return OPENMETRICS_PAGE if openmetrics else TEXT_PAGE


@contextmanager
def serving(
    settings: Settings | None = None,
    *,
    render: Page = page,
    readiness: Callable[[], Readiness] = lambda: READY,
    health: Callable[[], Readiness] = lambda: READY,
) -> Iterator[Exposition]:
    """Run an exposition."""
    exposition = Exposition(settings or Settings(), render, readiness, health)
    exposition.start()
    try:
        yield exposition
    finally:
        exposition.stop()


def ask(
    exposition: Exposition,
    path: str = "/metrics",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request over a connection of its own."""
    address = ("127.0.0.1", exposition.port)
    connection = (
        http.client.HTTPSConnection(*address, context=tls, timeout=5)
        if tls
        else http.client.HTTPConnection(*address, timeout=5)
    )
    with closing(connection):
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
