"""danihodovic's celery-exporter, version 0.11.2: names, labels and types of what it serves.

Source: what the published package serves (``prometheus-exporter-celery``); tests compare the two on one broker.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from celery_observe import fact
from celery_observe.compat.peer import CLIENT, RUNTIME_BUCKETS, Derived, Peer, ended_by, host_of
from celery_observe.metrics import Family, Kind, queues, workers

if TYPE_CHECKING:
    from collections.abc import Callable

_TASK = ("name", "hostname", "queue_name")
_HOST = ("hostname",)
_QUEUE = ("queue_name",)


def _host(fact: Any) -> str:
    return host_of(fact.worker)


_READ: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("name", attrgetter("task")),
    ("hostname", _host),
    ("queue_name", attrgetter("queue")),
)


def _ended(event: str, text: str) -> Family:
    """Return the counter of attempts that ended in a way that an event announces; it starts at 0 as theirs does."""
    return Family(
        name=f"celery_{event.replace('-', '_')}_total",
        kind=Kind.COUNTER,
        help=text,
        labels=_TASK,
        read=_READ,
        on=fact.Ended,
        where=ended_by(event),
        zero_on=fact.Received,
    )


SENT = Family(
    name="celery_task_sent_total",
    kind=Kind.COUNTER,
    help="Messages published for a task, retries included. Needs task_send_sent_event in the publishers.",
    labels=_TASK,
    read=(*_READ, ("hostname", lambda _fact: CLIENT)),
    on=fact.Published,
)
RECEIVED = Family(
    name="celery_task_received_total",
    kind=Kind.COUNTER,
    help="Messages for a task that workers took from the broker.",
    labels=_TASK,
    read=_READ,
    on=fact.Received,
)
STARTED = Family(
    name="celery_task_started_total",
    kind=Kind.COUNTER,
    help="Attempts that started to execute.",
    labels=_TASK,
    read=_READ,
    on=fact.Started,
)
SUCCEEDED = _ended("task-succeeded", "Attempts that succeeded.")
FAILED = Family(
    name="celery_task_failed_total",
    kind=Kind.COUNTER,
    help="Attempts that failed, each once, by the class of the exception; those sent back to the queue included.",
    labels=("name", "hostname", "exception", "queue_name"),
    read=_READ,
    on=fact.Failed,
    zero_on=fact.Received,
    zero_label="exception",
    zero_values=("",),
)
REJECTED = _ended("task-rejected", "Attempts that were rejected, or whose message went back to the queue.")
REVOKED = _ended("task-revoked", "Attempts that were revoked, that expired, or that were terminated.")
RETRIED = _ended("task-retried", "Attempts that failed and will be retried.")
RUNTIME = Family(
    name="celery_task_runtime",
    kind=Kind.HISTOGRAM,
    help="Seconds that attempts took that succeeded.",
    labels=_TASK,
    read=_READ,
    on=fact.Ended,
    where=ended_by("task-succeeded"),
    value="runtime",
    buckets=RUNTIME_BUCKETS,
    buckets_settable=True,
)
WORKER_UP = Family(
    name="celery_worker_up",
    kind=Kind.GAUGE,
    help="1 while the heartbeats of a worker are fresh, 0 from its goodbye or silence on.",
    labels=_HOST,
    read=_READ,
    on=fact.WorkerUp,
    value="up",
    live=True,
)
WORKER_TASKS_ACTIVE = Family(
    name="celery_worker_tasks_active",
    kind=Kind.GAUGE,
    help="Tasks that the workers of a host say they execute now.",
    labels=_HOST,
    live=True,
)
QUEUE_LENGTH = Family(
    name="celery_queue_length",
    kind=Kind.GAUGE,
    help="Messages that wait in a queue, of all priorities.",
    labels=_QUEUE,
)
ACTIVE_CONSUMERS = Family(
    name="celery_active_consumer_count",
    kind=Kind.GAUGE,
    help="Consumers of a queue.",
    labels=_QUEUE,
)
ACTIVE_WORKERS = Family(
    name="celery_active_worker_count",
    kind=Kind.GAUGE,
    help="Workers that consume a queue.",
    labels=_QUEUE,
)
ACTIVE_PROCESSES = Family(
    name="celery_active_process_count",
    kind=Kind.GAUGE,
    help="Slots of the pools of all workers that consume a queue.",
    labels=_QUEUE,
)

PEER = Peer(
    families=(
        *(SENT, RECEIVED, STARTED, SUCCEEDED, FAILED, REJECTED, REVOKED, RETRIED, RUNTIME),
        *(WORKER_UP, WORKER_TASKS_ACTIVE),
        *(QUEUE_LENGTH, ACTIVE_CONSUMERS, ACTIVE_WORKERS, ACTIVE_PROCESSES),
    ),
    derived=(
        Derived(family=WORKER_TASKS_ACTIVE, source=workers.ACTIVE, label="worker", read=host_of),
        Derived(family=QUEUE_LENGTH, source=queues.WAITING, label="queue"),
        Derived(family=ACTIVE_CONSUMERS, source=queues.CONSUMERS, label="queue"),
        Derived(family=ACTIVE_WORKERS, source=workers.CONSUMES, label="queue", up=True, zeros=queues.SLOTS),
        Derived(family=ACTIVE_PROCESSES, source=queues.SLOTS, label="queue"),
    ),
)
