"""Sockets: taking connections in, closing those that are too many, outliving a lack of file descriptors."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPMessageDelegate
from tornado.iostream import IOStream, SSLIOStream
from tornado.log import gen_log
from tornado.web import Application

from celery_observe.exposition.connections import Connections
from celery_observe.exposition.watched import Watched
from celery_observe.logs import log

MAX_CONNECTIONS = 128
"""Far more than there are scrapers, and far fewer than file descriptors."""

IDLE_TIMEOUT = 120.0
"""Seconds until a request must be complete, so that scrapes each minute keep their connection."""

UNREAD_TIMEOUT = 30.0
"""Seconds that a client has to read an answer."""

SWEEP_INTERVAL = 5.0
"""Seconds between looks for answers that nobody reads."""

DRAIN_TIMEOUT = 1.0
"""Seconds that answers under way have left when the server stops."""

BODY_TIMEOUT = 5.0
"""Seconds that a client has to send a body, which nobody needs."""

MAX_BODY = 4096
MAX_HEADER = 16 * 1024
READ_CHUNK = 8 * 1024

ACCEPTS_AT_ONCE = 64
"""Connections taken in before those that are open get their turn."""

EXHAUSTED_PAUSE = 0.5
"""Seconds to rest, when the process has no file descriptor left and none of ours is to spare."""

WARNING_INTERVAL = 60.0
"""Seconds between two warnings about the same thing."""


class Server(HTTPServer):
    """An HTTP server that knows which of its connections has waited longest."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Take what tornado takes."""
        super().initialize(*args, **kwargs)
        self.open: Connections[IOStream] = Connections(MAX_CONNECTIONS, UNREAD_TIMEOUT)
        self.evicted = 0

    def start_request(self, server_conn: Any, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Note that this connection waits for a request, its first or another."""
        self.open.wait(server_conn.stream)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: Any) -> None:
        """Note that this connection is gone."""
        self.open.forget(server_conn.stream)
        super().on_close(server_conn)

    def evict(self, stream: IOStream) -> None:
        """Close a connection to make room."""
        self.evicted += 1
        self.open.forget(stream)
        stream.close()

    def close_stalled(self) -> None:
        """Close the connections whose peer does not read its answer."""
        for stream in self.open.stalled(asyncio.get_running_loop().time()):
            self.evict(stream)

    def abandon(self) -> None:
        """Close the sockets of all connections and nothing else: in a fork the loop belongs to the parent."""
        for stream in self.open:
            if stream.socket is not None:  # else it is closed, and its server is about to hear of it
                stream.socket.close()

    async def drain(self) -> None:
        """Let answers under way be read, for a short while; then close everything."""
        unread = self.open.unread()
        if unread:
            # An empty write is done when all that was written before it is.
            await asyncio.wait([stream.write(b"") for stream in unread], timeout=DRAIN_TIMEOUT)
        await self.close_all_connections()


def bounded_server(application: Application) -> Server:
    """Return a server for an application, with bounds on all that a client can send or withhold."""
    return Server(
        application,
        body_timeout=BODY_TIMEOUT,
        chunk_size=READ_CHUNK,
        idle_connection_timeout=IDLE_TIMEOUT,
        max_body_size=MAX_BODY,
        max_header_size=MAX_HEADER,
    )


class Listener:
    """Takes connections in from a listening socket, with TLS if there is a context for it."""

    def __init__(self, listening: socket.socket, server: Server, tls: Watched[ssl.SSLContext] | None) -> None:
        self._listening = listening
        self._server = server
        self._tls = tls
        self._exhaustion = Sparing()
        self._handshakes = HandshakeWarnings()

    def start(self) -> None:
        """Begin, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._listening.settimeout(0)
        gen_log.addFilter(self._handshakes)
        self._resume()

    def stop(self) -> None:
        """Listen no more."""
        gen_log.removeFilter(self._handshakes)
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:  # EMFILE, ENFILE, ENOBUFS, ENOMEM
                self._exhausted(error)
                return
            self._take_in(connection, address)

    def _take_in(self, connection: socket.socket, address: Any) -> None:
        surplus = self._server.open.surplus()
        if surplus:
            self._server.evict(surplus)
        stream = self._stream(connection)
        if stream:
            self._server.open.wait(stream)
            self._server.handle_stream(stream, address)

    def _stream(self, connection: socket.socket) -> IOStream | None:
        if self._tls is None:
            return IOStream(connection, max_buffer_size=2 * MAX_HEADER, read_chunk_size=READ_CHUNK)
        try:
            wrapped = self._tls.get().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except OSError:  # the peer has gone already
            connection.close()
            return None
        return SSLIOStream(wrapped, max_buffer_size=2 * MAX_HEADER, read_chunk_size=READ_CHUNK)

    def _exhausted(self, error: OSError) -> None:
        """Give back a file descriptor of ours (accept is tried again at once), or else rest for a while."""
        spare = self._server.open.longest_waiting()
        if spare:
            self._server.evict(spare)
        else:
            # The pending connection stays readable: without a pause this loop would spin.
            self._loop.remove_reader(self._listening)
            self._loop.call_later(EXHAUSTED_PAUSE, self._resume)
        if self._exhaustion.due(self._loop.time()):
            log.warning("http_accept_failed", error=error.strerror, connections=len(self._server.open))

    def _resume(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)


class Sparing:
    """Says when a warning is due that clients can cause: at most once in WARNING_INTERVAL."""

    _quiet_until = -math.inf

    def due(self, now: float) -> bool:
        """Tell whether to warn at this time."""
        if now < self._quiet_until:
            return False
        self._quiet_until = now + WARNING_INTERVAL
        return True


class HandshakeWarnings(logging.Filter):
    """Lets tornado's warnings of failed TLS handshakes through sparingly."""

    def __init__(self) -> None:
        super().__init__()
        self._sparing = Sparing()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log this record."""
        return not str(record.msg).startswith("SSL Error") or self._sparing.due(record.created)
