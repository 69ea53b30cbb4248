"""Whether a late acknowledgement is worth anything when a worker dies."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "acks-late",
    Severity.WARNING,
    alerts=("CeleryTasksKilled",),
    metrics=("celery_task_failures_total", "celery_worker_child_exits_total"),
)
def acks_late(evidence: Evidence) -> Verdicts:
    """Tasks with acks_late are lost all the same when their process is killed.

    `acks_late` alone keeps the message only until the worker's main process dies or loses its connection. If the child
    is killed (out of memory, SIGKILL, a segmentation fault), the main process acknowledges the message and the task
    has failed with WorkerLostError, unless `reject_on_worker_lost` puts it back.

    A task that kills its worker each time then comes back for ever: limit its deliveries (`x-delivery-limit` of a
    quorum queue), or let it count them.

    Fix: set `task_reject_on_worker_lost = True` (or `reject_on_worker_lost=True` on the task) for tasks that can be
    executed twice.
    """
    if not evidence.tasks:
        yield Unknown(evidence.no_workers("tasks"))
        return
    lost = [name for name, task in evidence.tasks.items() if task.acks_late and not task.reject_on_worker_lost]
    if lost:
        yield Found(
            message=f"{len(lost)} tasks with acks_late fail when their process is killed.",
            evidence=f"reject_on_worker_lost is off: {listed(lost)}",
            fix="task_reject_on_worker_lost = True",
        )
