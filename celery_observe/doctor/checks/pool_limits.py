"""Whether the pool of a worker enforces the time limits that are set."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence, Worker
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed

_NONE = {"threads", "solo"}
_HARD_ONLY = {"gevent", "eventlet"}


@checks(
    "pool-limits",
    Severity.WARNING,
    alerts=("CeleryTaskHung", "CeleryTasksKilledByTimeLimit"),
    metrics=("celery_task_oldest_running_seconds", "celery_worker_info"),
)
def pool_limits(evidence: Evidence) -> Verdicts:
    """Time limits are set that the pool does not enforce.

    The pools `threads` and `solo` enforce no time limit at all, `gevent` and `eventlet` no soft one: a task that hangs
    goes on, and nothing says that its limit has passed. `revoke(terminate=True)` does nothing there either.

    Fix: use the prefork pool (`-P prefork`) for tasks that need limits; elsewhere set timeouts on what tasks call.
    """
    if not evidence.workers:
        yield Unknown(evidence.no_workers())
        return
    for pool in sorted({worker.pool for worker in evidence.workers} & (_NONE | _HARD_ONLY)):
        workers = [worker for worker in evidence.workers if worker.pool == pool]
        limited = {what for worker in workers for what in _limits(worker, soft_only=pool in _HARD_ONLY)}
        if limited:
            yield Found(
                message=f"The {pool} pool enforces no {'soft ' if pool in _HARD_ONLY else ''}time limit.",
                evidence=f"{listed(limited)}; on {listed(worker.name for worker in workers)}",
                fix="-P prefork",
            )


def _limits(worker: Worker, *, soft_only: bool) -> list[str]:
    """Return the limits that are set for this worker, and that its pool leaves alone."""
    conf = worker.conf or {}
    names = ["soft_time_limit"] if soft_only else ["soft_time_limit", "time_limit"]
    common = {name: conf.get(f"task_{name}") for name in names}
    own = [
        f"a limit of {task}"
        for task, said in (worker.tasks or {}).items()
        if any(getattr(said, name) not in {None, 0, common[name]} for name in names)
    ]
    return [f"task_{name} = {limit:g}" for name, limit in common.items() if limit] + own
