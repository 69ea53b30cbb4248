"""Whether the processes of a pool are ever replaced."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks(
    "child-recycling",
    Severity.INFO,
    alerts=("CeleryTasksKilled", "CeleryWorkerChildrenDying"),
    metrics=(
        "celery_worker_child_exits_total",
        "celery_worker_peak_resident_memory_bytes",
        "celery_task_peak_memory_bytes",
    ),
)
def child_recycling(evidence: Evidence) -> Verdicts:
    """Processes of the pool are never replaced.

    What leaks in a task, or in a library that it uses, stays until the kernel kills the process in the middle of some
    task. A limit lets the child end between two tasks instead.

    Fix: set `worker_max_memory_per_child` (KiB) or `worker_max_tasks_per_child`; only the prefork pool heeds them.
    """
    forking = [worker for worker in evidence.workers if worker.pool == "prefork" and worker.conf is not None]
    if not forking:
        yield Unknown(evidence.no_workers("settings, of those with a pool of processes"))
        return
    unlimited = [
        worker.name
        for worker in forking
        if worker.conf is not None
        and not (
            worker.max_tasks or worker.conf["worker_max_memory_per_child"] or worker.conf["worker_max_tasks_per_child"]
        )
    ]
    if unlimited:
        yield Found(
            message="Pool processes are never replaced.",
            evidence=f"neither worker_max_memory_per_child nor worker_max_tasks_per_child: {listed(unlimited)}",
            fix="worker_max_memory_per_child = 400_000  # KiB",
        )
