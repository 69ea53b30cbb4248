"""Whether each worker has a name of its own."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "duplicate-names",
    Severity.WARNING,
    alerts=("CeleryWorkerFlapping",),
    metrics=("celery_worker_up", "celery_worker_processed_total"),
)
def duplicate_names(evidence: Evidence) -> Verdicts:
    """Two workers have the same node name.

    Their answers and heartbeats cannot be told apart: of two that die one is missed by nobody, and what is said to one
    of them (revoke, pool_restart) is done by both. In containers `%h` is often the same name for all.

    Fix: start workers with `-n worker-%n@%h`, with a host name that differs, such as the pod's.
    """
    if evidence.heard is None:
        yield Unknown(evidence.why_no("heard"))
        return
    shared = [name for name, worker in evidence.heard.workers.items() if len(worker.pids) > 1]
    if shared:
        yield Found(
            message="Workers share a node name.",
            evidence=f"heartbeats of more than one process: {listed(shared)}",
            fix="celery -A proj worker -n NAME@%h, another NAME for each",
        )
