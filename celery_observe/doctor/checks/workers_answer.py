"""Whether workers answer remote control."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "workers-answer",
    Severity.WARNING,
    alerts=("CeleryAllWorkersDown", "CeleryWorkerLost"),
    metrics=("celery_observe_workers_answered", "celery_worker_up"),
)
def workers_answer(evidence: Evidence) -> Verdicts:
    """No worker answers, or one that sends events does not.

    A worker that executes nothing but answers is idle; one that does not answer is gone, stuck, or was started with
    `worker_enable_remote_control` off. A solo worker answers only between two tasks. What the other checks say of
    workers holds of those that answered.

    Fix: start workers; give `--inspect-timeout` more seconds if they are far away; leave
    `worker_enable_remote_control` on.
    """
    if "broker" in evidence.missing:
        yield Unknown(evidence.why_no("broker"))
        return
    if not evidence.workers:
        yield Found(
            message="No worker answers.",
            evidence=evidence.missing.get("workers", "no answer to inspect stats"),
            fix="Start workers: celery -A proj worker -E",
        )
    if evidence.silent and evidence.workers:
        yield Found(
            message="Workers that send events do not answer.",
            evidence=f"{len(evidence.silent)} silent: {listed(evidence.silent)}",
            fix="Give --inspect-timeout 5; leave worker_enable_remote_control = True.",
        )
    if "details" in evidence.missing:
        yield Unknown(evidence.missing["details"])
