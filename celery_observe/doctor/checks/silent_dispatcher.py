"""Whether `enable_events` would do anything."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed

_LEAST = 2.0
"""Seconds in which the heartbeat comes that was asked for."""


@checks(
    "silent-dispatcher",
    Severity.WARNING,
    alerts=("CeleryObserverLosing",),
    metrics=("celery_worker_up", "celery_worker_last_heartbeat_timestamp_seconds"),
)
def silent_dispatcher(evidence: Evidence) -> Verdicts:
    """A worker cannot send any event, though it would say that it does.

    A worker that was started with `--without-gossip` and `--without-heartbeat` and without `-E` has no event
    dispatcher. `celery control enable_events` answers "task events enabled" there, and nothing is ever sent; nothing
    tells that such a worker has died, either. The doctor asks each worker for a heartbeat: it answers, but none comes.

    Fix: start the worker with `-E`, or without `--without-heartbeat`.
    """
    if evidence.heard is None or not evidence.workers:
        yield Unknown(evidence.no_workers() if evidence.heard else evidence.why_no("heard"))
        return
    if evidence.heard.seconds < _LEAST:
        yield Unknown(f"events were read for {evidence.heard.seconds:.1f} s only")
        return
    silent = [worker.name for worker in evidence.workers if worker.name not in evidence.heard.workers]
    if silent:
        yield Found(
            message="Workers have no event dispatcher: enable_events would do nothing.",
            evidence=f"no event in {evidence.heard.seconds:.0f} s though asked for a heartbeat: {listed(silent)}",
            fix="Start them with -E, or drop --without-heartbeat"
            if evidence.heard.workers
            else "Start them with -E; give the workers' own --event-exchange, fanout_prefix and database",
        )
