"""A worker that is online and consumes nothing is named, and no other is."""

from __future__ import annotations

import time
from collections.abc import Callable

from celery import Celery

from services.exporter import Exporter, Samples
from services.redis import Redis
from services.worker import Worker

STALLED = "celery_worker_stalled"
AFTER = 5.0  # seconds
QUICKLY = ("--queue-interval", "0.5", "--inspect-interval", "0.2", "--stalled-after", str(AFTER))


def judged(samples: Samples) -> dict[str, float]:
    """The workers of which it can be told whether they are stalled."""
    return {dict(labels)["worker"]: value for (name, labels), value in samples.items() if name == STALLED}


def test_a_worker_that_stops_consuming_is_stalled(
    redis_server: Redis, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """It sends heartbeats and answers, messages wait, and it takes none; its neighbour on another queue is well."""
    page = exporter(redis_server.url, arguments=QUICKLY)
    stuck = celery_worker(redis_server.url, app="apps.stuck", pool="threads", queues=("stuck",))
    well = celery_worker(redis_server.url, pool="threads", queues=("well",))
    page.wait_for(lambda samples: judged(samples) == {stuck.node: 0, well.node: 0}, timeout=30)

    stuck.send("stop_consuming", queue="stuck")
    page.wait_for(lambda samples: samples.value("celery_worker_processed_total", worker=stuck.node) == 1)
    for _ in range(3):
        stuck.send("add", 1, 2, queue="stuck")

    samples = page.wait_for(lambda samples: judged(samples).get(stuck.node) == 1, timeout=30)
    assert judged(samples)[well.node] == 0
    assert samples.value("celery_worker_up", worker=stuck.node) == 1
    assert samples.total("celery_queue_waiting", queue="stuck") > 0


def test_workers_with_a_reason_are_not_stalled(
    redis_server: Redis, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """Idle, busy, solo in a long task, waiting for a rate limit, paused."""
    page = exporter(redis_server.url, arguments=QUICKLY)
    url, one = redis_server.url, {"worker_prefetch_multiplier": 1}
    idle = celery_worker(url, pool="threads", queues=("idle",))
    busy = celery_worker(url, pool="prefork", queues=("busy",), **one)
    solo = celery_worker(url, pool="solo", queues=("solo",), **one)
    limited = celery_worker(
        url, pool="threads", queues=("limited",), task_annotations={"add": {"rate_limit": "1/h"}}, **one
    )
    paused = celery_worker(url, pool="threads", queues=("paused",))
    page.wait_for(lambda samples: len(judged(samples)) == 5, timeout=30)
    with Celery(broker=url, set_as_current=False) as app:
        app.control.cancel_consumer("paused", destination=[paused.node], reply=True)
    page.wait_for(lambda samples: paused.node not in judged(samples), timeout=30)

    for worker, queue, task in ((busy, "busy", "work"), (solo, "solo", "work"), (limited, "limited", "add")):
        for _ in range(6):
            worker.send(task, *((4 * AFTER,) if task == "work" else (1, 2)), queue=queue)
    paused.send("add", 1, 2, queue="paused")
    waiting = page.wait_for(
        lambda samples: all(
            samples.total("celery_queue_waiting", queue=name) > 0 for name in ("busy", "solo", "limited", "paused")
        )
    )

    assert waiting.value(STALLED, worker=idle.node) == 0
    until = time.monotonic() + 3 * AFTER
    while time.monotonic() < until:
        assert set(judged(page.metrics()).values()) <= {0}
        time.sleep(0.5)
    samples = page.metrics()
    assert samples.value(STALLED, worker=busy.node) == 0
    assert samples.value(STALLED, worker=limited.node) == 0
    assert not samples.select("celery_worker_consumes", worker=paused.node)
