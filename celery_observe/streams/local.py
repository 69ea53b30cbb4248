"""Reports of instrumented processes on this host, over a Unix socket that keeps messages apart.

Inside a worker it is one end of a pair that the pool's children inherit; beside workers it is an address that they
connect to. Connections, rather than datagrams to an address, because the kernel queues only ten of the latter
(``net.unix.max_dgram_qlen``); a connection holds what fits its buffer (unix(7), SOCK_SEQPACKET).
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from contextlib import suppress
from pathlib import Path

from celery_observe.errors import StreamError
from celery_observe.report import MAX_BYTES, MAX_WAITING_BYTES
from celery_observe.streams.datagrams import State, receiver

MAX_CONNECTIONS = 1024
BACKLOG = 512
GATHER = 0.2
"""Seconds to wait for more while reports come: a busy worker wakes this thread five times a second at most."""
_FIRST = 0.05
"""Seconds to wait for more after a pause: nobody knows yet how many will come."""
_LEAST = 0.005
_FULL = 212_992
"""Bytes of the kernel's that reports of one connection may take: half of what it grants (``net.core.wmem_max``)."""
_TAKEN_AT_ONCE = 4096
"""Reports read from one connection before the next gets its turn."""
_MODE = 0o666
"""Whoever may reach the folder may report: containers of one pod run as different users."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends: to read from, and for any process to write to without waiting."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reading.settimeout(0)
    writing.settimeout(0)
    writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_WAITING_BYTES)
    return reading, writing


class LocalStream:
    """Reads from the end of a pair, or listens at an address. For use by one thread."""

    def __init__(self, source: socket.socket | str) -> None:
        self._source = source
        self._listening: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._receive = receiver(MAX_BYTES)
        self._flowing = False
        """Whether something came the last time, so that there is no need to wait for more than it takes to gather."""
        self._gather = GATHER
        """Seconds to gather for: less if that many come."""

    def open(self) -> None:
        """Begin to listen. Raises StreamError."""
        self.close()
        # Not epoll, which is told of each message when it is sent, at the expense of whoever sends it.
        self._selector = selectors.PollSelector()
        if isinstance(self._source, str):
            self._listening = _listen(self._source)
            self._selector.register(self._listening, selectors.EVENT_READ)
        else:
            self._selector.register(self._source, selectors.EVENT_READ)

    def read(self, timeout: float) -> list[bytes]:
        """Return the reports that have arrived, [] when none does within ``timeout`` seconds."""
        if self._selector is None:
            raise StreamError("the stream is not open")
        if timeout > 0.0:
            if not self._flowing:
                if not self._selector.select(timeout):
                    return []
                self._gather = _FIRST
            time.sleep(self._gather)
        bodies: list[bytes] = []
        fullest = _FULL
        for key, _ in self._selector.select(0.0):
            if key.fileobj is self._listening:
                self._accept(self._listening, self._selector)
            elif isinstance(key.fileobj, socket.socket):
                before = len(bodies)
                self._drain(key.fileobj, bodies)
                fullest = max(fullest, _room_of(bodies[before:]))
        self._gather = max(_LEAST, min(GATHER, (2.0 if fullest == _FULL else 1.0) * self._gather * _FULL / fullest))
        self._flowing = bool(bodies)
        return bodies

    def close(self) -> None:
        """Listen no more, and hang up. A pair belongs to whoever made it. Never raises."""
        selector, self._selector = self._selector, None
        if selector is None:
            return
        for peer in self._peers(selector):
            peer.close()
        selector.close()
        if self._listening is not None and isinstance(self._source, str):
            self._listening.close()
            self._listening = None
            Path(self._source).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Close this process's copies of all sockets, in a fork; the parent goes on with its own."""
        for sock in (self._source, self._listening, *(self._peers(self._selector) if self._selector else ())):
            if isinstance(sock, socket.socket):
                sock.close()

    def _peers(self, selector: selectors.BaseSelector) -> list[socket.socket]:
        ours = (self._source, self._listening)
        found = [key.fileobj for key in selector.get_map().values()]
        return [sock for sock in found if isinstance(sock, socket.socket) and sock not in ours]

    def _accept(self, listening: socket.socket, selector: selectors.BaseSelector) -> None:
        """Let in all that knock: a pool's children do so together, and what they send waits until then."""
        with suppress(BlockingIOError, ConnectionAbortedError):
            for _ in range(BACKLOG):
                peer, _ = listening.accept()
                if len(selector.get_map()) > MAX_CONNECTIONS:
                    peer.close()
                    continue
                peer.settimeout(0)
                selector.register(peer, selectors.EVENT_READ)

    def _drain(self, peer: socket.socket, bodies: list[bytes]) -> None:
        """Take what has arrived on one connection, and close it if its process has gone."""
        most = len(bodies) + _TAKEN_AT_ONCE
        while len(bodies) < most:
            state = self._receive(peer.fileno(), bodies)
            if state is State.GONE:
                self._hang_up(peer)
            if state is not State.MORE:
                return

    def _hang_up(self, peer: socket.socket) -> None:
        if peer is not self._source and self._selector is not None:
            self._selector.unregister(peer)
            peer.close()


def _room_of(bodies: list[bytes]) -> int:
    """Return the bytes that the kernel kept these in: powers of two for data and what it adds to them, and a header.

    ``net/core/skbuff.c: __alloc_skb`` on 64 bits; measured: 555 messages of up to 192 bytes fit a buffer, 333 of more.
    """
    if not bodies:
        return 0
    length = sum(map(len, bodies)) // len(bodies)
    return len(bodies) * (256 + (1 << (length + 319).bit_length()))


def _listen(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _remove_stale(path)
        listening.bind(path)
        Path(path).chmod(_MODE)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise StreamError(f"cannot listen at {path}: {error.strerror}; the folder must exist, for us alone") from error
    listening.settimeout(0)
    return listening


def _remove_stale(path: str) -> None:
    """Remove the address that a killed process has left; not that of one that still listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another process listens there")
