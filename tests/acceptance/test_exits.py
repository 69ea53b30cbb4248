"""How workers left is told, and what became of their places: stopped, crashed, restarted, replaced, scaled down."""

from __future__ import annotations

import time
from collections.abc import Callable

from celery import Celery

from services.exporter import Exporter
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

EXITS = "celery_worker_exits_total"
DEPARTURES = "celery_worker_departures_total"
WINDOW = 12.0  # seconds


def test_a_stop_a_crash_and_a_restart_are_told_apart(
    redis_server: Redis, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """Scaling down is a stop: nobody need be woken by it. A crash followed by a new process is a restart."""
    page = exporter(redis_server.url)
    stopped, crashed, restarted = (celery_worker(redis_server.url, pool="threads") for _ in range(3))
    page.wait_for(lambda samples: samples.total("celery_worker_up") == 3)
    assert page.metrics().total(EXITS) == 0

    stopped.terminate()
    crashed.kill()
    restarted.kill()
    restarted.start()

    page.wait_for(lambda samples: samples.value(EXITS, worker=stopped.node, kind="shutdown") == 1)
    page.wait_for(lambda samples: samples.value(EXITS, worker=restarted.node, kind="restarted") == 1, timeout=30)
    samples = page.wait_for(lambda samples: samples.value(EXITS, worker=crashed.node, kind="lost") == 1, timeout=40)
    assert samples.total(EXITS) == 3
    assert samples.value("celery_worker_up", worker=restarted.node) == 1
    assert samples.total("celery_worker_up") == 1


def test_a_scale_down_a_replacement_and_the_last_stop_are_told_apart(
    redis_server: Redis, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """Whether they are stopped by SIGTERM, as Kubernetes does, or by remote control; a crash is none of these."""
    page = exporter(redis_server.url, arguments=("--replacement-window", str(WINDOW)))
    page.wait_until_ready()

    def worker(queue: str) -> Worker:
        return celery_worker(redis_server.url, pool="threads", queues=(queue,))

    one_of_two, old, told_to_stop, last = worker("mail"), worker("pay"), worker("report"), worker("nightly")
    _stays, crashed = worker("mail"), worker("mail")
    page.wait_for(lambda samples: samples.total("celery_worker_consumes") == 6, timeout=60)
    there = time.monotonic()
    eventually(lambda: time.monotonic() - there > WINDOW, timeout=2 * WINDOW, what="none of them replaces another")

    new = worker("pay")
    old.terminate()
    one_of_two.terminate()
    last.terminate()  # as KEDA scales to zero
    crashed.kill()
    with Celery(broker=redis_server.url, set_as_current=False) as app:
        app.control.shutdown(destination=[told_to_stop.node])

    goodbyes = {
        old.node: "replaced",
        one_of_two.node: "scaled_down",
        last.node: "stopped",
        told_to_stop.node: "stopped",
    }
    page.wait_for(lambda samples: samples.total(DEPARTURES) == len(goodbyes), timeout=60)
    samples = page.wait_for(lambda samples: samples.value(EXITS, worker=crashed.node, kind="lost") == 1, timeout=40)
    assert {worker: samples.value(DEPARTURES, worker=worker, kind=kind) for worker, kind in goodbyes.items()} == (
        dict.fromkeys(goodbyes, 1)
    )
    assert samples.total(DEPARTURES) == samples.total(EXITS, kind="shutdown") == len(goodbyes)
    assert samples.total("celery_worker_up") == 2
    assert samples.value("celery_worker_up", worker=new.node) == 1
