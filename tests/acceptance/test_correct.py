"""Real workers run tasks that end in every way, and the page says exactly that."""

from __future__ import annotations

import sys
from collections.abc import Callable

import celery
import pytest

from services.celery_versions import interpreter
from services.endings import ENDINGS, REPLACED, Table, run_everything
from services.exporter import Exporter, Samples
from services.redis import Redis
from services.waiting import settled
from services.worker import Worker

OUTCOMES = "celery_task_outcomes_total"

CAUSES: Table = {
    ("fail", "ValueError/exception"): 2,
    ("give_up", "KeyError/retries_exhausted"): 1,
    ("soft_limit", "SoftTimeLimitExceeded/soft_time_limit"): 1,
    ("hard_limit", "TimeLimitExceeded/hard_time_limit"): 1,
    ("kill_self", "WorkerLostError/oom_or_signal"): 1,
    ("exit_process", "WorkerLostError/worker_lost"): 1,
    ("nobody_knows", "NotRegistered/unregistered"): 1,
}


def table(samples: Samples, family: str, *labels: str) -> Table:
    """The samples of a family that are not 0, by task and the values of these labels; the queue must be known."""
    found: Table = {}
    for (name, own), value in samples.items():
        if name == family and value:
            values = dict(own)
            assert values["queue"] == "celery", values
            key = values["task"], "/".join(values[label] for label in labels)
            found[key] = found.get(key, 0) + value
    return found


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_every_ending_is_what_the_page_says(
    broker: str,
    request: pytest.FixtureRequest,
    exporter: Callable[..., Exporter],
    celery_worker: Callable[..., Worker],
) -> None:
    """Each attempt has its one outcome, each failure its cause, and nothing runs or is lost in the end."""
    url = request.getfixturevalue("redis_server").url if broker == "redis" else request.getfixturevalue("rabbitmq_url")
    page = exporter(url)
    page.wait_until_ready()
    worker = celery_worker(url, "--heartbeat-interval", "1", pool="prefork", concurrency=4)

    run_everything(worker, page)
    worker.send("replace")

    expected = ENDINGS | REPLACED
    samples = settled(page.metrics, lambda samples: table(samples, OUTCOMES, "outcome") == expected, timeout=40.0)
    assert table(samples, OUTCOMES, "outcome") == expected
    assert table(samples, "celery_task_failures_total", "exception", "cause") == CAUSES
    page.wait_for(lambda samples: sum(samples.select("celery_task_running")) == 0)
    assert samples.total("celery_observe_tasks_unobserved_total") == 0
    assert samples.value("celery_task_custom_events_total", type="task-progress", task="say") == 1
    assert not samples.select("celery_observe_events_malformed_total")


EVERYWHERE: Table = {
    ("add", "succeeded"): 2,
    ("fail", "failed"): 1,
    ("retry", "retried"): 2,
    ("retry", "succeeded"): 1,
    ("give_up", "retried"): 1,
    ("give_up", "failed"): 1,
    ("reject_once", "rejected"): 1,
    ("reject_once", "succeeded"): 1,
    ("replace", "ignored"): 1,
    ("say", "succeeded"): 1,
    ("nobody_knows", "unregistered"): 1,
}
"""What ends the same way in every version and pool."""


@pytest.mark.parametrize(("version", "pool"), [("5.5.3", "prefork"), ("5.6.3", "gevent"), ("", "threads")])
def test_every_version_and_pool_is_understood(
    redis_server: Redis,
    exporter: Callable[..., Exporter],
    celery_worker: Callable[..., Worker],
    version: str,
    pool: str,
) -> None:
    """Workers of older Celery, and those that do not fork, are counted as exactly."""
    page = exporter(redis_server.url)
    page.wait_until_ready()
    python = interpreter(version) if version else sys.executable
    worker = celery_worker(redis_server.url, "--heartbeat-interval", "1", pool=pool, python=python)
    # A retry that a thread publishes may end before its `task-sent` comes: the queue is that of the worker then.
    page.wait_for(lambda samples: samples.value("celery_worker_consumes", worker=worker.node, queue="celery") == 1)

    for task in ("add", "fail", "give_up", "reject_once", "replace", "say", "nobody_knows"):
        worker.send(task, *((1, 2) if task == "add" else ()))
    worker.send("retry", 2)

    samples = page.wait_for(lambda samples: known(table(samples, OUTCOMES, "outcome")) == EVERYWHERE)
    assert samples.total("celery_worker_info", worker=worker.node, version=version or celery.__version__) == 1


def known(found: Table) -> Table:
    """What was found, where an end of which Celery says nothing may be told as vanished: 5.6 is silent on more."""
    return {(task, "ignored" if outcome == "vanished" else outcome): value for (task, outcome), value in found.items()}
