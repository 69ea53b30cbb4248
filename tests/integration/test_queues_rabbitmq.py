"""The queue probes against a real RabbitMQ: over AMQP and through its management API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from celery_observe.errors import CeleryObserveError
from services.exporter import Exporter, Samples
from services.probed import Heard, Probed
from services.rabbitmq import RabbitMQ
from services.waiting import PATIENCE, eventually
from services.worker import Worker

AMQP = -1
"""The place of the probe for AMQP: the last one."""
QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def probe(rabbitmq_server: RabbitMQ) -> Iterator[Callable[..., Probed]]:
    """Make the probes of a broker: `probe(url, heard, management=True, queue=("a",))`; closed after the test."""
    made: list[Probed] = []

    def make(*args: Any, management: bool = False, **settings: Any) -> Probed:
        urls = (f"http://127.0.0.1:{rabbitmq_server.management_port}",) if management else ()
        made.append(Probed(*args, management_url=urls, **settings))
        return made[-1]

    yield make
    for probed in made:
        probed.close()


def fill(url: str, name: str, messages: int = 0, arguments: dict[str, Any] | None = None, **properties: Any) -> None:
    """Declare a queue and publish to it, until RabbitMQ has confirmed that it has all."""
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        queue = Queue(name, queue_arguments=arguments or {})(connection.channel())
        queue.declare()
        producer = connection.Producer()
        for _ in range(messages):
            producer.publish({}, routing_key=name, confirm_timeout=PATIENCE, **properties)


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
def test_ready_messages_and_consumers_are_told_over_amqp(
    rabbitmq_url: str, probe: Callable[..., Probed], arguments: dict[str, Any]
) -> None:
    """Whatever the type of the queue; priorities are not told apart."""
    fill(rabbitmq_url, "celery", 3, arguments)

    told = probe(rabbitmq_url, Heard({"celery"}))

    eventually(lambda: told.ask(AMQP).values("waiting") == {("celery", ""): 3}, what="three are ready")
    assert told.value("consumers", "celery") == 0


def test_a_queue_that_does_not_exist_holds_nothing_if_declared_and_else_is_absent(
    rabbitmq_url: str, probe: Callable[..., Probed]
) -> None:
    """The refusals do not disturb what comes after them."""
    fill(rabbitmq_url, "z-there", 2)

    told = probe(rabbitmq_url, Heard({"gone", "z-there"}), queue=("declared", "*")).ask(AMQP)

    assert told.values("waiting") == {("declared", ""): 0, ("z-there", ""): 2}
    fill(rabbitmq_url, "declared", 1)
    assert told.ask(AMQP).value("waiting", "declared") is None


def test_a_queue_that_was_deleted_disappears(rabbitmq_url: str, probe: Callable[..., Probed]) -> None:
    """That an event once named it keeps nothing alive."""
    fill(rabbitmq_url, "celery", 1)
    told = probe(rabbitmq_url, Heard({"celery"}), management=True)
    eventually(lambda: told.ask().value("waiting", "celery", "") == 1, what="statistics are there")
    assert told.ask(AMQP).value("waiting", "celery", "") == 1

    with Connection(rabbitmq_url) as connection:
        connection.channel().queue_delete("celery")

    assert told.ask(AMQP).values("waiting") == {}
    eventually(lambda: told.ask().values("waiting") == {}, what="the management API has noticed")


def test_an_exclusive_queue_of_another_is_absent(rabbitmq_url: str, probe: Callable[..., Probed]) -> None:
    """It cannot be asked about, so nothing is claimed."""
    with Connection(rabbitmq_url) as connection:
        Queue("mine", exclusive=True)(connection.channel()).declare()

        assert probe(rabbitmq_url, queue=("mine",)).ask(AMQP).values("waiting") == {}


def test_another_virtual_host_is_another_broker(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, probe: Callable[..., Probed]
) -> None:
    """Queues of the same name are told apart by the URL."""
    fill(rabbitmq_url, "celery", 3)
    fill(rabbitmq_server.new_virtual_host(), "celery", 5)

    told = probe(rabbitmq_url, Heard({"celery"}), management=True)

    assert told.ask(AMQP).value("waiting", "celery", "") == 3
    eventually(lambda: told.ask().value("waiting", "celery", "") == 3, what="statistics are there")


def test_management_tells_priorities_and_what_is_unacknowledged(
    rabbitmq_url: str, probe: Callable[..., Probed], celery_worker: Callable[..., Worker]
) -> None:
    """And finds queues of which nobody has told; counters count what went through."""
    fill(rabbitmq_url, "urgent", 2, {"x-max-priority": 3}, priority=3)
    fill(rabbitmq_url, "urgent", 1, {"x-max-priority": 3}, priority=0)
    worker = celery_worker(rabbitmq_url, concurrency=1, worker_prefetch_multiplier=2, task_acks_late=True)
    for _ in range(4):
        worker.send("work", 30)
    told = probe(rabbitmq_url, management=True)

    # RabbitMQ brings its numbers up to date one by one.
    eventually(lambda: told.ask().value("in_flight", "celery") == 2, what="the worker holds two")
    eventually(lambda: told.ask().value("consumers", "celery") == 1, what="the worker consumes")
    eventually(lambda: told.ask().value("published_total", "celery") == 4, what="all that was published is counted")
    eventually(lambda: told.ask().value("waiting", "urgent", "3") == 2, what="priorities are told")

    assert {priority: told.value("waiting", "urgent", str(priority)) for priority in range(4)} == {
        0: 1,
        1: 0,
        2: 0,
        3: 2,
    }
    assert told.value("waiting", "celery", "") == 2
    assert told.value("in_flight", "urgent") == 0
    assert told.value("delivered_total", "celery") == 2
    assert {queue for queue, _ in told.values("waiting")} == {"urgent", "celery"}


def test_management_tells_what_was_delivered_again_and_acknowledged(
    rabbitmq_url: str, probe: Callable[..., Probed]
) -> None:
    """Of two messages one goes back, and comes again; then both are acknowledged."""
    fill(rabbitmq_url, "pay", 2)
    with Connection(rabbitmq_url) as connection:
        queue = Queue("pay")(connection.channel())
        for take in ("requeue", "ack", "ack"):
            message = eventually(queue.get, what="a message")
            getattr(message, take)()
        told = probe(rabbitmq_url, management=True)
        counts = {"published_total": 2, "delivered_total": 3, "redelivered_total": 1, "acknowledged_total": 2}

        eventually(lambda: {name: told.ask().value(name, "pay") for name in counts} == counts, what="all is counted")

    assert told.values("redelivered_total") == {("pay",): 1}


def test_management_tells_quorum_queues_and_dead_letters(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, probe: Callable[..., Probed]
) -> None:
    """A dead-letter queue waits for nobody. RabbitMQ counts a quorum queue every five seconds only."""
    fill(rabbitmq_url, "orders", 3, QUORUM)
    fill(rabbitmq_url, "orders.dlq", 2, QUORUM)
    told = probe(rabbitmq_url, management=True)

    def what() -> str:
        return f"statistics are there, of {rabbitmq_server.management('GET', 'queues')}"

    eventually(lambda: told.ask().value("waiting", "orders", "") == 3, 2 * PATIENCE, what=what)

    eventually(lambda: told.ask().value("dead_letters", "orders.dlq") == 2, 2 * PATIENCE, what=what)
    assert told.values("waiting") == {("orders", ""): 3}


def test_the_age_is_that_of_the_timestamp_or_of_the_events(rabbitmq_url: str, probe: Callable[..., Probed]) -> None:
    """RabbitMQ knows the property `timestamp` of the head message where the publisher set it."""
    now = time.time()
    fill(rabbitmq_url, "stamped", 1, timestamp=int(now - 100))
    fill(rabbitmq_url, "plain", 1)
    told = probe(rabbitmq_url, Heard({"plain"}, since={"plain": [now - 50]}), management=True)

    eventually(lambda: told.ask().value("oldest_age_seconds", "stamped"), what="statistics are there")

    assert told.value("oldest_age_seconds", "stamped") == pytest.approx(100, abs=10)
    eventually(lambda: told.ask().value("oldest_age_seconds", "plain"), what="statistics are there")
    assert told.value("oldest_age_seconds", "plain") == pytest.approx(50, abs=10)
    assert told.ask(AMQP).value("oldest_age_seconds", "plain") == pytest.approx(50, abs=10)


def delay(url: str, prefix: str | None, queues: dict[str, int]) -> None:
    """Lay out native delayed delivery as workers on quorum queues do, and send each queue so many tasks for later."""
    exchange = Exchange("tasks", type="topic")
    with Connection(url) as connection:
        declare_native_delayed_delivery_exchanges_and_queues(connection, "classic", prefix)
        for name, count in queues.items():
            queue = Queue(name, exchange, routing_key=name, queue_arguments=QUORUM)
            queue(connection.channel()).declare()
            bind_queue_to_native_delayed_delivery_exchange(connection, queue, prefix)
            level = f"{prefix}_celery_delayed_27" if prefix else "celery_delayed_27"
            for _ in range(count):
                connection.Producer().publish({}, exchange=level, routing_key=f"1.{'0.' * 27}{name}")


@pytest.mark.parametrize("prefix", [None, "shop"])
def test_delayed_messages_are_told_of_the_one_queue_they_can_be_for(
    rabbitmq_url: str, probe: Callable[..., Probed], prefix: str | None
) -> None:
    """The queues that delay them are no queues of the user's."""
    delay(rabbitmq_url, prefix, {"orders": 3})
    told = probe(rabbitmq_url, management=True)

    eventually(lambda: told.ask().value("scheduled", "orders") == 3, what="statistics are there")

    eventually(lambda: told.ask().values("waiting") == {("orders", ""): 0}, what="statistics are there")
    assert told.value("unattributed") == 0


def test_delayed_messages_of_several_queues_are_told_apart_by_events_or_not_at_all(
    rabbitmq_url: str, probe: Callable[..., Probed]
) -> None:
    """Nothing is taken out of a queue to look at its routing key."""
    delay(rabbitmq_url, None, {"orders": 3, "mails": 1})
    silent = probe(rabbitmq_url, management=True)
    later = time.time() + 3600
    told = probe(rabbitmq_url, Heard(since={"orders": [later] * 3, "mails": [later]}), management=True)

    eventually(lambda: silent.ask().value("unattributed") == 4, what="statistics are there")

    assert silent.values("scheduled") == {}
    assert told.ask().values("scheduled") == {("orders",): 3, ("mails",): 1}
    assert told.value("unattributed") == 0


def test_a_worker_on_quorum_queues_shows_its_eta_tasks_as_scheduled(
    rabbitmq_url: str, probe: Callable[..., Probed], celery_worker: Callable[..., Worker]
) -> None:
    """As Celery itself lays it out and sends it."""
    conf = {
        "task_default_queue_type": "quorum",
        "task_default_exchange_type": "topic",
        "worker_detect_quorum_queues": True,
        "broker_transport_options": {"confirm_publish": True},
    }
    worker = celery_worker(rabbitmq_url, "--without-gossip", **conf)
    for _ in range(2):
        worker.send("add", 1, 2, countdown=600)
    told = probe(rabbitmq_url, management=True)

    eventually(lambda: told.ask().value("scheduled", "celery") == 2, what="both are delayed")

    assert told.value("waiting", "celery", "") == 0
    assert told.value("in_flight", "celery") == 0


def test_queues_of_event_receivers_that_nobody_reads_are_orphans(
    rabbitmq_url: str, probe: Callable[..., Probed]
) -> None:
    """They are counted, and not shown as queues."""
    fill(rabbitmq_url, "celeryev.0c2a", 1)
    fill(rabbitmq_url, "a@b.celery.pidbox")
    told = probe(rabbitmq_url, management=True)

    eventually(lambda: told.ask().value("orphans") == 2, what="statistics are there")

    assert told.values("waiting") == {}


def test_wrong_credentials_are_said_without_showing_them(rabbitmq_server: RabbitMQ, rabbitmq_url: str) -> None:
    """The reason says what the user needs."""
    url = f"http://guest:hunter2@127.0.0.1:{rabbitmq_server.management_port}"
    told = Probed(rabbitmq_url, management_url=(url,))

    with pytest.raises(CeleryObserveError, match="401") as caught:
        told.ask()

    assert "hunter2" not in str(caught.value)
    assert "monitoring" in str(caught.value)


def test_depth_survives_the_loss_of_the_management_api(
    rabbitmq_url: str, free_port: int, exporter: Callable[..., Exporter]
) -> None:
    """Waiting comes from AMQP then; what only the API knows is absent."""
    fill(rabbitmq_url, "celery", 2)
    arguments = ("--queue-interval", "0.5", "--queue", "celery", "--management-url", f"http://127.0.0.1:{free_port}")

    page = exporter(rabbitmq_url, arguments=arguments)

    samples = page.wait_for(lambda samples: samples.value("celery_queue_waiting", queue="celery", priority="") == 2)
    assert samples.value("celery_observe_plugin_up", plugin="queues.management") == 0
    assert samples.value("celery_observe_plugin_up", plugin="queues.amqp") == 1
    assert samples.select("celery_queue_in_flight") == []


def up(page: Samples) -> tuple[float | None, ...]:
    """Whether the two probes worked when they ran last."""
    return tuple(page.value("celery_observe_plugin_up", plugin=name) for name in ("queues.amqp", "queues.management"))


def test_a_stalled_rabbitmq_makes_values_absent_and_scrapes_stay_fast(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, exporter: Callable[..., Exporter]
) -> None:
    """No value outlives what is known, no scrape waits, and all comes back."""
    fill(rabbitmq_url, "celery", 2)
    management = f"http://127.0.0.1:{rabbitmq_server.management_port}"
    arguments = ("--queue-interval", "0.5", "--queue", "celery", "--management-url", management)
    page = exporter(rabbitmq_url, arguments=arguments)
    page.wait_for(lambda samples: up(samples) == (1, 1) and samples.select("celery_queue_in_flight", queue="celery"))

    rabbitmq_server.pause()
    try:
        stalled, slowest = page.time_scrapes(lambda samples: up(samples) == (0, 0))  # until then a probe hangs
    finally:
        rabbitmq_server.resume()

    assert slowest < 2  # a probe hangs for three seconds
    assert stalled.select("celery_queue_in_flight") + stalled.select("celery_queue_waiting") == []
    page.wait_for(lambda samples: samples.value("celery_queue_waiting", queue="celery", priority="") == 2, timeout=30.0)
