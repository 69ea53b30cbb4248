"""The exporter ends when it is told to, whatever its broker does at that moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from services.exporter import Exporter
from services.imitation import ImitatedWorker
from services.ports import LOOPBACK
from services.proxy import Proxy
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.waiting import eventually

ENDS_WITHIN = 3.0  # seconds
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def ends(page: Exporter, number: signal.Signals = signal.SIGTERM) -> None:
    """It ends with exit code 0 and in time."""
    told = time.monotonic()
    page.send_signal(number)
    assert page.wait() == 0
    assert time.monotonic() - told < ENDS_WITHIN


@pytest.mark.parametrize("number", SIGNALS)
def test_it_ends_when_all_is_well(
    redis_server: Redis, exporter: Callable[..., Exporter], number: signal.Signals
) -> None:
    """SIGTERM and SIGINT mean the same, and no connection is left on the broker."""
    page = exporter(redis_server.url)
    page.wait_until_ready()

    ends(page, number)

    assert "Traceback" not in page.output
    with redis_server.client() as client:
        eventually(lambda: len(client.client_list()) == 1, what="only the test's own connection is left")


def test_it_ends_with_rabbitmq(rabbitmq_server: RabbitMQ, rabbitmq_url: str, exporter: Callable[..., Exporter]) -> None:
    """The event queue and the reply queue go with it."""
    page = exporter(rabbitmq_url)
    page.wait_until_ready()

    ends(page)

    virtual_host = rabbitmq_url.rpartition("/")[2]
    eventually(lambda: rabbitmq_server.management("GET", f"queues/{virtual_host}") == [], what="no queue is left")


@pytest.mark.parametrize("number", SIGNALS)
def test_it_ends_without_a_broker(exporter: Callable[..., Exporter], free_port: int, number: signal.Signals) -> None:
    """A broker that was never there does not matter."""
    page = exporter(f"one=redis://{LOOPBACK}:{free_port}/0", f"two=amqp://{LOOPBACK}:{free_port}//")

    ends(page, number)


def test_it_ends_while_brokers_stall(redis_server: Redis, exporter: Callable[..., Exporter]) -> None:
    """Neither a broker that stalled after the connect, nor several that stall during it, hold it up."""
    with Proxy(redis_server.port) as network:
        urls = [f"{name}=redis://{LOOPBACK}:{network.port}/0" for name in ("one", "two", "three", "four")]
        connected = exporter(*urls)
        connected.wait_until_ready()
        network.stall()
        connecting = exporter(*urls)

        ends(connected)
        ends(connecting)


def test_it_ends_in_a_flood_of_events(redis_server: Redis, exporter: Callable[..., Exporter]) -> None:
    """What has arrived is read, but not for ever."""
    page = exporter(redis_server.url)
    page.wait_until_ready()
    with ImitatedWorker(redis_server.url) as worker:
        while page.metrics().total("celery_observe_events_total") < 100:
            worker.accept(50)
        told = time.monotonic()
        page.send_signal(signal.SIGTERM)
        while page.running and time.monotonic() - told < 2 * ENDS_WITHIN:
            worker.accept(5)

    assert page.wait() == 0
    assert time.monotonic() - told < ENDS_WITHIN
