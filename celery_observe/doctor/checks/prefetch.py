"""Whether long tasks keep others waiting behind them."""

from __future__ import annotations

from collections.abc import Iterator

from celery_observe.doctor.evidence import Evidence, Worker
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity

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
    longest = _longest(evidence)
    for worker in known:
        yield from _of(worker, evidence.now, longest)


def _longest(evidence: Evidence) -> float:
    tasks = evidence.heard.tasks.values() if evidence.heard else ()
    return max((task.longest for task in tasks), default=0.0)


def _of(worker: Worker, now: float, longest: float) -> Iterator[Found]:
    multiplier = (worker.conf or {}).get("worker_prefetch_multiplier")
    running = [(now - each.since, each.task) for each in worker.running or () if each.since is not None]
    age, task = max(running, default=(longest, "a task"))
    if multiplier == 0:
        yield Found(
            message=f"{worker.name} takes as many messages as there are.",
            evidence="worker_prefetch_multiplier is 0",
            fix="worker_prefetch_multiplier = 1",
            subject=worker.name,
        )
    elif multiplier is not None and multiplier > 1 and age >= _LONG:
        yield Found(
            message=f"{worker.name} holds messages behind long tasks.",
            evidence=f"{task} ran for {age:.0f} s, {worker.reserved or 0} messages held; multiplier {multiplier}",
            fix="worker_prefetch_multiplier = 1",
            subject=worker.name,
        )
