"""What a worker's main process knows of its consumer, pool and tasks, read each second and without a broadcast.

Read by a thread of ours beside the main thread: every container is copied in one step of the interpreter, and nothing
of Celery's is called that locks, waits or changes anything.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

from celery import __version__
from celery.worker import state

from celery_observe.report import LISTED_AT_ONCE, Beat, Limit, Listing, Reception, Running
from celery_observe.worker.arrivals import arrivals
from celery_observe.worker.canvas import canvas_of
from celery_observe.worker.ending import ending
from celery_observe.worker.headers import PUBLISHED, RECEIVED, seconds_of
from celery_observe.worker.memory import resident_memory, resident_memory_of_all
from celery_observe.worker.queues import queue_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_observe.report import AnyReport
    from celery_observe.worker.children import Children
    from celery_observe.worker.pulse import Pulse

T = TypeVar("T")


def census(worker: Any, pulse: Pulse, children: Children, *, leaving: bool = False) -> Iterator[AnyReport]:
    """Yield what is to be reported of a ``WorkController``: what it took, what it executes, and then itself."""
    now = time.time()
    for kinds in _parts(arrivals.take()):
        yield Reception(now, worker.hostname, kinds)
    active = _members(state.active_requests)
    running = [_running(request) for request in active if request.time_start is not None]
    for part in _parts(running):
        yield Listing(now, worker.hostname, part)
    consumer = worker.consumer
    yield Beat(
        timestamp=now,
        hostname=worker.hostname,
        pid=os.getpid(),
        active=len(active),
        processed=state.all_total_count[0],
        listed=len(running),
        leaving=leaving,
        stopped_by=ending.reason(worker, leaving=leaving),
        loadavg=list(os.getloadavg()),
        version=__version__,
        queues=list(worker.app.amqp.queues.consume_from),
        reserved=max(0, len(state.reserved_requests) - len(active)),
        scheduled=_scheduled(consumer),
        prefetch=getattr(getattr(consumer, "qos", None), "value", None),
        slots=getattr(worker.pool, "num_processes", None),
        connected=pulse.is_consuming,
        troubles=pulse.troubles(),
        ailments=pulse.ailments(),
        restarts=max(0, getattr(consumer, "restart_count", 0)),
        limits=list(_limits(consumer)),
        spawned=children.spawned,
        exits=children.exits(),
        memory=resident_memory(os.getpid()),
        children_memory=resident_memory_of_all(children.pids),
    )


def _members(requests: Any) -> list[Any]:
    """Return what a ``WeakSet`` has now; not by ``tuple``, which may collect garbage, and so change it, meanwhile."""
    return [request for reference in requests.data.copy() if (request := reference()) is not None]


def _parts(listed: list[T]) -> Iterator[list[T]]:
    return (listed[start : start + LISTED_AT_ONCE] for start in range(0, len(listed), LISTED_AT_ONCE))


def _running(request: Any) -> Running:
    fields = request.request_dict
    return Running(
        canvas=canvas_of(fields),
        uuid=request.id,
        name=request.name,
        started=request.time_start,
        queue=queue_names.of(request.delivery_info),
        retries=fields.get("retries") or 0,
        published=seconds_of(fields.get(PUBLISHED)),
        received=fields.get(RECEIVED),
        eta=fields.get("eta"),
    )


def _scheduled(consumer: Any) -> int | None:
    """Return how many tasks wait for their ETA. Celery keeps them apart from 5.7 on; before, the timer has them."""
    apart = getattr(state, "scheduled_requests", None)
    if apart is not None:
        return len(apart)
    timer = getattr(consumer, "timer", None)
    waiting = getattr(getattr(timer, "schedule", timer), "_queue", None)
    if waiting is None:
        return None
    entries = (scheduled.entry for scheduled in list(waiting))
    return sum(1 for entry in entries if entry.args and hasattr(entry.args[0], "request_dict"))


def _limits(consumer: Any) -> Iterator[Limit]:
    """Yield the rate limits in force, whether set by the task or by remote control."""
    for name, bucket in dict(getattr(consumer, "task_buckets", ())).items():
        if bucket is not None:
            yield Limit(name, bucket.fill_rate, len(bucket.contents))
