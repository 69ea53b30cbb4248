"""Whether tasks are routed to where somebody consumes."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "routes",
    Severity.CRITICAL,
    alerts=("CeleryQueueWithoutConsumers", "CeleryQueueOldestMessageTooOld"),
    metrics=("celery_task_published_total", "celery_queue_consumers"),
)
def routes(evidence: Evidence) -> Verdicts:
    """Tasks are routed to queues that no worker consumes.

    `task_create_missing_queues` makes any queue that a route names, a misspelt one too, so sending succeeds and the
    task is never executed.

    Fix: correct the queue in `task_routes`, or start a worker with `-Q` for it.
    """
    consumed = evidence.reached
    if not consumed:
        yield Unknown(evidence.no_workers("queues"))
        return
    seen = _seen(evidence, consumed)
    if seen:
        yield Found(
            message="Tasks are being sent to where no worker consumes.",
            evidence=f"task-sent: {listed(f'{task} to {queue}' for task, queue in seen)}{evidence.doubt}",
            fix=_fix(seen),
            severity=Severity.WARNING if evidence.doubt else None,
        )
    if evidence.app is None:
        yield Unknown(f"routes are not known: {evidence.why_no('app')}")
        return
    declared = {(task, queue) for task, queue in evidence.app.routes.items() if queue not in consumed}
    if evidence.app.default_queue and evidence.app.default_queue not in consumed:
        declared.add(("any other task", evidence.app.default_queue))
    if declared - seen:
        yield Found(
            message="Routes lead to queues that no worker consumes.",
            evidence=f"{listed(f'{task} to {queue}' for task, queue in declared)}{evidence.doubt}",
            fix=_fix(declared),
            severity=Severity.WARNING,
        )
    if evidence.app.default_queue is None:
        yield Unknown("task_routes has functions or patterns that cannot be followed")


def _seen(evidence: Evidence, consumed: set[str]) -> set[tuple[str, str]]:
    tasks = evidence.heard.tasks.items() if evidence.heard else ()
    return {(name, queue) for name, task in tasks for queue in task.queues - consumed}


def _fix(routes: set[tuple[str, str]]) -> str:
    queues = sorted({queue for _, queue in routes})[:3]
    return f"task_routes, or celery -A proj worker -Q {','.join(queues)}"
