"""Decides when the workers of a broker are asked, and hands their answers to its reader.

Once per interval all are asked one question, by the leader if there are replicas; in between, by each replica, those of
which its events give it a reason to ask.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from celery_observe.fleet import MAX_WORKERS
from celery_observe.logs import log
from celery_observe.probes import STALE_AFTER, Prober
from celery_observe.probes.rota import ROUND
from celery_observe.probes.workers import Answers, WorkersProbe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery_observe.guard import Guard
    from celery_observe.reader import Reader
    from celery_observe.settings import Settings

_ASK_PAUSE = 1.0
"""Seconds between two questions to workers, at the least."""
_MISSED = 2.5
"""Rounds after which all workers are asked by us, since no leader did, to turn their events on."""
_FIRST_PAUSE = 2.0
"""Seconds after which a worker is asked once more; it doubles each time. One that is just starting answers then."""


class Asker(Prober):
    """Asks workers of one broker at each interval, and when its reader has connected, met a new one, or doubts one."""

    def __init__(self, reader: Reader, settings: Settings, guard: Guard, leads: Callable[[], bool]) -> None:
        self._probe = WorkersProbe(reader.broker, settings, reader, on_answers=self._take_all)
        super().__init__("", [self._probe], reader.recorder, guard, leads=leads)
        self.name = f"asker-{reader.broker.name or reader.broker.transport}"
        self.delay(settings.inspect_interval)  # unless the stream connects
        self._reader = reader
        self._round = ROUND * settings.inspect_interval
        self._enable = settings.enable_events
        self._connected = threading.Event()
        self._asked: dict[str, _Turn] = {}
        self._asked_all = 0.0
        self._silent: set[str] = set()
        self._named: set[str] = set()
        reader.on_connect = self._connected.set

    def run(self) -> None:
        """Ask all workers on connect and at each interval, and in between those that the reader wants asked."""
        while not self.stopping.is_set():
            pause = min(self.turn(), _ASK_PAUSE)
            for workers in self._rounds(pause):
                if workers is None and self._leads():
                    self._probe.renew()
                    self.delay(0.0)
                    self.turn()
                else:
                    self._guard.run(self._probe.name, partial(self._enquire, workers))
                self._reader.inbox.put([])  # if that failed: the reader waits no longer

    def _patience(self) -> float:
        """Return after how many seconds what workers have said is not told any more: three rounds."""
        return STALE_AFTER * self._round

    def _rounds(self, pause: float) -> list[set[str] | None]:
        """Wait so many seconds, and return whom to ask now: some, or all (None)."""
        if self._connected.wait(pause):
            self._connected.clear()
            self._asked.clear()
            known = self._known()  # these answer at once, and events wait for them
            return [known, None] if known else [None]
        if not self._reader.connected:
            return []
        if self._enable and time.monotonic() - self._asked_all > _MISSED * self._round:
            return [None]  # a new worker need not send heartbeats
        due = self._due()
        return [due] if due else []

    def _known(self) -> set[str]:
        return self._reader.up()

    def _due(self) -> set[str]:
        """Return the workers that the reader wants asked and whose turn it is."""
        now = time.monotonic()
        known = self._asked
        self._asked = {worker: known.get(worker, _Turn(0.0, _FIRST_PAUSE)) for worker in self._reader.wanted()}
        due = {worker for worker, turn in self._asked.items() if turn.at <= now}
        for worker in due:
            pause = self._asked[worker].pause
            self._asked[worker] = _Turn(now + pause, min(2 * pause, self._round))
        return due

    def _enquire(self, workers: set[str] | None) -> None:
        if workers is None:
            self._asked_all = time.monotonic()
        self._take(self._probe.enquire(workers), self._known() if workers is None else workers)

    def _take_all(self, answers: Answers, expected: set[str]) -> None:
        if answers.enabled is not None:
            self._asked_all = time.monotonic()
        self._take(answers, expected)

    def _take(self, answers: Answers, expected: set[str]) -> None:
        """Hand the answers to the reader, and name whom events could not be turned on in."""
        self._reader.inbox.put(answers.snapshots)
        if answers.enabled is not None:
            self._name_unreached(answers.enabled, expected)

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
