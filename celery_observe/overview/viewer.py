"""Takes the view: once every two seconds, of all sources."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from celery_observe.metrics import observer
from celery_observe.overview.concerns import concerns
from celery_observe.overview.model import Alert, Now, Overview, Queue, Root, Worker
from celery_observe.overview.past import Past, running, waiting
from celery_observe.overview.tables import (
    MOST_RANKED,
    bounded,
    failing,
    observer_row,
    queue_rows,
    slowest,
    worker_rows,
    workflow_rows,
)
from celery_observe.overview.window import Totals, Window, totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_observe.fleet import Instant
    from celery_observe.overview.source import Source

INTERVAL = 2.0
"""Seconds between two views."""


class Viewer:
    """Remembers what it takes to tell of the last minutes."""

    def __init__(self, started: Instant, *, version: str, brokers: Sequence[str], flower: str | None) -> None:
        """Take the start of the process, what brokers are called (none: processes report), and Flower's URL."""
        self._started = started.monotonic
        self._past = Past(started.monotonic)
        self._window = Window(started.monotonic)
        self._events = 0.0
        self._looked = started.monotonic
        self._version = version
        self._brokers = list(brokers)
        self._flower = flower

    def remember(self, now: Instant, sources: Sequence[Source]) -> None:
        """Add to the history what is due: to be called every ``INTERVAL``, whether or not somebody looks."""
        self._past.remember(now.monotonic, sources)

    def look(
        self,
        now: Instant,
        sources: Sequence[Source],
        own: Source,
        reasons: Sequence[str],
        alerts: Sequence[Alert] | None,
    ) -> Overview:
        """Return what there is to see now. ``own`` is what the process counts of itself; no alerts: no rules."""
        at = now.monotonic
        seconds, lately = self._window.lately(at, totals(sources))
        left_out: dict[str, int] = {}
        workers = [row for each in sources for row in worker_rows(each, lately, seconds, now.wall)]
        queues = [row for each in sources for row in queue_rows(each)]
        roots = [row for each in sources for row in workflow_rows(each)]
        slow, failed = slowest(sources, lately), failing(lately)
        shown_workers, left_out["workers"] = bounded(workers, "worker", _worker_rank)
        shown_queues, left_out["queues"] = bounded(queues, "queue", _queue_rank)
        shown_roots, left_out["workflows"] = bounded(roots, "root", _root_rank)
        left_out["slowest"], left_out["failing"] = (max(0, len(rows) - MOST_RANKED) for rows in (slow, failed))
        own_row = observer_row(sources, own, lately, self._rate_of_events(at, sources))
        return Overview(
            version=self._version,
            at=now.wall,
            uptime=at - self._started,
            window=round(seconds, 1),
            ready=not reasons,
            reasons=list(reasons),
            brokers=self._brokers,
            flower=self._flower,
            outcomes=_outcomes(lately),
            now=_at_a_glance(sources, queues, workers),
            concerns=concerns(shown_queues, shown_workers, shown_roots, own_row, ready=not reasons),
            alerts=list(alerts or ()),
            alerting=alerts is not None,
            history=self._past.told(at),
            queues=shown_queues,
            workers=shown_workers,
            slowest=slow[:MOST_RANKED],
            failing=failed[:MOST_RANKED],
            workflows=shown_roots,
            observer=own_row,
            left_out=left_out,
        )

    def _rate_of_events(self, at: float, sources: Sequence[Source]) -> float:
        events = sum(each.total(observer.EVENTS) or 0.0 for each in sources)
        rate = (events - self._events) / (at - self._looked) if at > self._looked else 0.0
        self._events, self._looked = events, at
        return round(rate, 2)


def _outcomes(lately: Totals) -> dict[str, float]:
    found: Counter[str] = Counter()
    for (_broker, _task, outcome), count in lately.outcomes.items():
        found[outcome] += int(count)
    return dict(+found)


def _at_a_glance(sources: Sequence[Source], queues: Sequence[Queue], workers: Sequence[Worker]) -> Now:
    slots = [row.slots for row in workers if row.up and row.slots is not None]
    return Now(
        running=running(sources),
        slots=sum(slots) if slots else None,
        waiting=waiting(sources),
        oldest=max((row.oldest for row in queues if row.oldest is not None), default=None),
        workers_up=sum(bool(row.up) for row in workers),
        workers_known=len(workers),
    )


def _queue_rank(row: Queue) -> tuple[bool, float, float]:
    return row.is_troubled, row.oldest or 0.0, row.waiting or 0.0


def _worker_rank(row: Worker) -> tuple[bool, float]:
    return row.is_troubled, row.utilisation


def _root_rank(row: Root) -> tuple[int, float]:
    return len(row.chords_stalled), row.active
