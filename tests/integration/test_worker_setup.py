"""However a worker is set up and changed while it runs, it tells what it does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from celery_observe import instrument
from services.instrumented import Instrumented
from services.redis import Redis
from services.waiting import eventually

OUTCOMES = "celery_task_outcomes_total"
Start = Callable[..., Instrumented]


@pytest.fixture(autouse=True)
def stamping() -> None:
    """This process publishes, so it is instrumented too."""
    instrument()


@pytest.fixture
def start(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Start:
    """Start an instrumented worker on the Redis of this test."""
    return lambda *args, **options: processes.enter_context(Instrumented(tmp_path, redis_server.url, *args, **options))


def works(worker: Instrumented, *, so_far: int = 0) -> None:
    """Whether one more task is counted, once."""
    worker.send("add", 1, 2)
    page = worker.wait_for(lambda page: page.total(OUTCOMES, task="add", outcome="succeeded") > so_far)
    assert page.total(OUTCOMES, task="add") == page.total("celery_task_started_total", task="add") == so_far + 1
    assert page.total("celery_observe_handler_errors_total") == 0


def test_an_app_may_be_configured_later(start: Start, free_port: int) -> None:
    """It was instrumented when it had neither broker nor tasks, and is so again when it has."""
    worker = start(app="apps.early", pool="prefork", instrument={"port": free_port}, env={"EARLY_PORT": str(free_port)})

    works(worker)


@pytest.mark.parametrize("setting", ["imports", "include"])
def test_celery_may_import_it(start: Start, free_port: int, setting: str) -> None:
    """By either setting; the port comes from the environment."""
    worker = start(
        app="apps.sample",
        pool="prefork",
        instrument={"port": free_port},
        env={"CELERY_OBSERVE_PORT": str(free_port)},
        **{setting: ["celery_observe.worker"]},
    )

    works(worker)


def test_remote_control_is_not_needed(start: Start) -> None:
    """What a worker holds is read in its process."""
    worker = start(pool="prefork", worker_enable_remote_control=False)

    works(worker)
    assert worker.metrics().value("celery_worker_slots", worker=worker.node) == 2


def test_a_worker_that_restarts_itself_serves_where_it_served(
    redis_server: Redis, processes: ExitStack, tmp_path: Path
) -> None:
    """SIGHUP has it execute itself anew, in the same process: its sockets are closed by that."""
    worker = Instrumented(tmp_path, redis_server.url, pool="prefork")
    module = worker.command.index("-P")
    worker.command[module - 1 : module + 3] = [str(Path(sys.executable).with_name("celery"))]  # a module could not
    processes.enter_context(worker)
    works(worker)

    worker.send_signal(signal.SIGHUP)
    eventually(lambda: worker.output.count(f"{worker.node} ready.") == 2, 30.0)
    eventually(worker.is_ready)

    works(worker)
    assert f":{worker.port + 1}/metrics" not in worker.output


def test_a_pool_may_be_restarted(start: Start) -> None:
    """Its new children report as the old ones did."""
    worker = start(pool="prefork", worker_pool_restarts=True)
    works(worker)

    worker.control.broadcast("pool_restart", {"reload": False}, reply=True, destination=[worker.node])

    works(worker, so_far=1)


def test_a_pool_may_grow(start: Start) -> None:
    """By remote control."""
    worker = start(pool="prefork", concurrency=1)

    worker.control.pool_grow(2, destination=[worker.node])

    worker.wait_for(lambda page: page.value("celery_worker_slots", worker=worker.node) == 3)
    worker.wait_for(lambda page: page.total("celery_worker_children_total") == 3)
    works(worker)


def test_an_autoscaled_pool_shrinks_again(start: Start) -> None:
    """And goes on as before."""
    worker = start("--autoscale=3,1", pool="prefork", env={"AUTOSCALE_KEEPALIVE": "1"})
    for _ in range(3):
        worker.send("work", 1.0)
    worker.wait_for(lambda page: page.value("celery_worker_slots", worker=worker.node) == 3)

    worker.wait_for(lambda page: page.value("celery_worker_slots", worker=worker.node) == 1, 30.0)

    works(worker)
