"""The same counters and histograms from signals by prometheus_client's multiprocess mode: written as its users would.

`PROMETHEUS_MULTIPROC_DIR` names the folder in which each process keeps a file per kind of metric.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any

from celery import signals
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from celery_observe.metrics import Family, tasks
from services.ports import LOOPBACK

PUBLISHED, FIRST_PUBLISHED, RECEIVED, STARTED = "published", "first_published", "received_at", "started_at"


def counter(family: Family) -> Counter:
    """A counter with the name and the labels of ours."""
    return Counter(family.name, family.help, family.labels)


def histogram(family: Family) -> Histogram:
    """A histogram with the name, the labels and the buckets of ours."""
    return Histogram(family.name, family.help, family.labels, buckets=family.buckets)


received_total = counter(tasks.RECEIVED)
priority_total = counter(tasks.RECEIVED_PRIORITY)
started_total = counter(tasks.STARTED)
outcomes_total = counter(tasks.OUTCOMES)
worker_wait = histogram(tasks.WORKER_WAIT)
queue_wait = histogram(tasks.QUEUE_WAIT)
runtime = histogram(tasks.RUNTIME)
total = histogram(tasks.TOTAL)


def stamp(headers: dict[str, Any], **_: Any) -> None:
    """Write the time of the publish into the message."""
    now = time.time()
    headers[PUBLISHED] = now
    if not headers.get("retries"):
        headers[FIRST_PUBLISHED] = now


def received(request: Any, **_: Any) -> None:
    """Count a message, and note when it came."""
    request.request_dict[RECEIVED] = time.time()
    queue = request.delivery_info["routing_key"]
    received_total.labels(request.name, queue).inc()
    priority_total.labels(queue, str(request.delivery_info.get("priority"))).inc()


def begin(task: Any, **_: Any) -> None:
    """Count a start and its waits."""
    request, now = task.request, time.time()
    fields = vars(request)
    labels = task.name, request.delivery_info["routing_key"]
    due = datetime.fromisoformat(request.eta).timestamp() if request.eta else 0.0
    started_total.labels(*labels).inc()
    if RECEIVED in fields:
        worker_wait.labels(*labels).observe(now - max(fields[RECEIVED], due))
    if PUBLISHED in fields:
        queue_wait.labels(*labels).observe(now - max(fields[PUBLISHED], due))
    fields[STARTED] = time.perf_counter()


def end(task: Any, state: str | None, **_: Any) -> None:
    """Count an outcome, its runtime and, if it is final, the time since the first publish."""
    fields = vars(task.request)
    labels = task.name, fields["delivery_info"]["routing_key"], (state or "unknown").lower()
    outcomes_total.labels(*labels).inc()
    if STARTED in fields:
        runtime.labels(*labels).observe(time.perf_counter() - fields[STARTED])
    if FIRST_PUBLISHED in fields and state != "RETRY":
        total.labels(*labels).observe(time.time() - fields[FIRST_PUBLISHED])


def serve(**_: Any) -> None:
    """Serve the sum of all files from the worker's main process."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    start_http_server(int(os.environ["PORT"]), LOOPBACK, registry)


def connect() -> None:
    """Connect all of this to Celery's signals."""
    signals.before_task_publish.connect(stamp)
    signals.task_received.connect(received)
    signals.task_prerun.connect(begin)
    signals.task_postrun.connect(end)
    signals.worker_init.connect(serve)
    signals.worker_process_shutdown.connect(lambda pid, **_: mark_process_dead(pid), weak=False)
