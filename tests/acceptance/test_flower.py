"""Flower beside the exporter on one broker: each sees all, and the page leads to Flower's."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest

from services.exporter import Exporter
from services.flower import Flower
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

pytestmark = [pytest.mark.workers, pytest.mark.timeout(240)]

TASKS = 30
OUTCOMES = "celery_task_outcomes_total"


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.xdist_group("rabbitmq"))])
def broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker of each kind."""
    if request.param == "redis":
        server: Redis = request.getfixturevalue("redis_server")
        return server.url
    return str(request.getfixturevalue("rabbitmq_url"))


def test_neither_takes_the_others_events(
    broker: str,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    processes: ExitStack,
    tmp_path: Path,
) -> None:
    """Both count every task; Flower knows them after a restart; the page's links are pages of Flower."""
    flower = processes.enter_context(Flower(tmp_path, broker))
    page = exporter(broker, arguments=("--flower-url", flower.url))
    page.wait_until_ready()
    worker = celery_worker(broker, pool="prefork")
    page.wait_for(lambda now: now.value("celery_worker_up", worker=worker.node) == 1, timeout=30.0)
    eventually(lambda: worker.node in flower.get("/workers")[1], 30.0, what="Flower knows the worker")

    sent = {worker.send("add", 1, number) for number in range(TASKS)}
    failed = worker.send("fail")

    page.wait_for(
        lambda now: now.total(OUTCOMES, outcome="succeeded") == TASKS and now.total(OUTCOMES, outcome="failed") == 1,
        30.0,
    )
    eventually(lambda: succeeded(flower) == sent, 30.0, what="Flower knows all that succeeded")
    assert page.metrics().total("celery_observe_tasks_unobserved_total") == 0
    overview = json.loads(page.get("/overview")[1])
    assert overview["flower"] == flower.url
    for path in (f"/task/{failed}", f"/worker/{quote(worker.node, safe='')}", "/tasks?name=fail&state=FAILURE"):
        assert flower.get(path)[0] == 200, path
    assert failed in flower.get(f"/task/{failed}")[1]
    assert [*flower.tasks(taskname="fail", state="FAILURE")] == [failed]
    assert flower.get("/tasks", login="admin:guess")[0] == 401

    flower.restart()

    eventually(lambda: succeeded(flower) == sent, 30.0, what="Flower remembers")


def succeeded(flower: Flower) -> set[str]:
    """The ids of the tasks of which Flower says that they succeeded."""
    return {uuid for uuid, task in flower.tasks().items() if task["state"] == "SUCCESS"}
