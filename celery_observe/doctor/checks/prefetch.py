"""Whether long tasks keep others waiting behind them."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence, Worker
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed

_LONG = 10.0
"""Seconds from which on a task keeps those behind it waiting for what a user notices."""


@checks(
    "prefetch",
    Severity.WARNING,
    alerts=("CeleryWorkerSaturated", "CeleryWorkerPrefetchReduced"),
    metrics=("celery_worker_prefetch", "celery_worker_reserved", "celery_task_worker_wait_seconds"),
)
def prefetch(evidence: Evidence) -> Verdicts:
    """Messages wait in workers behind long tasks.

    A worker takes `worker_prefetch_multiplier` messages for each of its slots, 4 by default. Those wait behind what it
    executes, though another worker may be idle; autoscalers do not see them in the queue. For short tasks that saves
    time, for tasks of many seconds it costs as much. 0 is no limit: one worker takes the whole queue.

    Fix: set `worker_prefetch_multiplier = 1` for workers of long tasks (and `acks_late`, so that it is one message
    for each slot, not two), or give long tasks a queue and workers of their own.
    """
    known = [worker for worker in evidence.workers if worker.conf is not None]
    if not known:
        yield Unknown(evidence.no_workers("conf"))
        return
    greedy = [worker.name for worker in known if _multiplier(worker) == 0]
    if greedy:
        yield Found(
            message=f"{_workers(len(greedy))} take as many messages as there are.",
            evidence=f"worker_prefetch_multiplier is 0: {listed(greedy)}",
            fix="worker_prefetch_multiplier = 1",
        )
    longest = _longest(evidence)
    behind = [(_age(worker, evidence.now, longest), worker) for worker in known if _multiplier(worker) > 1]
    long = [(age, task, worker) for (age, task), worker in behind if age >= _LONG]
    if long:
        age, task, worst = max(long, key=lambda each: each[0])
        held = sum(worker.reserved or 0 for *_, worker in long)
        yield Found(
            message=f"{_workers(len(long))} hold messages behind long tasks.",
            evidence=f"{task} ran for {age:.0f} s, {held} messages held; multiplier {_multiplier(worst)}; {worst.name}",
            fix="worker_prefetch_multiplier = 1",
        )


def _longest(evidence: Evidence) -> float:
    tasks = evidence.heard.tasks.values() if evidence.heard else ()
    return max((task.longest for task in tasks), default=0.0)


def _multiplier(worker: Worker) -> int:
    multiplier = (worker.conf or {}).get("worker_prefetch_multiplier")
    return 1 if multiplier is None else int(multiplier)


def _age(worker: Worker, now: float, longest: float) -> tuple[float, str]:
    """Return for how long a worker has been executing something, or else the longest runtime of any task."""
    running = [(now - each.since, each.task) for each in worker.running or () if each.since is not None]
    return max(running, default=(longest, "a task"))


def _workers(number: int) -> str:
    return f"{number} worker{'' if number == 1 else 's'}"
