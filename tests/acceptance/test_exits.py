"""How a worker left is told: it was stopped, it crashed, it was started anew."""

from __future__ import annotations

from collections.abc import Callable

from services.exporter import Exporter
from services.redis import Redis
from services.worker import Worker

EXITS = "celery_worker_exits_total"


def test_a_stop_a_crash_and_a_restart_are_told_apart(
    redis_server: Redis, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """Scaling down is a stop: nobody need be woken by it. A crash followed by a new process is a restart."""
    page = exporter(redis_server.url)
    stopped, crashed, restarted = (celery_worker(redis_server.url, pool="threads") for _ in range(3))
    page.wait_for(lambda samples: samples.total("celery_worker_up") == 3)
    assert page.metrics().total(EXITS) == 0

    stopped.terminate(timeout=15)
    crashed.kill()
    restarted.kill()
    restarted.start()

    page.wait_for(lambda samples: samples.value(EXITS, worker=stopped.node, kind="shutdown") == 1)
    page.wait_for(lambda samples: samples.value(EXITS, worker=restarted.node, kind="restarted") == 1, timeout=30)
    samples = page.wait_for(lambda samples: samples.value(EXITS, worker=crashed.node, kind="lost") == 1, timeout=40)
    assert samples.total(EXITS) == 3
    assert samples.value("celery_worker_up", worker=restarted.node) == 1
    assert samples.total("celery_worker_up") == 1
