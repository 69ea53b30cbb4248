"""Decides when the workers of a broker are asked, and hands their answers to its reader."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from celery_observe.fleet import MAX_WORKERS
from celery_observe.logs import log
from celery_observe.probes.workers import Answers, WorkersProbe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_observe.guard import Guard
    from celery_observe.reader import Reader
    from celery_observe.settings import Settings

_ASK_PAUSE = 1.0
"""Seconds between two questions to workers, at the least."""
_FIRST_PAUSE = 2.0
"""Seconds after which a worker is asked once more; it doubles each time. One that is just starting answers then."""


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
        self._asked: dict[str, _Turn] = {}
        self._asked_all = 0.0
        self._silent: set[str] = set()
        self._named: set[str] = set()
        reader.on_connect = self._connected.set

    def run(self) -> None:
        """Ask all workers on connect, and later those that the reader wants asked."""
        while not self._reader.stopping.is_set():
            for workers in self._rounds():
                self._guard.run("workers", partial(self._ask, workers))

    def _rounds(self) -> list[set[str] | None]:
        """Wait a moment, and return whom to ask now: some, or all (None)."""
        if self._connected.wait(_ASK_PAUSE):
            self._connected.clear()
            self._asked.clear()
            known = self._known()  # these answer at once, and events wait for them
            return [known, None] if known else [None]
        if not self._reader.connected:
            return []
        if self._enable and time.monotonic() - self._asked_all > self._interval:
            return [None]  # a new worker need not send heartbeats
        due = self._due()
        return [due] if due else []

    def _known(self) -> set[str]:
        return {worker.name for worker in self._reader.fleet if worker.up}

    def _due(self) -> set[str]:
        """Return the workers that the reader wants asked and whose turn it is."""
        now = time.monotonic()
        known = self._asked
        self._asked = {worker: known.get(worker, _Turn(0.0, _FIRST_PAUSE)) for worker in self._reader.wanted()}
        due = {worker for worker, turn in self._asked.items() if turn.at <= now}
        for worker in due:
            pause = self._asked[worker].pause
            self._asked[worker] = _Turn(now + pause, min(2 * pause, self._interval))
        return due

    def _ask(self, workers: set[str] | None) -> None:
        """Hand the answers to the reader; none if the question failed, so that it waits no longer."""
        if workers is None:
            self._asked_all = time.monotonic()
        answers = Answers([], {})
        try:
            answers = self._probe.ask(workers, enable_events=self._enable)
        finally:
            self._reader.inbox.put(answers.snapshots)
        if self._enable:
            self._name_unreached(answers.enabled, self._known() if workers is None else workers)

    def _name_unreached(self, enabled: Mapping[str, str | None], expected: set[str]) -> None:
        """Log, once for each, the workers that refused to send task events, or twice gave no answer."""
        refused = {worker: reason for worker, reason in enabled.items() if reason is not None}
        silent = expected - enabled.keys()
        for worker, reason in sorted((refused | dict.fromkeys(silent & self._silent, "no answer")).items()):
            self._report(worker, reason)
        self._silent = self._silent - expected | silent

    def _report(self, worker: str, reason: str) -> None:
        if worker not in self._named:
            if len(self._named) >= MAX_WORKERS:
                self._named.clear()
            self._named.add(worker)
            log.warning("worker could not be told to send task events", worker=worker, reason=reason)


class _Turn(NamedTuple):
    """When a worker may be asked again, and how long after that once more; in seconds."""

    at: float
    pause: float
