"""Decides when the workers of a broker are asked, and hands their answers to its reader."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from celery_observe.fleet import MAX_WORKERS
from celery_observe.logs import log
from celery_observe.probes.workers import WorkersProbe

if TYPE_CHECKING:
    from celery_observe.guard import Guard
    from celery_observe.reader import Reader
    from celery_observe.settings import Settings

_ASK_PAUSE = 1.0
"""Seconds between two questions to workers, at the least."""
_SILENT_AFTER = 10.0
"""Seconds without any event after which a worker that said it sends them is called silent."""


class Asker(threading.Thread):
    """Asks the workers of one broker when its reader has connected, met a new one, or doubts one."""

    def __init__(self, reader: Reader, settings: Settings, guard: Guard) -> None:
        super().__init__(name=f"asker-{reader.broker.name or reader.broker.transport}", daemon=True)
        self._reader = reader
        self._guard = guard
        self._probe = WorkersProbe(reader.broker, settings.inspect_timeout)
        self._interval = settings.inspect_interval
        self._enable = settings.enable_events
        self._connected = threading.Event()
        self._asked: dict[str, float] = {}
        self._asked_all = 0.0
        self._unheard: dict[str, float] = {}
        self._warned: set[tuple[str, str]] = set()
        reader.on_connect = self._connected.set

    def run(self) -> None:
        """Ask all workers on connect, and later those that the reader wants asked, each once per interval."""
        while not self._reader.stopping.is_set():
            if self._connected.wait(_ASK_PAUSE):
                self._connected.clear()
                self._greet()
            elif self._reader.connected:
                self._ask_on()

    def _greet(self) -> None:
        """Ask all workers; those that are known first, since they answer at once and events wait for them."""
        self._asked.clear()
        if known := self._known():
            self._ask(known)
        self._ask(None)

    def _ask_on(self) -> None:
        if self._enable and time.monotonic() - self._asked_all > self._interval:
            self._ask(None)  # a new worker need not send heartbeats
        elif due := self._due():
            self._ask(due)
        self._warn_of_silent()

    def _known(self) -> set[str]:
        return {worker.name for worker in self._reader.fleet if worker.up}

    def _due(self) -> set[str]:
        now = time.monotonic()
        self._asked = {worker: at for worker, at in self._asked.items() if now - at < self._interval}
        due = {worker for worker in self._reader.wanted() if worker not in self._asked}
        self._asked.update(dict.fromkeys(due, now))
        return due

    def _ask(self, workers: set[str] | None) -> None:
        if workers is None:
            self._asked_all = time.monotonic()
        answers = self._guard.run("workers", lambda: self._probe.ask(workers, enable_events=self._enable))
        self._reader.inbox.put(answers.snapshots if answers else [])
        if self._enable and answers:
            self._note_enabled(answers.enabled, self._known() if workers is None else workers)

    def _note_enabled(self, enabled: frozenset[str], expected: set[str]) -> None:
        """Remember which workers were told to send task events, and say which could not be."""
        now = time.monotonic()
        for worker in enabled:
            self._unheard.setdefault(worker, now)
        for worker in sorted(expected - enabled):
            self._warn("worker could not be told to send task events", worker)

    def _warn_of_silent(self) -> None:
        """Name the workers that answer, but whose event dispatcher is off: Celery says ok even so."""
        now = time.monotonic()
        for name in [name for name, since in self._unheard.items() if now - since > _SILENT_AFTER]:
            del self._unheard[name]
            worker = self._reader.fleet.get(name)
            if worker is None or worker.ledger.pid is None:
                self._warn("worker said that it sends task events, but none has come: start it with -E", name)

    def _warn(self, text: str, worker: str) -> None:
        """Log once for each worker."""
        if len(self._warned) >= MAX_WORKERS:
            self._warned.clear()
        if (text, worker) not in self._warned:
            self._warned.add((text, worker))
            log.warning(text, worker=worker)
