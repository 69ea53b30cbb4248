"""Of two replicas one asks the broker and its workers, and the other goes on when it is gone."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from services.exporter import Exporter, Samples
from services.redis import Redis
from services.worker import Worker

INTERVAL = 3.0  # seconds
REPLICA = ("--probe", "leader", "--queue", "celery", "--queue-interval", "3", "--inspect-interval", "0.5")
LEADER = "celery_observe_leader"
ASKED = ("celery_queue_waiting", "celery_queue_desired_slots", "celery_worker_slots", "celery_worker_prefetch")


def leads(page: Exporter) -> bool:
    """Whether this replica is the leader."""
    return page.metrics().value(LEADER) == 1


def asks(samples: Samples) -> bool:
    """Whether a page has all that only the leader asks for."""
    return all(samples.select(name) for name in ASKED)


def asks_nothing(samples: Samples) -> bool:
    """Whether a page has nothing of it."""
    return not any(samples.select(name) for name in ASKED)


@pytest.fixture
def replicas(
    url: str, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> tuple[Exporter, Exporter]:
    """The leader, which has begun to ask, and the other."""
    celery_worker(url, pool="threads")
    first = exporter(url, arguments=REPLICA)
    first.wait_for(lambda samples: samples.value(LEADER) == 1 and asks(samples))
    second = exporter(url, arguments=REPLICA)
    second.wait_until_ready()
    return first, second


def test_one_asks_and_the_other_takes_over_when_it_is_killed(replicas: tuple[Exporter, Exporter]) -> None:
    """Within one interval."""
    first, second = replicas
    time.sleep(INTERVAL)
    assert leads(first)
    assert not leads(second)
    assert asks_nothing(second.metrics())

    first.kill()
    killed = time.monotonic()
    second.wait_for(asks)

    assert time.monotonic() - killed < INTERVAL + 1.0  # for workers to answer
    assert leads(second)


def test_a_leader_that_ends_lets_go(replicas: tuple[Exporter, Exporter]) -> None:
    """The other need not wait for the lock to expire."""
    first, second = replicas

    first.terminate()

    second.wait_for(asks, timeout=INTERVAL)


def test_a_leader_that_hung_tells_nothing_that_it_read_before(replicas: tuple[Exporter, Exporter]) -> None:
    """While it slept another began to lead: there are never two pages with the same queue."""
    first, second = replicas

    first.pause()
    second.wait_for(asks)
    first.resume()

    assert asks_nothing(first.metrics())
    assert not leads(first)


def test_both_count_tasks(url: str, replicas: tuple[Exporter, Exporter], celery_worker: Callable[..., Worker]) -> None:
    """Events come to each replica, which counts them all: rules take one of them, not their sum."""
    worker = celery_worker(url, pool="threads", queues=("other",))

    worker.send("add", 1, 2, queue="other")

    for page in replicas:
        page.wait_for(lambda samples: samples.total("celery_task_outcomes_total", queue="other") == 1)


def test_a_replica_can_be_told_never_to_ask(redis_server: Redis, exporter: Callable[..., Exporter]) -> None:
    """Where the broker has no lock, or somebody else decides."""
    page = exporter(redis_server.url, arguments=("--probe", "off", "--queue", "celery", "--queue-interval", "0.5"))
    page.wait_until_ready()
    time.sleep(2.0)

    assert page.metrics().value(LEADER) == 0
    assert asks_nothing(page.metrics())
