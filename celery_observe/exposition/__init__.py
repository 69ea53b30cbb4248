"""The metrics over HTTP: /metrics, /healthz, /readyz, /workflows, /overview and the live page, in a thread of its own.

Nothing here talks to a broker: a request renders what other threads have written and is answered at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from socket import AF_INET6, AI_PASSIVE, SOCK_STREAM
from typing import Any, Protocol

import tornado.platform.asyncio  # noqa: F401 - else by the loop when it starts, amid which a worker may fork
from tornado.ioloop import PeriodicCallback
from tornado.web import Application

from celery_observe.errors import ExpositionError, PortTakenError
from celery_observe.exposition.access import Access
from celery_observe.exposition.endpoints import (
    Healthy,
    Landing,
    Metrics,
    NotFound,
    Overview,
    Page,
    Readiness,
    Ready,
    Site,
    Workflow,
    log_request,
)
from celery_observe.exposition.server import SWEEP_INTERVAL, Listener, Server, bounded_server
from celery_observe.exposition.tls import server_context
from celery_observe.logs import log
from celery_observe.tree import Tree

__all__ = ["Exposition", "HttpSettings", "Page", "Readiness"]

JOIN_TIMEOUT = 2.0
"""Seconds that `stop` waits for the thread in all: part of the three that a SIGTERM may take."""

BACKLOG = 1024
"""Connections that the kernel keeps for us while a page is being rendered."""

PORTS = range(2**16)

FIXES: dict[int | None, str] = {
    errno.EADDRINUSE: "stop what listens there, or choose another --port",
    errno.EACCES: "choose a --port above 1023",
}

File = str | PathLike[str] | None


class HttpSettings(Protocol):
    """Where to listen, and who may read. Files are read again when they change; None means not asked for."""

    @property
    def host(self) -> str:
        """An address or a name of this machine; "" or "0.0.0.0" for all IPv4 addresses, "::" for all."""

    @property
    def port(self) -> int:
        """0 takes a free one."""

    @property
    def tls_cert_file(self) -> File:
        """PEM: the server's certificate and its chain."""

    @property
    def tls_key_file(self) -> File:
        """PEM: the certificate's key, unless it stands in the certificate's file."""

    @property
    def tls_client_ca_file(self) -> File:
        """PEM: clients must show a certificate signed by one of these."""

    @property
    def basic_auth_file(self) -> File:
        """A line `user:password` for each who may read."""

    @property
    def bearer_token_file(self) -> File:
        """A line for each token that may read."""


class Exposition:
    """The HTTP server. A password or a token lets in, if asked for; a client certificate comes on top."""

    def __init__(
        self,
        settings: HttpSettings,
        render: Page,
        readiness: Callable[[], Readiness],
        health: Callable[[], Readiness],
        workflow: Callable[[str], Tree | None] = lambda _id: None,
        overview: Callable[[], bytes] = lambda: b"{}",
    ) -> None:
        """Take what to serve. All of it is called in this server's thread, and must not block."""
        self.port = settings.port
        self._settings = settings
        self._served = (render, readiness, health, workflow, overview)
        self._server: Server | None = None
        self._listening: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._stopping = asyncio.Event()

    @property
    def evicted(self) -> int:
        """How many connections have been closed to make room, or because their answer was not read."""
        return self._server.evicted if self._server else 0

    def start(self) -> None:
        """Listen, and serve in a thread. Raises ExpositionError: a file is unusable or the port is taken."""
        settings = self._settings
        application = self._application()
        tls = server_context(
            _path(settings.tls_cert_file), _path(settings.tls_key_file), _path(settings.tls_client_ca_file)
        )
        listening = _listen(settings.host, settings.port)
        self._listening = listening
        self.port = listening.getsockname()[1]
        self._server = bounded_server(application)
        listener = Listener(listening, self._server, tls)
        self._runner.get_loop()  # made here, so that `stop` finds it however soon it comes
        self._thread = threading.Thread(
            target=self._run, args=(listener, self._server), name="observe-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Listen no more, let answers under way be read for a second, close everything. Idempotent."""
        if self._thread is None or not self._thread.is_alive():
            return
        self._runner.get_loop().call_soon_threadsafe(self._stopping.set)
        self._thread.join(JOIN_TIMEOUT)

    def abandon(self) -> None:
        """Close this process's copies of all sockets, in a fork; the parent goes on with its own."""
        if self._listening is not None:
            self._listening.close()
        if self._server is not None:
            self._server.abandon()

    def _application(self) -> Application:
        settings = self._settings
        access = Access(_path(settings.basic_auth_file), _path(settings.bearer_token_file))
        site = {"site": Site(*self._served, access, client_certificates=bool(settings.tls_client_ca_file))}
        return Application(
            [
                ("/metrics", Metrics, site),
                ("/healthz", Healthy, site),
                ("/readyz", Ready, site),
                ("/workflows/([^/]+)", Workflow, site),
                ("/overview", Overview, site),
                ("/", Landing, site),
            ],
            default_handler_class=NotFound,
            default_handler_args=site,
            log_function=log_request,
        )

    def _run(self, listener: Listener, server: Server) -> None:
        with self._runner:
            self._runner.run(self._serve(listener, server))

    async def _serve(self, listener: Listener, server: Server) -> None:
        asyncio.get_running_loop().set_exception_handler(_log_unhandled)
        sweeper = PeriodicCallback(server.close_stalled, SWEEP_INTERVAL * 1000)
        sweeper.start()
        listener.start()
        await self._stopping.wait()
        listener.stop()
        sweeper.stop()
        await server.drain()


def _listen(host: str, port: int) -> socket.socket:
    if port not in PORTS:
        raise _refused(host, port, "there is no such port")
    try:
        family, *_, address = socket.getaddrinfo(host or None, port, type=SOCK_STREAM, flags=AI_PASSIVE)[0]
        both = family == AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except socket.gaierror as error:
        raise _refused(host, port, str(error.strerror)) from None
    except OSError as error:
        raise _refused(host, port, os.strerror(error.errno or 0), error.errno) from None


def _refused(host: str, port: int, reason: str, number: int | None = None) -> ExpositionError:
    fix = FIXES.get(number, "--host must be an address of this machine, --port at most 65535")
    refusal = PortTakenError if number == errno.EADDRINUSE else ExpositionError
    return refusal(f"cannot listen on {host}:{port}: {reason}; {fix}")


def _log_unhandled(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.error("http_loop_error", error=context["message"], exc_info=context.get("exception"))


def _path(file: File) -> Path | None:
    return Path(file) if file else None
