"""Our thread in a worker's main process: it counts the worker each second and, without a sidecar, hosts the pipeline.

Before the pool forks it makes only the socket; the threads start once the first children are there. Later children are
forked beside them, which is safe because nothing that runs in a child takes a lock of ours; the sockets that a child
inherits are closed there, lest connections outlive their end.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

from celery_observe import logs
from celery_observe.broker import socket_path
from celery_observe.errors import CeleryObserveError, PortTakenError
from celery_observe.streams.local import LocalStream, pair
from celery_observe.worker import natives
from celery_observe.worker.census import census
from celery_observe.worker.guard import harmless
from celery_observe.worker.pulse import INTERVAL, Pulse
from celery_observe.worker.reporter import reporter

if TYPE_CHECKING:
    import socket

    from celery_observe.pipeline import Pipeline
    from celery_observe.settings import Settings
    from celery_observe.worker.children import Children

PORTS = 16
"""How many ports from the one that is set are tried: several workers of a host share a configuration."""
_PATIENCE = 1.0
"""Seconds that the end of the worker waits for ours."""
_NAP = 0.05

log = logging.getLogger(__name__)


class Resident:
    """Lives from the start of a worker to its end."""

    def __init__(self, worker: Any, settings: Settings, children: Children) -> None:
        self.pulse = Pulse(worker, children)
        self._worker = worker
        self._children = children
        self._settings = settings
        self._reading: socket.socket | None = None
        self._pipeline: Pipeline | None = None
        self._pid = os.getpid()
        self._stopping = False
        self._stopped = False

    def prepare(self) -> None:
        """Open the way for reports, before the pool forks."""
        reporter.hostname = self._worker.hostname
        path = socket_path(self._settings.sidecar) if self._settings.sidecar else None
        if path is not None:
            reporter.connect_to(path)
            return
        self._reading, writing = pair()
        reporter.write_to(writing)
        os.register_at_fork(after_in_child=self._forked)

    def start(self) -> None:
        """Begin, in a thread of our own."""
        if self._reading is not None:
            from celery_observe import pipeline  # noqa: F401, PLC0415 - imported here, so that no child is forked amid it

        natives.spawn(self._live, "celery-observe")

    def stop(self) -> None:
        """End, and wait a moment for it; the worker has no tasks any more."""
        self._stopping = True
        deadline = time.monotonic() + _PATIENCE
        while not self._stopped and time.monotonic() < deadline:
            time.sleep(_NAP)

    def _live(self) -> None:
        try:
            self._serve()
            due = time.monotonic()
            while not self._stopping:
                if time.monotonic() >= due:
                    due += INTERVAL
                    self._tell()
                time.sleep(_NAP)
            self._tell(leaving=True)
            if self._pipeline is not None:
                self._pipeline.stop()
        finally:
            self._stopped = True

    @harmless
    def _tell(self, *, leaving: bool = False) -> None:
        for report in census(self._worker, self.pulse, self._children, leaving=leaving):
            reporter.send(report)

    def _serve(self) -> None:
        """Host the pipeline, on the first port that is free from the one in the settings on."""
        if self._reading is None:
            return
        stream = LocalStream(self._reading)
        first = self._settings.port
        for port in range(first, first + PORTS) if first else (0,):
            try:
                self._host(port, stream)
            except PortTakenError:
                continue
            except CeleryObserveError as error:
                log.error("no metrics are served: %s", error)  # noqa: TRY400 - the message says all
            return
        log.error(
            "no metrics are served: ports %d to %d of %s are taken", first, first + PORTS - 1, self._settings.host
        )

    def _host(self, port: int, stream: LocalStream) -> None:
        from celery_observe.pipeline import Pipeline  # noqa: PLC0415 - a worker with a sidecar does without

        logs.be_hosted()
        settings = msgspec.structs.replace(self._settings, port=port, brokers=(), listen=None)
        pipeline = Pipeline(settings, stream, self.pulse)
        pipeline.start()
        self._pipeline = pipeline
        taken = "" if port == self._settings.port else f", since {self._settings.port} is taken"
        log.warning(
            "metrics of %s on http://%s:%d/metrics%s", reporter.hostname, settings.host, pipeline.exposition.port, taken
        )

    @harmless
    def _forked(self) -> None:
        """Close the copies that a child has of our sockets."""
        if self._pipeline is not None:
            self._pipeline.abandon()
        elif self._reading is not None:
            self._reading.close()
