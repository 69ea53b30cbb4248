"""The example of an instrumented app, as its README runs it; and processes that are no workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.exporter import COMMAND, Served
from services.instrumented import Instrumented, Sidecar
from services.ports import free_port
from services.process import Process
from services.redis import Redis
from services.waiting import eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "instrumented"
OUTCOMES = "celery_task_outcomes_total"


class Example(Served, Process):
    """A `celery` command on the example's app."""

    def __init__(self, folder: Path, broker: str, *arguments: str, **env: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-P", "-m", "celery", "-A", "shop", *arguments]
        environment = {
            "BROKER_URL": broker,
            "PYTHONPATH": str(EXAMPLE),
            "C_FORCE_ROOT": "1",
            "CELERY_OBSERVE_PORT": str(self.port),
        }
        super().__init__(f"shop-{self.port}", [*command, "-l", "INFO"], folder, {**environment, **env})

    def wait_ready(self) -> None:
        """Wait until it says that it runs, and serves if it is to."""
        self.wait_output(" ready." if "worker" in self.command else "beat: Starting", timeout=60.0)
        if "worker" in self.command and "CELERY_OBSERVE_SIDECAR" not in self.env:
            eventually(self.is_ready, what=f"{self.name} is ready")


@pytest.fixture
def example(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Callable[..., Example]:
    """Start a command of the example."""
    return lambda *arguments, **env: processes.enter_context(Example(tmp_path, redis_server.url, *arguments, **env))


@pytest.fixture
def sidecar(processes: ExitStack, tmp_path: Path) -> tuple[Sidecar, dict[str, str]]:
    """A sidecar, and the environment of who is to report to it."""
    address = str(tmp_path / "s")
    environment = {"CELERY_OBSERVE_SIDECAR": f"unix://{address}"}
    return processes.enter_context(Sidecar(tmp_path, COMMAND, address)), environment


def publish(redis_server: Redis, **env: str) -> None:
    """Run the example's script, which publishes."""
    subprocess.run(
        [sys.executable, "shop.py"],
        cwd=EXAMPLE,
        env={**os.environ, "BROKER_URL": redis_server.url, **env},
        check=True,
    )


def test_the_example_measures_its_tasks(example: Callable[..., Example], redis_server: Redis) -> None:
    """Tasks shared among apps are no different."""
    worker = example("worker", "--concurrency", "2")
    publish(redis_server)

    page = worker.wait_for(lambda page: page.total(OUTCOMES, task="shop.place_order", outcome="succeeded") == 20, 30.0)

    assert page.total(OUTCOMES, task="shop.place_order", outcome="retried") > 0
    assert page.total("celery_task_queue_wait_seconds_count", task="shop.place_order") >= 20
    assert page.total("celery_task_cpu_seconds_count", task="shop.place_order") >= 20
    assert page.total("celery_worker_rate_limit", task="shop.send_newsletter") == pytest.approx(10 / 60)
    answer = subprocess.run(
        [*COMMAND, "health", "--ready", "--port", str(worker.port)], capture_output=True, check=True
    ).stdout
    assert json.loads(answer) == {"status": "healthy"}


def test_beat_and_web_processes_report_to_the_sidecar(
    example: Callable[..., Example], sidecar: tuple[Sidecar, dict[str, str]], redis_server: Redis, tmp_path: Path
) -> None:
    """What they publish, and how long it took."""
    page, env = sidecar
    example("beat", "--schedule", str(tmp_path / "schedule"), **env)
    publish(redis_server, **env)

    samples = page.wait_for(lambda page: page.total("celery_task_published_total", task="shop.count_stock") >= 2)

    assert samples.value("celery_task_published_total", task="shop.place_order", queue="celery") == 20
    assert samples.value("celery_task_publish_seconds_count", task="shop.place_order", queue="celery") == 20


def test_beat_logs_what_it_publishes(example: Callable[..., Example], tmp_path: Path) -> None:
    """As workers do, in the same form."""
    beat = example("beat", "--schedule", str(tmp_path / "schedule"), CELERY_OBSERVE_LOGS="json")

    beat.wait_output("task published")

    line = next(line for line in beat.output.splitlines() if "task published" in line)
    entry = json.loads(line)
    assert (entry["task"], entry["queue"], "worker" in entry) == ("shop.count_stock", "celery", False)


def test_an_embedded_beat_harms_nothing(example: Callable[..., Example], tmp_path: Path) -> None:
    """`worker --beat` forks a process that closes all that it inherited, the way to us too."""
    worker = example("worker", "--beat", "--schedule", str(tmp_path / "schedule"), "--concurrency", "1")

    page = worker.wait_for(lambda page: page.total(OUTCOMES, task="shop.count_stock", outcome="succeeded") >= 3, 30.0)

    assert page.total("celery_task_queue_wait_seconds_count", task="shop.count_stock") >= 3
    assert page.total("celery_observe_handler_errors_total") == 0


def test_an_embedded_beat_reports_to_the_sidecar(
    example: Callable[..., Example], sidecar: tuple[Sidecar, dict[str, str]], tmp_path: Path
) -> None:
    """Which has an address."""
    page, env = sidecar
    example("worker", "--beat", "--schedule", str(tmp_path / "schedule"), "--concurrency", "1", **env)

    page.wait_for(lambda page: page.total("celery_task_published_total", task="shop.count_stock") >= 2, 30.0)
    page.wait_for(lambda page: page.total(OUTCOMES, task="shop.count_stock", outcome="succeeded") >= 2)


def test_a_publish_that_fails_is_counted(sidecar: tuple[Sidecar, dict[str, str]], redis_server: Redis) -> None:
    """And raises what it would raise without us."""
    page, env = sidecar
    redis_server.kill()
    script = (
        "import shop\nfrom kombu.exceptions import OperationalError\n"
        "try: shop.place_order.apply_async((1,), retry=False)\nexcept OperationalError: print('refused')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=EXAMPLE,
        env={**os.environ, "BROKER_URL": redis_server.url, **env},
        capture_output=True,
        check=True,
        text=True,
    )

    assert ran.stdout == "refused\n"
    page.wait_for(lambda page: page.total("celery_task_publish_failures_total", task="shop.place_order") == 1)


def test_a_restarted_worker_serves_where_it_served(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> None:
    """Its port is free again when it has ended."""
    worker = processes.enter_context(Instrumented(tmp_path, redis_server.url, pool="prefork"))

    for _ in range(2):
        worker.restart()
        worker.send("add", 1, 2)
        worker.wait_for(lambda page: page.total(OUTCOMES, task="add", outcome="succeeded") == 1)
