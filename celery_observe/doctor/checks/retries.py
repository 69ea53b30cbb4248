"""Whether retries end, and give what fails time to recover."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "retries",
    Severity.WARNING,
    alerts=("CeleryRetryStorm",),
    metrics=("celery_task_outcomes_total", "celery_workflow_retries_total"),
)
def retries(evidence: Evidence) -> Verdicts:
    """Tasks are retried without end, or all at the same pace.

    With `max_retries=None` a task that can never succeed comes back for ever, and such tasks pile up until they are
    all that workers do. Retries that come after the same delay each time hit what is down together.

    Fix: give `max_retries` a number; set `retry_backoff=True` beside `autoretry_for`.
    """
    if not evidence.tasks:
        yield Unknown(evidence.no_workers("tasks"))
        return
    endless = [name for name, task in evidence.tasks.items() if task.max_retries is None]
    if endless:
        yield Found(
            message=f"{len(endless)} tasks may be retried without end.",
            evidence=f"max_retries is None: {listed(endless)}",
            fix="max_retries=10, or as many as make sense",
        )
    steady = [name for name, task in evidence.tasks.items() if task.retries_by_itself and not task.retry_backoff]
    if steady:
        yield Found(
            message=f"{len(steady)} tasks retry at a steady pace.",
            evidence=f"autoretry_for without retry_backoff: {listed(steady)}",
            fix="retry_backoff=True, retry_backoff_max=600, retry_jitter=True",
            severity=Severity.INFO,
        )
