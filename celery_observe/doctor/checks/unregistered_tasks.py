"""Whether workers know the tasks that are sent."""

from __future__ import annotations

from collections.abc import Iterator

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "unregistered-tasks",
    Severity.CRITICAL,
    alerts=("CeleryTasksUnregistered",),
    metrics=("celery_task_failures_total", "celery_worker_messages_refused_total"),
)
def unregistered_tasks(evidence: Evidence) -> Verdicts:
    """Tasks are sent that their workers do not know.

    A worker discards a message whose task it has not registered, and logs an error; with early acknowledgement it is
    gone. Most often a worker runs older code than the publisher, or does not import the module of the task.

    Fix: deploy workers before publishers; name the module in `imports`, or call `autodiscover_tasks`.
    """
    known = {worker.name: set(worker.tasks) for worker in evidence.workers if worker.tasks is not None}
    if not known:
        yield Unknown(evidence.no_workers("tasks"))
        return
    unknown = {(task, queue) for task, queue in _on_the_wire(evidence) if _is_unknown(evidence, known, task, queue)}
    failed = evidence.heard.unregistered if evidence.heard else 0
    if unknown or failed:
        named = listed(f"{task} in {queue}" for task, queue in unknown)
        refused = f"{failed} failed with NotRegistered" if failed else ""
        yield Found(
            message="Tasks are sent that workers have not registered.",
            evidence="; ".join(filter(None, [named, refused])),
            fix='Import their module in the worker: imports = ["proj.tasks"], or restart it with the new code',
        )
    for part in ("redis.messages", "heard"):
        if part in evidence.missing:
            yield Unknown(evidence.missing[part])


def _on_the_wire(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Yield task and queue of what is waiting, and of what was sent."""
    for peek in evidence.redis.peeks if evidence.redis else ():
        yield from ((task, peek.queue) for task in peek.tasks)
    for task, heard in evidence.heard.tasks.items() if evidence.heard else ():
        yield from ((task, queue) for queue in heard.queues if task)


def _is_unknown(evidence: Evidence, known: dict[str, set[str]], task: str, queue: str) -> bool:
    """Whether a worker that consumes the queue has not registered the task. Celery's own are known to all."""
    if task.startswith("celery."):
        return False
    consumers = [w.name for w in evidence.workers if queue in {each.name for each in w.queues or ()}]
    return any(task not in known[name] for name in consumers if name in known)
