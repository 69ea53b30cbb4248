"""Whether Redis hands out messages again that are being worked on."""

from __future__ import annotations

from collections.abc import Iterator

from celery_observe.broker import REDIS
from celery_observe.doctor.evidence import Evidence, Task
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed

_DEFAULT = 3600.0


@checks(
    "visibility-timeout",
    Severity.CRITICAL,
    transports=REDIS,
    alerts=("CeleryQueueEtaBeyondVisibilityTimeout", "CeleryTasksExecutedTwice"),
    metrics=("celery_queue_eta_beyond_visibility_timeout", "celery_task_duplicate_executions_total"),
)
def visibility_timeout(evidence: Evidence) -> Verdicts:
    """Messages are handed out again while a worker still has them.

    On Redis a message that is not acknowledged within `visibility_timeout` (an hour, unless set) goes back to its
    queue, and the task is executed once more, by another worker at the same time. A worker holds a message for that
    long when its ETA, its countdown or the delay of its retry is that far away, or when a task with `acks_late` runs
    for so long. Any worker gives back the messages of all: the least timeout of all workers counts.

    Fix: set `visibility_timeout` in `broker_transport_options` above the longest ETA, retry delay and runtime, to the
    same in all processes; keep what is due days later in a database, and let beat send it.
    """
    timeouts = sorted(_timeouts(evidence))
    if not timeouts:
        yield Unknown(evidence.no_workers("conf"))
        return
    least = timeouts[0]
    if timeouts[-1] != least:
        yield Found(
            message="Processes disagree on the visibility timeout; the least counts.",
            evidence=f"visibility_timeout from {least:.0f} s to {timeouts[-1]:.0f} s",
            fix=_fix(timeouts[-1]),
            severity=Severity.WARNING,
        )
    yield from _held(evidence, least)
    yield from _possible(evidence, least)


def _timeouts(evidence: Evidence) -> set[float]:
    told = {
        float(conf["broker_transport_options"].get("visibility_timeout", _DEFAULT))
        for _, conf in evidence.configurations
    }
    return told or ({evidence.redis.visibility_timeout} if evidence.redis else set())


def _held(evidence: Evidence, least: float) -> Iterator[Found]:
    """Tell what is held for too long at this moment."""
    held = [(each.due - evidence.now, each.task) for worker in evidence.workers for each in worker.scheduled or ()]
    longest, task = max(held, default=(0.0, ""))
    beyond = sum(queue.beyond for queue in evidence.queues or ())
    if longest > least:
        yield Found(
            message=f"{task} waits in a worker for its ETA, and will be executed twice.",
            evidence=f"its ETA is {longest:.0f} s away, visibility_timeout {least:.0f} s",
            fix=_fix(longest),
        )
    elif beyond and evidence.redis and evidence.redis.visibility_timeout == least:
        yield Found(
            message=f"{beyond} messages have an ETA after their visibility timeout, and will be executed twice.",
            evidence=f"{beyond} entries of unacked; visibility_timeout {least:.0f} s",
            fix=_fix(least),
        )
    running = [
        (evidence.now - each.since, each.task)
        for worker in evidence.workers
        for each in worker.running or ()
        if each.since is not None and not each.acknowledged
    ]
    age, task = max(running, default=(0.0, ""))
    if age > least:
        yield Found(
            message=f"{task} has been running for longer than its message is its own.",
            evidence=f"{age:.0f} s, not acknowledged; visibility_timeout {least:.0f} s",
            fix=_fix(age),
        )


def _possible(evidence: Evidence, least: float) -> Iterator[Found]:
    """Tell what can be held for too long by what tasks declare."""
    tasks = evidence.tasks
    retried = {name: delay for name, task in tasks.items() if (delay := _retry_delay(task)) > least}
    if retried:
        yield Found(
            message="Retries may wait for longer than their message is their worker's own.",
            evidence=f"up to {max(retried.values()):.0f} s, visibility_timeout {least:.0f} s: {listed(retried)}",
            fix=f"retry_backoff_max or default_retry_delay below {least:.0f}, or {_fix(max(retried.values()))}",
            severity=Severity.WARNING,
        )
    long = {name: task.time_limit for name, task in tasks.items() if task.acks_late and (task.time_limit or 0) > least}
    if long:
        most = max(limit or 0 for limit in long.values())
        yield Found(
            message="Tasks with acks_late may run for longer than their message is their own.",
            evidence=f"time_limit up to {most:.0f} s, visibility_timeout {least:.0f} s: {listed(long)}",
            fix=_fix(most),
            severity=Severity.WARNING,
        )


def _retry_delay(task: Task) -> float:
    """Return the longest delay of a retry that the declaration of a task allows."""
    return task.retry_backoff_max if task.retries_by_itself and task.retry_backoff else task.default_retry_delay


def _fix(above: float) -> str:
    return f'broker_transport_options = {{"visibility_timeout": {int(max(above, _DEFAULT) * 2)}}}'
