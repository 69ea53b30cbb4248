"""Whether each queue has somebody who consumes it."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "queue-consumers",
    Severity.CRITICAL,
    alerts=("CeleryQueueWithoutConsumers",),
    metrics=("celery_queue_consumers", "celery_queue_waiting"),
)
def queue_consumers(evidence: Evidence) -> Verdicts:
    """Queues have no consumers.

    What is sent there waits for ever, and nobody gets an error. A queue that is empty as well may be a remnant: on
    Redis its binding stays when its last consumer has gone.

    Fix: start a worker with `-Q QUEUE`, or do not send there; delete the bindings of a queue that is no more.
    """
    if evidence.queues is None:
        yield Unknown(evidence.why_no("queues"))
        return
    if not evidence.workers and not any(queue.consumers for queue in evidence.queues):
        yield Unknown(evidence.no_workers("queues"))
        return
    if evidence.redis is not None and evidence.redis.orphans is None:
        yield Unknown("the keyspace is too large to be walked through: there may be queues that were not found")
    alone = [queue for queue in evidence.queues if queue.consumers == 0]
    full = {queue.name: queue.waiting for queue in alone if queue.waiting}
    if full:
        yield Found(
            message=f"Messages wait in {len(full)} queue{'s' if len(full) > 1 else ''} that nobody consumes.",
            evidence=f"{sum(full.values())} messages in {listed(full)}{evidence.doubt}",
            fix=f"celery -A proj worker -Q {','.join(sorted(full)[:3])}",
            severity=Severity.WARNING if evidence.doubt else None,
        )
    empty = [queue.name for queue in alone if not queue.waiting]
    if empty:
        yield Found(
            message="Empty queues have no consumers.",
            evidence=listed(empty),
            fix="Consume them, or unbind them",
            severity=Severity.INFO,
        )
