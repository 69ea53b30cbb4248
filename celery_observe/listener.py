"""The thread that takes reports in: LocalStream → report → Journal → Recorder.

The counterpart of the reader for instrumented processes. Nothing is lost by a connection here, since there is none to a
broker: what was not read waits in the socket, and what found it full was counted by whoever wanted to send it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from celery_observe import gauges
from celery_observe.fact import ChordBroken, Polled, Step
from celery_observe.fleet import Fleet, Instant
from celery_observe.journal import Condition, Journal
from celery_observe.labels import UserLabels
from celery_observe.metrics import observer
from celery_observe.names import label_rules
from celery_observe.report import AnyReport, decode_all
from celery_observe.workflow import Workflows

if TYPE_CHECKING:
    from celery_observe.event import Malformed
    from celery_observe.fleet import Ledger
    from celery_observe.guard import Guard
    from celery_observe.recorder import Recorder
    from celery_observe.settings import Settings
    from celery_observe.streams import Stream

PLUGIN = "local"
READ_TIMEOUT = 0.25
"""Seconds after which a quiet read returns, so that the listener can tick and stop."""
TICK = 1.0
RETRY = 1.0
"""Seconds between two attempts to open the stream."""
STALE_AFTER = 15.0
"""Seconds without a tick after which what is told of this moment is not told any more."""
DEAD_AFTER = 30.0
SILENT_AFTER = 30.0
"""Seconds without a word of a worker that has not left, after which it counts as stuck."""


class Listener(threading.Thread):
    """Takes in the reports of one local stream until told to stop."""

    def __init__(self, stream: Stream, settings: Settings, recorder: Recorder, guard: Guard) -> None:
        super().__init__(name="listener", daemon=True)
        self.recorder = recorder
        recorder.start_at_zero()
        self.stopping = threading.Event()
        self._stream = stream
        self._guard = guard
        self._fleet = Fleet(recorder.record, settings.worker_timeout, whole=False)
        self.workflows = Workflows(
            recorder.record,
            quiet=settings.workflow_quiet,
            timeout=settings.workflow_timeout,
            max_tasks=settings.max_tracked_tasks,
        )
        recorder.exemplify()
        recorder.also(Step, self.workflows.follow)
        recorder.also(Polled, self.workflows.poll)
        recorder.also(ChordBroken, self.workflows.breaks)
        labels = UserLabels(recorder.record, settings.label_names, settings.label_values)
        self._journal = Journal(
            recorder.record,
            self._fleet,
            emit_alike=recorder.record_alike,
            followed=self.workflows,
            label_of=label_rules(settings.task_allow, settings.task_deny, settings.task_rename),
            divide=labels.divide if settings.label_names else None,
            max_tasks=settings.max_tracked_tasks,
        )
        self._connected = False
        self._told = 0.0
        """When the newest report was made, in Unix seconds."""
        self._ticked = time.monotonic()

    def expect(self, worker: str) -> None:
        """Hold that a worker is there, though it has said nothing yet; before the thread starts."""
        self._journal.conditions[worker] = Condition(time.monotonic(), ("has said nothing yet",), ())

    @property
    def live(self) -> bool:
        """Whether what the recorder tells of this moment can be believed."""
        return self._connected and time.monotonic() - self._ticked < STALE_AFTER

    @property
    def connected(self) -> bool:
        """Whether reports can be read."""
        return self._connected

    @property
    def problems(self) -> dict[str, str]:
        """Why plug-ins failed that failed when they ran last."""
        return self._guard.problems

    @property
    def dead(self) -> bool:
        """Whether the thread has ended, or hangs."""
        return not self.is_alive() or time.monotonic() - self._ticked > DEAD_AFTER

    def troubles(self) -> list[str]:
        """Return why the numbers are not kept up to date, and why workers take no tasks; nothing if all is well."""
        if self.dead:
            return ["the listener thread is dead"]
        if not self._connected:
            return [self._guard.problems.get(PLUGIN, "not listening yet")]
        said = [f"{worker}: {why}" for worker, each in self._conditions() for why in each.troubles]
        return said + self.ailments()

    def ailments(self) -> list[str]:
        """Return why workers should be restarted; nothing if they are well."""
        now = time.monotonic()
        silent = [
            f"{worker}: silent for {now - each.at:.0f} s"
            for worker, each in self._conditions()
            if now - each.at > SILENT_AFTER
        ]
        return silent + [f"{worker}: {why}" for worker, each in self._conditions() for why in each.ailments]

    def _conditions(self) -> list[tuple[str, Condition]]:
        return list(self._journal.conditions.items())

    def ledgers(self) -> list[Ledger]:
        """Return what must outlive a restart."""
        return self._fleet.ledgers()

    def resume(self, ledgers: list[Ledger]) -> None:
        """Go on where an earlier run ended; before the thread starts."""
        self._fleet.resume(ledgers, _now())

    def run(self) -> None:
        """Listen until told to stop."""
        while not self.stopping.is_set():
            if self._guard.run(PLUGIN, self._open):
                self._guard.run(PLUGIN, self._read, timed=False)
            self._connected = False
            self._stream.close()
            self.recorder[observer.STREAM_UP].set((), 0)
            self.stopping.wait(RETRY)
        self._write_gauges(time.time())

    def _open(self) -> bool:
        self._stream.open()
        self._connected = True
        self._fleet.trust_from(_now())
        self.recorder[observer.STREAM_UP].set((), 1)
        return True

    def _read(self) -> None:
        """Take in reports, until told to stop and there are no more."""
        while not self.stopping.is_set():
            self._take(self._stream.read(READ_TIMEOUT))
        while bodies := self._stream.read(0.0):
            self._take(bodies)

    def _take(self, bodies: list[bytes]) -> None:
        at = _now()
        self.recorder.now = at.wall
        reports = list(decode_all(bodies, self._malformed))
        self._journal.handle(reports, at)
        if reports:
            self._told = reports[-1].timestamp
            self._write_lag(reports[-1], at)
        if at.monotonic - self._ticked >= TICK:
            self._ticked = at.monotonic
            self._journal.tick(at)
            self.workflows.tick(self._told)
            self._write_gauges(at.wall)

    def _write_gauges(self, now: float) -> None:
        gauges.write(self.recorder, self._journal, now)
        gauges.write_progress(self.recorder, self._journal.progress(), now)
        gauges.write_workflows(self.recorder, self.workflows)

    def _write_lag(self, newest: AnyReport, at: Instant) -> None:
        self.recorder[observer.EVENT_LAG].set((), max(0.0, at.wall - newest.timestamp))

    def _malformed(self, reason: Malformed) -> None:
        self.recorder[observer.EVENTS_MALFORMED].increase((reason,))


def _now() -> Instant:
    return Instant(time.time(), time.monotonic())
