"""Whether priorities do anything."""

from __future__ import annotations

from collections.abc import Iterator

from celery_observe.broker import AMQP, REDIS
from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed


@checks("priorities", Severity.WARNING, metrics=("celery_task_received_priority_total", "celery_queue_waiting"))
def priorities(evidence: Evidence) -> Verdicts:
    """Priorities are set that do nothing, or less than they seem to.

    On RabbitMQ a priority counts only in a classic queue that was declared with `x-max-priority`; elsewhere the message
    carries it for nothing. On Redis `task_queue_max_priority` does nothing; messages go to one list for each step of
    `priority_steps` (0, 3, 6, 9), so 4 and 5 are as good as 3, and 0 is the highest, the other way round than on
    RabbitMQ. On any broker a priority does not overtake what a worker has prefetched already.

    Fix: RabbitMQ: `task_queue_max_priority = 10` and declare the queues anew. Redis: only priorities of
    `broker_transport_options["priority_steps"]`. Both: `worker_prefetch_multiplier = 1`.
    """
    transport = evidence.broker.transport
    if not any(evidence.configurations):
        yield Unknown(evidence.no_workers("conf"))
    elif transport in AMQP:
        yield from _of_rabbitmq(evidence)
    elif transport in REDIS:
        yield from _of_redis(evidence)


def _given(evidence: Evidence) -> dict[int, set[str]]:
    """Return the priorities that are given by default, and by whom."""
    found: dict[int, set[str]] = {}
    for owner, conf in evidence.configurations:
        if conf["task_default_priority"] is not None:
            found.setdefault(conf["task_default_priority"], set()).add(f"task_default_priority of {owner}")
    for name, task in evidence.tasks.items():
        if task.priority is not None:
            found.setdefault(task.priority, set()).add(name)
    return found


def _of_rabbitmq(evidence: Evidence) -> Iterator[Found]:
    given = sorted(set().union(*_given(evidence).values()))
    plain = [name for name, queues in evidence.consumed.items() if not any(queue.max_priority for queue in queues)]
    if given and plain:
        yield Found(
            message="Priorities are given, and queues have none.",
            evidence=f"given by {listed(given)}; without x-max-priority: {listed(plain)}",
            fix='task_queue_max_priority = 10, or Queue(…, queue_arguments={"x-max-priority": 10})',
        )
    quorum = [
        name
        for name, queues in evidence.consumed.items()
        if any(queue.max_priority and queue.kind == "quorum" for queue in queues)
    ]
    if quorum:
        yield Found(
            message="Quorum queues do not heed x-max-priority.",
            evidence=f"x-queue-type quorum with x-max-priority: {listed(quorum)}",
            fix="Queues of their own for what is urgent, or classic queues",
        )


def _of_redis(evidence: Evidence) -> Iterator[Found]:
    most = {owner for owner, conf in evidence.configurations if conf["task_queue_max_priority"]}
    most |= {f"queue {name}" for name, queues in evidence.consumed.items() if any(each.max_priority for each in queues)}
    if most:
        yield Found(
            message="task_queue_max_priority and x-max-priority do nothing on Redis.",
            evidence=f"set for {listed(most)}",
            fix='broker_transport_options = {"priority_steps": list(range(10))}, without task_queue_max_priority',
        )
    steps = evidence.redis.priority_steps if evidence.redis else (0, 3, 6, 9)
    told = {tuple(conf["broker_transport_options"].get("priority_steps", steps)) for _, conf in evidence.configurations}
    for unequal in sorted(told):
        between = {str(level): by for level, by in _given(evidence).items() if level not in unequal}
        if between:
            yield Found(
                message="Priorities between two steps are rounded down.",
                evidence=f"{listed(between)} of {listed(set().union(*between.values()))}; steps {list(unequal)}",
                fix='broker_transport_options = {"priority_steps": list(range(10))}',
                severity=Severity.INFO,
            )
