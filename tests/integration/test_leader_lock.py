"""The lock of a leader, in real brokers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_observe.broker import BrokerSettings
from celery_observe.errors import CeleryObserveError
from celery_observe.leader import NAME, lock_for
from services.certificates import Certificates
from services.ports import free_port
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.sentinel import Sentinel
from services.waiting import eventually

TERM = 2.0  # seconds


def hold_in_turn(url: str, **options: Any) -> None:
    """Let two compete, the first let go, and the second have it."""
    broker = BrokerSettings(url=url, transport_options=options)
    one, other = lock_for(broker), lock_for(broker)
    assert [one.hold(TERM), other.hold(TERM), one.hold(TERM)] == [True, False, True]

    one.release()

    eventually(lambda: other.hold(TERM), what="the other has it")
    assert not one.hold(TERM)
    one.release()
    assert other.hold(TERM)
    other.release()


def test_one_of_two_has_it_on_redis(redis_server: Redis) -> None:
    """Under a key with the prefix of the broker's; nothing is left of it."""
    hold_in_turn(redis_server.url, global_keyprefix="shop:")
    lock = lock_for(BrokerSettings(url=redis_server.url, transport_options={"global_keyprefix": "shop:"}))

    with redis_server.client() as client:
        assert not client.keys()
        lock.hold(TERM)
        assert client.keys() == [f"shop:{NAME}".encode()]
        assert 0 < client.pttl(f"shop:{NAME}") <= 1000 * TERM
    lock.release()


def test_one_of_two_has_it_over_tls(start_redis: Callable[..., Redis], certificates: Certificates) -> None:
    """With a password."""
    hold_in_turn(start_redis(tls=certificates, password="s3cret").url)


def test_one_of_two_has_it_behind_sentinels(redis_sentinel: Sentinel) -> None:
    """On the master."""
    hold_in_turn(redis_sentinel.url, **redis_sentinel.transport_options)


def test_one_of_two_has_it_on_rabbitmq(rabbitmq_server: RabbitMQ, rabbitmq_url: str) -> None:
    """And whoever does not is no error in its log."""
    assert rabbitmq_server.running
    before = rabbitmq_server.output.count("[error]")

    hold_in_turn(rabbitmq_url)

    assert rabbitmq_server.output.count("[error]") == before


def test_a_key_that_was_deleted_is_lost(redis_server: Redis) -> None:
    """Whoever comes next has the lock, and not its former holder too."""
    broker = BrokerSettings(url=redis_server.url)
    one, other = lock_for(broker), lock_for(broker)
    one.hold(TERM)
    with redis_server.client() as client:
        client.flushall()

    assert other.hold(TERM)
    assert not one.hold(TERM)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_not_there_is_an_error(scheme: str) -> None:
    """With its URL, less the password."""
    lock = lock_for(BrokerSettings(url=f"{scheme}://user:hunter2@127.0.0.1:{free_port()}//"))

    with pytest.raises(CeleryObserveError, match=r"127\.0\.0\.1") as error:
        lock.hold(TERM)

    assert "hunter2" not in str(error.value)
