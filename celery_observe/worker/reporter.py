"""Sends reports from any thread, greenlet or forked child of a process, without ever waiting.

A report is one message on a Unix socket: the end of a pair that the worker made before it forked, or a connection to a
sidecar. If the socket is full or nobody is there the report is dropped and counted; the next that gets through tells.
"""

from __future__ import annotations

import _socket
import mmap
import os
import time
from typing import TYPE_CHECKING

from celery_observe.report import MAX_WAITING_BYTES, AnyReport, Loss, encode

if TYPE_CHECKING:
    import socket

_FLAGS = _socket.MSG_DONTWAIT | getattr(_socket, "MSG_NOSIGNAL", 0)
_RETRY = 1.0
"""Seconds between two attempts to connect to a sidecar."""


class Reporter:
    """Where the reports of this process go: nowhere until told."""

    def __init__(self) -> None:
        self.hostname = ""
        """The worker's node name; empty outside workers."""
        self.dropped = 0
        """Reports dropped since the last that got through."""
        self.errors = 0
        """Handlers that failed since then."""
        self._path: str | None = None
        # Not the class of the module `socket`: gevent and eventlet replace that by one that may switch greenlets.
        self._socket: _socket.socket | None = None
        self._retry_at = 0.0
        self._tried_by = 0
        """The process that tried last: a child has its own first try."""
        self.switch = mmap.mmap(-1, 1)
        """One page that all children share: not zero while reports are turned off."""

    @property
    def off(self) -> bool:
        """Whether reports are turned off, here and in all children."""
        return self.switch[0] != 0

    def turn(self, *, off: bool) -> None:
        """Turn reports off or on, here and in all children."""
        self.switch[0] = int(off)

    @property
    def has_listener(self) -> bool:
        """Whether there is anybody to report to."""
        return self._socket is not None or self._path is not None

    def write_to(self, sock: socket.socket) -> None:
        """Report over the writing end of a pair, from now on and in all children."""
        self._path = None
        self._socket = _socket.socket(fileno=sock.detach())

    def connect_to(self, path: str) -> None:
        """Report to the sidecar that listens at this address, whether it is there yet or not; or go on to."""
        if self._socket is None or path != self._path:
            self._path, self._socket, self._retry_at = path, None, 0.0
            self._connect()

    def forget(self) -> None:
        """Give up what was inherited, without closing it: its number may be that of another file by now."""
        if self._socket is not None:
            self._socket.detach()
            self._socket = None

    def close(self) -> None:
        """Report to nobody any more."""
        sock, self._socket, self._path = self._socket, None, None
        if sock is not None:
            sock.close()

    def send(self, report: AnyReport) -> None:
        """Send one report, or drop and count it."""
        sock, sent = self._socket, 0
        if sock is None or self.dropped or self.errors:
            self._send_with_loss(report)
            return
        try:
            sent = sock.send(encode([report]), _FLAGS)
        except BlockingIOError:
            pass
        except OSError:
            sent = 1  # or counted
            self._send_with_loss(report)
        finally:
            if not sent:
                self.dropped += 1

    def _send_with_loss(self, report: AnyReport) -> None:
        """Send one report, if need be to a sidecar started anew, and with it what was lost before."""
        reports: list[AnyReport] = [report]
        dropped, errors, told = self.dropped, self.errors, False
        self.dropped = self.errors = 0
        try:
            if dropped or errors:
                reports.append(Loss(report.timestamp, report.hostname, dropped, errors))
            told = self._write(encode(reports))
        finally:
            if not told:
                self.dropped += dropped + 1
                self.errors += errors

    def confess(self) -> None:
        """Tell at once of handlers that failed: whoever's handlers fail may have nothing else to tell."""
        errors, self.errors = self.errors, 0
        told = False
        try:
            told = self._write(encode([Loss(time.time(), self.hostname, errors=errors)]))
        finally:
            if not told:
                self.errors += errors

    def _write(self, body: bytes) -> bool:
        """Say whether the message got through, if need be to a sidecar that has been started anew."""
        sock = self._socket or self._connect()
        while sock is not None:
            try:
                sock.send(body, _FLAGS)
            except BlockingIOError:
                return False
            except OSError:
                self._disconnect()
                sock = self._connect()
            else:
                return True
        return False

    def _connect(self) -> _socket.socket | None:
        pid = os.getpid()
        if self._path is None or (pid == self._tried_by and time.monotonic() < self._retry_at):
            return None
        self._retry_at, self._tried_by = time.monotonic() + _RETRY, pid
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        try:
            sock.settimeout(0)
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, MAX_WAITING_BYTES)
            sock.connect(self._path)
        except OSError:
            sock.close()
            return None
        self._socket = sock
        return sock

    def _disconnect(self) -> None:
        """Hang up on a sidecar that has gone, to look for it again; a pair has no other address."""
        if self._path is None:
            return
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()


reporter = Reporter()
"""The one of this process and its children."""
