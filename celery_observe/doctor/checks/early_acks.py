"""Which tasks die with their worker."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks("early-acks", Severity.INFO, alerts=("CeleryTasksVanished",), metrics=("celery_task_outcomes_total",))
def early_acks(evidence: Evidence) -> Verdicts:
    """Tasks are acknowledged before they are executed.

    That is Celery's default: what a worker executes when its machine goes away is not executed again. It is right for
    tasks that must never run twice, and wrong for all others.

    Fix: set `acks_late=True` and `reject_on_worker_lost=True` on tasks that can be executed twice.
    """
    if not evidence.tasks:
        yield Unknown(evidence.no_workers("tasks"))
        return
    early = [name for name, task in evidence.tasks.items() if not task.acks_late]
    if early:
        yield Found(
            message=f"{len(early)} of {len(evidence.tasks)} tasks are lost with the worker that executes them.",
            evidence=f"acks_late is off: {listed(early)}",
            fix="acks_late=True, reject_on_worker_lost=True, where a task may run twice",
        )
