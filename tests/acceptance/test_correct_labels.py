"""The queue of a task is what is known of it, never a guess; names follow the rules that are given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.exporter import Exporter, Samples
from services.imitation import ImitatedWorker
from services.redis import Redis
from services.worker import Worker

TESTS = Path(__file__).parents[1]
STARTED = "celery_task_started_total"
QUIET = {"task_send_sent_event": False}


def of_app(broker: str, **conf: Any) -> dict[str, str]:
    """The environment in which `apps.sample` is an app with this broker and these settings."""
    return {"PYTHONPATH": str(TESTS), "SAMPLE_BROKER": broker, "SAMPLE_CONF": json.dumps(conf)}


def queues(samples: Samples, family: str = STARTED) -> dict[tuple[str, str], float]:
    """The values of a family by task and queue."""
    return {
        (dict(labels)["task"], dict(labels)["queue"]): value
        for (name, labels), value in samples.items()
        if name == family and value
    }


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_publishers_name_the_queue(
    broker: str,
    request: pytest.FixtureRequest,
    exporter: Callable[..., Exporter],
    celery_worker: Callable[..., Worker],
) -> None:
    """With `task_send_sent_event` each task is counted under the queue that it was sent to."""
    url = request.getfixturevalue("redis_server").url if broker == "redis" else request.getfixturevalue("rabbitmq_url")
    page = exporter(url)
    page.wait_until_ready()
    worker = celery_worker(url, queues=("fast", "slow"))

    for queue in ("fast", "slow", "slow"):
        worker.send("add", 1, 2, queue=queue)

    expected = {("add", "fast"): 1, ("add", "slow"): 2}
    samples = page.wait_for(lambda samples: queues(samples) == expected)
    assert queues(samples, "celery_task_published_total") == expected
    assert queues(samples, "celery_task_queue_wait_seconds_count") == expected


def test_a_worker_with_one_queue_names_it(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """Without `task_send_sent_event` a worker that consumes one queue has its tasks from there."""
    worker = celery_worker(redis_server.url, queues=("only",), **QUIET)
    page = exporter(redis_server.url)
    page.wait_for(lambda samples: samples.value("celery_observe_plugin_up", plugin="workers") == 1)

    for _ in range(5):
        worker.send("add", 1, 2, queue="only")

    page.wait_for(lambda samples: queues(samples) == {("add", "only"): 5})


def test_rules_and_routes_name_the_queue_where_no_event_does(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """On a worker of two queues a rule helps, or the routes of the app; without either it is `unknown`."""
    routes = {"task_routes": {"add": {"queue": "fast"}, "fa*": "slow"}, "task_default_queue": "other"}
    worker = celery_worker(redis_server.url, queues=("fast", "slow", "other"), **QUIET, **routes)
    plain = exporter(redis_server.url)
    ruled = exporter(redis_server.url, arguments=("--task-queue", "a*=fast", "--task-queue", "fail=slow"))
    routed = exporter(arguments=("-A", "apps.sample"), env=of_app(redis_server.url, **QUIET, **routes))
    for page in (plain, ruled, routed):
        page.wait_for(lambda samples: samples.value("celery_observe_plugin_up", plugin="workers") == 1)

    for task in ("add", "fail", "ignore"):
        worker.send(task, *((1, 2) if task == "add" else ()))

    unknown = {("add", "unknown"): 1, ("fail", "unknown"): 1, ("ignore", "unknown"): 1}
    plain.wait_for(lambda samples: queues(samples) == unknown)
    ruled.wait_for(
        lambda samples: queues(samples) == {("add", "fast"): 1, ("fail", "slow"): 1, ("ignore", "unknown"): 1}
    )
    routed.wait_for(
        lambda samples: queues(samples) == {("add", "fast"): 1, ("fail", "slow"): 1, ("ignore", "other"): 1}
    )


def test_labels_follow_the_rules(redis_server: Redis, exporter: Callable[..., Exporter]) -> None:
    """Tasks are renamed, denied and told apart by worker as the settings say."""
    rules = ("--task-deny", "secret.*", "--task-rename", "shop.*=shop", "--worker-label")
    page = exporter(redis_server.url, arguments=rules)
    page.wait_until_ready()
    with ImitatedWorker(redis_server.url, "a@one") as one, ImitatedWorker(redis_server.url, "a@two") as two:
        for worker in (one, two):
            worker.beat()
            worker.accept(1, task="shop.pay")
            worker.accept(2, task="shop.ship")
            worker.accept(4, task="secret.plan")
            worker.accept(8, task="add")

        samples = page.wait_for(lambda samples: samples.total(STARTED) == 30)

    for node in ("a@one", "a@two"):
        assert samples.value(STARTED, task="shop", worker=node) == 3
        assert samples.value(STARTED, task="add", worker=node) == 8
    assert "secret" not in page.get("/metrics")[1]


def test_names_of_tasks_survive_a_sudden_restart(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """After SIGKILL and restart, tasks that were running and reserved meanwhile end under their names and queues."""
    page = exporter(redis_server.url)
    page.wait_until_ready()
    worker = celery_worker(redis_server.url, pool="prefork", concurrency=2, queues=("fast", "slow"))
    for queue in ("fast", "slow"):
        worker.send("work", 7.0, queue=queue)
    for queue in ("fast", "slow", "fast", "slow"):
        worker.send("add", 1, 2, queue=queue)
    page.wait_for(lambda samples: sum(samples.select("celery_task_running")) == 2)

    page.kill()
    page.start()

    page.wait_for(lambda samples: sum(samples.select("celery_task_running")) == 2)
    page.wait_for(lambda samples: samples.total("celery_task_outcomes_total") == 6)
    assert all(dict(labels).get("task") != "unknown" for _, labels in page.metrics())
    assert all(dict(labels).get("queue") != "unknown" for _, labels in page.metrics())
    assert queues(page.metrics(), "celery_task_outcomes_total") == {
        ("work", "fast"): 1,
        ("work", "slow"): 1,
        ("add", "fast"): 2,
        ("add", "slow"): 2,
    }
