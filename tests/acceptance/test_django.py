"""A Django project is instrumented by one line in its celery.py, or by its settings alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.exporter import COMMAND, Served
from services.instrumented import Sidecar
from services.ports import free_port
from services.process import Process
from services.redis import Redis
from services.waiting import eventually

TESTS = Path(__file__).parents[1]


class Site(Served, Process):
    """A process of the project in apps/website."""

    def __init__(self, folder: Path, broker: str, *command: str, **env: str) -> None:
        self.port = free_port()
        environment = {
            "BROKER_URL": broker,
            "PYTHONPATH": str(TESTS),
            "DJANGO_SETTINGS_MODULE": "apps.website.settings",
            "CELERY_OBSERVE_PORT": str(self.port),
            "C_FORCE_ROOT": "1",
        }
        arguments = [each.format(port=self.port) for each in command]
        super().__init__(f"site-{self.port}", [sys.executable, "-P", "-m", *arguments], folder, {**environment, **env})

    def wait_ready(self) -> None:
        """Wait until it serves: pages, or metrics."""
        eventually(self._serves, 60.0, what=f"{self.name} serves")

    def _serves(self) -> bool:
        assert self.running, self.output
        try:
            return self.get("/readyz")[0] != 503
        except OSError:
            return "CELERY_OBSERVE_SIDECAR" in self.env and " ready." in self.output


WORKER = ("celery", "-A", "apps.website", "worker", "-c", "2", "-l", "INFO")
WEB = ("django", "runserver", "--noreload", "127.0.0.1:{port}")

Start = Callable[..., Site]


@pytest.fixture
def start(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Start:
    """Start a process of the project."""
    return lambda *command, **env: processes.enter_context(Site(tmp_path, redis_server.url, *command, **env))


def test_a_view_publishes_and_a_worker_tells_how_long_it_waited(start: Start) -> None:
    """`shared_task`, found by `autodiscover_tasks`, of an app that was instrumented before it was configured."""
    worker, web = start(*WORKER), start(*WEB)

    for number in range(5):
        assert json.loads(web.get(f"/order/{number}")[1])["task"]

    page = worker.wait_for(
        lambda page: page.total("celery_task_outcomes_total", task="orders.place", outcome="succeeded") == 5
    )
    assert page.value("celery_task_queue_wait_seconds_count", task="orders.place", queue="celery") == 5
    assert page.total("celery_observe_handler_errors_total") == 0
    assert worker.terminate() == 0


def test_the_settings_alone_instrument_the_worker(start: Start) -> None:
    """Celery imports what they name in workers, not in web processes: there is no stamp to tell the wait by."""
    worker, web = start(*WORKER, WEBSITE_INCLUDES="1"), start(*WEB, WEBSITE_INCLUDES="1")

    assert json.loads(web.get("/order/1")[1])["task"]

    page = worker.wait_for(
        lambda page: page.total("celery_task_outcomes_total", task="orders.place", outcome="succeeded") == 1
    )
    assert page.total("celery_task_queue_wait_seconds_count", task="orders.place") == 0


def test_views_and_workers_report_to_a_sidecar(start: Start, processes: ExitStack, tmp_path: Path) -> None:
    """What was published, received and executed is on one page."""
    address = str(tmp_path / "s")
    sidecar = processes.enter_context(Sidecar(tmp_path, COMMAND, address))
    env = {"CELERY_OBSERVE_SIDECAR": f"unix://{address}"}
    start(*WORKER, **env)
    web = start(*WEB, **env)

    web.get("/order/1")

    page = sidecar.wait_for(lambda page: page.total("celery_task_outcomes_total", outcome="succeeded") == 1)
    assert page.value("celery_task_published_total", task="orders.place", queue="celery") == 1
    assert page.value("celery_task_publish_seconds_count", task="orders.place", queue="celery") == 1


def test_the_off_switch_leaves_a_project_alone(start: Start, redis_server: Redis) -> None:
    """`CELERY_OBSERVE_DISABLED=1`: views answer, and messages have no header of ours."""
    web = start(*WEB, CELERY_OBSERVE_DISABLED="1")

    task = json.loads(web.get("/order/1")[1])["task"]

    with redis_server.client() as client:
        [message] = [json.loads(body) for body in client.lrange("celery", 0, -1)]
    assert message["headers"]["id"] == task
    assert not [name for name in message["headers"] if name.startswith("celery_observe")]
