"""Our part of a worker's main process: it counts the worker each second and, without a sidecar, hosts the pipeline.

Before the pool forks only the socket is made; threads start once the first children are there. Later children are
forked beside them, which is safe because nothing that runs in a child takes a lock of ours; the sockets that a child
inherits are closed there, lest connections outlive their end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from celery_observe.broker import socket_path
from celery_observe.streams.local import pair
from celery_observe.worker.census import census
from celery_observe.worker.guard import harmless, told
from celery_observe.worker.pulse import INTERVAL, Pulse
from celery_observe.worker.reporter import reporter

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from celery_observe.pipeline import Pipeline
    from celery_observe.settings import Settings
    from celery_observe.worker.children import Children

    Serve = Callable[[str, Settings, socket.socket], Pipeline | None]

_PATIENCE = 1.0
"""Seconds that the end of the worker waits for ours."""


class Resident:
    """Lives from the start of a worker to its end."""

    def __init__(self, worker: Any, settings: Settings, children: Children) -> None:
        self.pulse = Pulse(worker, children)
        self._worker = worker
        self._children = children
        self._settings = settings
        self._reading: socket.socket | None = None
        self._pipeline: Pipeline | None = None
        self._apart: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._stopped = threading.Event()

    def prepare(self) -> None:
        """Open the way for reports, before the pool forks."""
        reporter.hostname = self._worker.hostname
        path = socket_path(self._settings.sidecar) if self._settings.sidecar else None
        if path is not None:
            reporter.connect_to(path)
            return
        self._reading, writing = pair()
        reporter.write_to(writing)

    def start(self) -> None:
        """Begin. In a green pool this thread is a greenlet, which is fine: it only looks and sends."""
        serve: Serve | None = None
        if self._reading is not None and is_green():
            self._apart = process_apart(self._worker.hostname, self._settings, self._reading)
        elif self._reading is not None:
            from celery_observe import hosting, logs  # noqa: PLC0415 - now, so that no child is forked amid an import

            logs.be_hosted()
            hosting.prepare(self._settings)
            serve = hosting.serve_as_guest
            os.register_at_fork(after_in_child=self._forked)
        threading.Thread(target=self._live, args=(serve,), name="celery-observe", daemon=True).start()

    def stop(self) -> None:
        """End, and wait a moment for it; the worker has no tasks any more."""
        self._stopping.set()
        self._stopped.wait(_PATIENCE)

    def _live(self, serve: Serve | None) -> None:
        try:
            self._serve(serve)
            due = time.monotonic()
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                due += INTERVAL
                self._tell()
            self._tell(leaving=True)
            self._leave()
        finally:
            self._stopped.set()

    @told
    def _serve(self, serve: Serve | None) -> None:
        if serve is not None and self._reading is not None:
            self._pipeline = serve(reporter.hostname, self._settings, self._reading)

    @harmless
    def _tell(self, *, leaving: bool = False) -> None:
        for report in census(self._worker, self.pulse, self._children, leaving=leaving):
            reporter.send(report)

    @told
    def _leave(self) -> None:
        if self._pipeline is not None:
            self._pipeline.stop()
        if self._apart is not None and self._apart.stdin is not None:
            self._apart.stdin.close()

    @harmless
    def _forked(self) -> None:
        """Close the copies that a child has of our sockets."""
        if self._pipeline is not None:
            self._pipeline.abandon()
        elif self._reading is not None:
            self._reading.close()


def is_green() -> bool:
    """Tell whether gevent or eventlet have replaced threads."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    return bool(
        (gevent is not None and gevent.is_module_patched("threading"))
        or (eventlet is not None and eventlet.is_monkey_patched("thread"))
    )


def process_apart(worker: str, settings: Settings, reading: socket.socket) -> subprocess.Popen[bytes]:
    """Start a process that hosts the pipeline, in a session of its own: what ends the worker is not for it."""
    descriptor = reading.fileno()
    command = [sys.executable, "-P", "-m", "celery_observe.hosting", str(descriptor)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(descriptor,), start_new_session=True)
    if process.stdin is not None:
        process.stdin.write(msgspec.json.encode({"worker": worker, "settings": settings}) + b"\n")
        process.stdin.flush()
    reading.close()
    return process
