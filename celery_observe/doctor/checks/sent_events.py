"""Whether publishers say what they send."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence, whose
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "sent-events",
    Severity.WARNING,
    alerts=("CeleryObjectiveUnmeasured",),
    metrics=("celery_task_published_total", "celery_task_queue_wait_seconds"),
)
def sent_events(evidence: Evidence) -> Verdicts:
    """Publishers do not say what they send.

    Only `task-sent` tells which queue a task went to and when: without it there is no wait in the queue, no rate of
    publishing, and no sign of tasks that were sent to where nobody consumes. The setting is that of the publisher: of
    web processes and beat as much as of workers, which send retries and the next task of a chain.

    Fix: set `task_send_sent_event = True` in the app's configuration.
    """
    off = whose(evidence, "task_send_sent_event", [False])
    if off:
        yield Found(
            message="task-sent events are off.",
            evidence=f"task_send_sent_event is False for {listed(off)}",
            fix="task_send_sent_event = True",
        )
    elif evidence.heard is not None:
        received = {name: task for name, task in evidence.heard.tasks.items() if task.received > 1 and not task.sent}
        if received:
            yield Found(
                message="Some publishers send no task-sent events.",
                evidence=f"received, but never announced: {listed(received)}",
                fix="task_send_sent_event = True, in the app of that publisher too",
                severity=Severity.INFO,
            )
    if not any(evidence.configurations):
        yield Unknown(evidence.no_workers("conf"))
