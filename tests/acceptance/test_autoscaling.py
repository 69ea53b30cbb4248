"""What an autoscaler reads is there with no worker and no message, right with some, and absent when it is not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from apps.sample import make_app
from services.exporter import Exporter
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.worker import Worker

QUICKLY = ("--queue", "celery", "--queue-interval", "0.5", "--inspect-interval", "0.2", "--drain-target", "10")
INPUTS = tuple(f"celery_queue_{name}" for name in ("waiting", "in_flight", "slots", "consumers", "desired_slots"))


class Broker(NamedTuple):
    """A broker, and how an exporter is told of it: RabbitMQ says by its management API alone what is in flight."""

    url: str
    arguments: tuple[str, ...] = ()


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """One of each kind."""
    if request.param == "redis":
        server: Redis = request.getfixturevalue("redis_server")
        return Broker(server.url)
    rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq_server")
    management = f"http://127.0.0.1:{rabbitmq.management_port}"
    return Broker(request.getfixturevalue("rabbitmq_url"), ("--management-url", management))


def test_a_queue_scales_from_none_and_back(
    broker: Broker, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """Zero of all, then a backlog that nobody works on, then workers, then a backlog whose runtime is known."""
    url = broker.url
    with make_app(url) as publisher, publisher.connection_for_write() as connection:
        publisher.amqp.queues["celery"](connection.default_channel).declare()
    page = exporter(url, arguments=(*QUICKLY, *broker.arguments))
    empty = page.wait_for(lambda samples: all(samples.select(name, queue="celery") for name in INPUTS), timeout=30)
    assert [empty.total(name, queue="celery") for name in INPUTS] == [0] * len(INPUTS)

    with make_app(url) as publisher:
        for _ in range(4):
            publisher.send_task("work", (1.0,))
    page.wait_for(lambda samples: samples.value("celery_queue_desired_slots", queue="celery") == 1)

    worker = celery_worker(url, pool="prefork", concurrency=3)
    page.wait_for(lambda samples: samples.value("celery_queue_slots", queue="celery") == 3, timeout=30)
    page.wait_for(lambda samples: samples.value("celery_queue_consumers", queue="celery") == 1)
    page.wait_for(lambda samples: samples.total("celery_task_runtime_seconds_count", queue="celery") == 4)
    page.wait_for(lambda samples: samples.value("celery_queue_desired_slots", queue="celery") == 0)

    worker.stop()
    page.wait_for(lambda samples: samples.value("celery_queue_slots", queue="celery") == 0)
    with make_app(url) as publisher:
        for _ in range(55):
            publisher.send_task("work", (1.0,))
    page.wait_for(lambda samples: samples.value("celery_queue_desired_slots", queue="celery") == 6)
    labels = {name for (family, found), _ in page.metrics().items() if family in INPUTS for name, _ in found}
    assert labels == {"queue", "priority"}


def test_nothing_is_told_while_the_broker_cannot_be_read(
    redis_server: Redis, exporter: Callable[..., Exporter]
) -> None:
    """Absent is not zero: an autoscaler must not scale to none on it."""
    page = exporter(redis_server.url, arguments=QUICKLY)
    page.wait_for(lambda samples: all(samples.select(name, queue="celery") for name in INPUTS))

    redis_server.pause()
    page.wait_for(lambda samples: not any(samples.select(name) for name in INPUTS))
    redis_server.resume()

    page.wait_for(lambda samples: all(samples.select(name, queue="celery") for name in INPUTS))


def test_consumers_that_are_added_later_are_seen(
    rabbitmq_server: RabbitMQ,
    rabbitmq_url: str,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
) -> None:
    """Within a round of questions."""
    assert rabbitmq_server.running
    page = exporter(rabbitmq_url, arguments=(*QUICKLY, "--queue", "extra"))
    worker = celery_worker(rabbitmq_url, pool="threads", concurrency=2)
    page.wait_for(lambda samples: samples.value("celery_queue_slots", queue="celery") == 2, timeout=30)
    assert page.metrics().value("celery_queue_slots", queue="extra") == 0

    with make_app(rabbitmq_url) as app:
        app.control.add_consumer("extra", destination=[worker.node], reply=True)

    page.wait_for(lambda samples: samples.value("celery_queue_slots", queue="extra") == 2)
    assert page.metrics().value("celery_worker_consumes", worker=worker.node, queue="extra") == 1
