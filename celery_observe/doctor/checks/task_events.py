"""Whether workers send the events of tasks, and whether these arrive."""

from __future__ import annotations

from collections.abc import Iterable

from celery_observe.doctor.evidence import Evidence, HeardWorker, Worker
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed

_FLAG = "celery -A proj worker -E (or worker_send_task_events = True)"

_LATE = 0.1
"""The share of events that may come after we have stopped to listen, from a worker under load."""
_LEAST = 3


@checks(
    "task-events",
    Severity.WARNING,
    alerts=("CeleryObserverLosing",),
    metrics=("celery_observe_tasks_unobserved_total",),
)
def task_events(evidence: Evidence) -> Verdicts:
    """Workers do not send task events, or these do not arrive.

    Without them no monitor, this exporter included, sees the tasks of that worker: its counters stand still while it
    works. Whether `-E` was given cannot be asked of a worker; it shows as soon as it executes a task, so a worker that
    was idle while the doctor listened is not judged unless `worker_send_task_events` is on.

    Workers on the threads pool lose events by themselves before Celery 5.7: the dispatcher is not thread-safe there.

    Fix: start workers with `-E` or set `worker_send_task_events = True`; on the threads pool use Celery 5.7.
    """
    if evidence.heard is None or not evidence.workers:
        yield Unknown(evidence.no_workers() if evidence.heard else evidence.why_no("heard"))
        return
    judged = [(worker, evidence.heard.workers.get(worker.name, HeardWorker())) for worker in evidence.workers]
    off = [worker for worker, heard in judged if worker.accepted and not heard.started]
    partly = [(worker, heard) for worker, heard in judged if heard.started and _lost(worker, heard) >= _LEAST]
    idle = [worker for worker, heard in judged if _is_idle(worker, heard)]
    if off:
        yield Found(
            message=f"{_workers(off)} executed tasks and sent no event of them.",
            evidence=f"{sum(worker.accepted or 0 for worker in off)} tasks accepted, no task-started, by {_names(off)}",
            fix=_FLAG,
        )
    if partly:
        accepted = sum(worker.accepted or 0 for worker, _ in partly)
        threads = any(worker.pool == "threads" for worker, _ in partly)
        yield Found(
            message=f"Events of {_workers([worker for worker, _ in partly])} are lost.",
            evidence=f"{accepted} tasks accepted, {sum(heard.started for _, heard in partly)} task-started arrived, "
            f"of {_names(worker for worker, _ in partly)}{', with the threads pool among them' if threads else ''}",
            fix="Upgrade to Celery 5.7" if threads else "Raise client-output-buffer-limit pubsub",
        )
    if idle:
        yield Unknown(f"{_names(idle)}: executed nothing while we listened, and do not say whether -E was given")


def _lost(worker: Worker, heard: HeardWorker) -> int:
    """Return how many events are missing; a few that are still on their way are not."""
    accepted = worker.accepted or 0
    return accepted - heard.started if heard.started < accepted * (1 - _LATE) else 0


def _is_idle(worker: Worker, heard: HeardWorker) -> bool:
    says = worker.conf is not None and worker.conf["worker_send_task_events"]
    return not says and not worker.accepted and not heard.received + heard.started


def _workers(workers: list[Worker]) -> str:
    return f"{len(workers)} worker{'s' if len(workers) > 1 else ''}"


def _names(workers: Iterable[Worker]) -> str:
    return listed(worker.name for worker in workers)
