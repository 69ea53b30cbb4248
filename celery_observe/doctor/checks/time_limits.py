"""Whether a task that hangs ends some day."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "time-limits",
    Severity.WARNING,
    alerts=("CeleryTaskHung", "CeleryWorkerStalled"),
    metrics=("celery_task_oldest_running_seconds",),
)
def time_limits(evidence: Evidence) -> Verdicts:
    """Tasks have no time limit.

    A task that waits for a server without a timeout occupies its slot for ever; a few of them, and the worker is up,
    answers, and executes nothing. A hard limit replaces the process, a soft one lets the task clean up first.

    Only pools of processes enforce both: see [pool-limits](pool-limits.md).

    Fix: set `task_soft_time_limit` and, somewhat above it, `task_time_limit`; and timeouts on all that a task calls.
    """
    forking = [worker for worker in evidence.workers if worker.limits is not None and worker.pool == "prefork"]
    asked = [worker for worker in forking if worker.tasks is not None]
    if not asked:
        yield Unknown(evidence.no_workers("tasks, of those with a pool of processes"))
        return
    without = {
        name
        for worker in asked
        if worker.limits is not None and not any(worker.limits)
        for name, task in (worker.tasks or {}).items()
        if not task.time_limit and not task.soft_time_limit
    }
    if without:
        hosts = listed(worker.name for worker in asked if not any(worker.limits or ()))
        yield Found(
            message=f"{len(without)} tasks may hang for ever.",
            evidence=f"no time limit: {listed(without)}; nor has the pool of {hosts}",
            fix="task_soft_time_limit = 300; task_time_limit = 330",
        )
