"""Whether RabbitMQ closes the channel of a worker that holds messages for long."""

from __future__ import annotations

from celery_observe.broker import AMQP
from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity

_TIMEOUT = 1800.0
"""Seconds, unless `consumer_timeout` of RabbitMQ (in milliseconds) says otherwise; since 3.8.17."""


@checks(
    "acknowledgement-timeout",
    Severity.WARNING,
    transports=AMQP,
    alerts=("CeleryWorkerDisconnected", "CeleryTasksExecutedTwice"),
    metrics=("celery_worker_consumer_restarts_total", "celery_task_redeliveries_total"),
)
def acknowledgement_timeout(evidence: Evidence) -> Verdicts:
    """RabbitMQ closes the channel of a worker that holds a message for half an hour.

    A message must be acknowledged within `consumer_timeout`, 30 minutes by default. A worker that holds one longer, for
    an ETA or a task with `acks_late`, loses its channel: all that it holds goes back to the queues, and is executed
    twice. With quorum queues ETAs wait in RabbitMQ instead.

    Fix: raise `consumer_timeout` in rabbitmq.conf (milliseconds) above the longest ETA and runtime, or use quorum
    queues for what has an ETA.
    """
    asked = [worker for worker in evidence.workers if worker.scheduled is not None and worker.running is not None]
    if not asked:
        yield Unknown(evidence.no_workers("running"))
        return
    held = [
        (each.due - evidence.now, f"{each.task}, until its ETA") for worker in asked for each in worker.scheduled or ()
    ]
    held += [
        (evidence.now - each.since, f"{each.task}, which it executes")
        for worker in asked
        for each in worker.running or ()
        if each.since is not None and not each.acknowledged
    ]
    longest, what = max(held, default=(0.0, ""))
    if longest > _TIMEOUT:
        yield Found(
            message="A worker holds a message for longer than RabbitMQ allows by default.",
            evidence=f"{longest:.0f} s: {what}; consumer_timeout is {_TIMEOUT:.0f} s unless raised",
            fix=f"consumer_timeout = {int(longest * 2) * 1000}",
        )
