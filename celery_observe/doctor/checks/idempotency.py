"""Which tasks have to be idempotent."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "idempotency",
    Severity.INFO,
    alerts=("CeleryTasksExecutedTwice",),
    metrics=("celery_task_duplicate_executions_total", "celery_task_redeliveries_total"),
)
def idempotency(evidence: Evidence) -> Verdicts:
    """Tasks may be executed twice, and must be idempotent.

    With `acks_late` a task is executed again when its worker dies or loses the broker, in part a second time. Whether
    its code can bear that, nobody but its author can tell: this is a list to go through.

    Fix: make them idempotent (a unique key, an upsert, a check of what is done already), or take `acks_late` off them.
    """
    if not evidence.tasks:
        yield Unknown(evidence.no_workers("tasks"))
        return
    late = [name for name, task in evidence.tasks.items() if task.acks_late]
    if late:
        yield Found(
            message=f"{len(late)} tasks may be executed twice; only their authors know if they are idempotent.",
            evidence=f"acks_late is on: {listed(late)}",
            fix="Go through them; acks_late=False where one must never run twice",
        )
