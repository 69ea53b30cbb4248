"""Flower 2.2: names, labels and types of its ``/metrics``.

Source: what the published package serves; tests compare the two on one broker.
"""

from __future__ import annotations

from typing import Any

from celery_observe import fact
from celery_observe.compat.peer import ANNOUNCED, CLIENT, RUNTIME_BUCKETS, Peer, ended_by
from celery_observe.fact import CustomEvent, Ended, Published, Received, Started, TaskFact
from celery_observe.metrics import Family, Kind

_TASK = ("worker", "task")
_WORKER = ("worker",)
_EVENT_OF: dict[type[TaskFact], str] = {
    Published: "task-sent",
    Received: "task-received",
    Started: "task-started",
}
_ENDS = frozenset({"task-succeeded", "task-failed", "task-rejected"})
"""Events at which the wait of a task is taken back to 0. Celery 5.7 announces a Reject as a failure, too."""


def _event(fact: TaskFact) -> str:
    """Return the type of the event of which a fact tells; empty if there is none."""
    if isinstance(fact, Ended):
        return ANNOUNCED.get(fact.outcome, "")
    return fact.type if isinstance(fact, CustomEvent) else _EVENT_OF[type(fact)]


def _worker(fact: TaskFact) -> str:
    return CLIENT if isinstance(fact, Published) else fact.worker


def _prefetch_time(fact: TaskFact) -> float | None:
    """Return how long an attempt waited in its worker, and 0 when it has ended, as Flower does."""
    if isinstance(fact, Started):
        return fact.worker_wait
    return 0.0 if _event(fact) in _ENDS else None


def _is_event(fact: TaskFact) -> bool:
    return bool(_event(fact))


_is_success = ended_by("task-succeeded")


def _took_time(fact: Any) -> bool:
    return _is_success(fact) and bool(fact.runtime)


EVENTS = Family(
    name="flower_events_total",
    kind=Kind.COUNTER,
    help="Events of tasks, each once.",
    labels=("worker", "type", "task"),
    read=(("worker", _worker), ("type", _event)),
    where=_is_event,
    on=fact.Received,
    also_on=(Published, Started, Ended, CustomEvent),
)
RUNTIME = Family(
    name="flower_task_runtime_seconds",
    kind=Kind.HISTOGRAM,
    help="Time that attempts took that succeeded.",
    labels=_TASK,
    on=fact.Ended,
    where=_took_time,
    value="runtime",
    buckets=RUNTIME_BUCKETS,
    buckets_settable=True,
)
PREFETCH_TIME = Family(
    name="flower_task_prefetch_time_seconds",
    kind=Kind.GAUGE,
    help="Time that the latest attempt waited in its worker until it started; 0 when one has ended.",
    labels=_TASK,
    on=fact.Started,
    also_on=(Ended,),
    value=_prefetch_time,
)
PREFETCHED = Family(
    name="flower_worker_prefetched_tasks",
    kind=Kind.GAUGE,
    help="Tasks without an ETA that a worker holds and that have not started.",
    labels=_TASK,
    live=True,
)
ONLINE = Family(
    name="flower_worker_online",
    kind=Kind.GAUGE,
    help="1 while the heartbeats of a worker are fresh, 0 from its goodbye or silence on.",
    labels=_WORKER,
    on=fact.WorkerUp,
    value="up",
    live=True,
)
EXECUTING = Family(
    name="flower_worker_number_of_currently_executing_tasks",
    kind=Kind.GAUGE,
    help="Tasks that a worker says it executes now.",
    labels=_WORKER,
    on=fact.WorkerSeen,
    value="active",
    live=True,
)

PEER = Peer(families=(EVENTS, RUNTIME, PREFETCH_TIME, PREFETCHED, ONLINE, EXECUTING))
