"""Beat → Fact: what a worker says of itself each second, beside the tasks that it executes. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from celery_observe.event import Event
from celery_observe.fact import ChildrenExited, Fact, TaskLimited, WorkerReported, WorkerStopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_observe.report import Beat


def heartbeat(beat: Beat) -> Event:
    """Return what Celery would have said."""
    return Event(
        type="worker-heartbeat",
        timestamp=beat.timestamp,
        hostname=beat.hostname,
        pid=beat.pid,
        freq=1.0,
        active=beat.active,
        processed=beat.processed,
        loadavg=beat.loadavg or None,
        sw_ver=beat.version or None,
    )


class WorkerBeats:
    """Tells what workers say, and once what they say again and again; ``label_of`` as in the journal."""

    def __init__(self, emit: Callable[[Fact], None], label_of: Callable[[str], str]) -> None:
        self._emit = emit
        self._label_of = label_of
        self._limited: dict[str, set[str]] = {}
        self._stopped: set[str] = set()

    def tell(self, report: Beat) -> None:
        """Tell what a beat says."""
        worker = report.hostname
        if report.stopped_by and worker not in self._stopped:
            self._emit(WorkerStopped(worker, report.stopped_by))
        (self._stopped.add if report.stopped_by else self._stopped.discard)(worker)
        self._emit(
            WorkerReported(
                worker,
                report.reserved,
                report.scheduled,
                report.prefetch,
                report.slots,
                int(report.connected),
                report.restarts,
                report.spawned,
                report.memory,
                report.children_memory,
            )
        )
        limited = {limit.name for limit in report.limits}
        for limit in report.limits:
            self._emit(TaskLimited(worker, self._label_of(limit.name), limit.rate, limit.waiting))
        for name in self._limited.get(worker, set()) - limited:
            self._emit(TaskLimited(worker, self._label_of(name), math.inf, 0))
        self._limited[worker] = limited
        for reason, count in report.exits.items():
            self._emit(ChildrenExited(worker, reason, count))

    def forget(self, worker: str) -> None:
        """Forget a worker that is gone."""
        self._stopped.discard(worker)
        self._limited.pop(worker, None)
