"""Which stream reads which broker."""

from __future__ import annotations

import pytest

from celery_observe.settings import BrokerSettings
from celery_observe.streams import stream_for
from celery_observe.streams.amqp import AmqpStream
from celery_observe.streams.kombu import KombuStream
from celery_observe.streams.redis import RedisStream


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost/0", RedisStream),
        ("rediss://localhost/0?ssl_cert_reqs=required", RedisStream),
        ("redis+socket:///run/redis.sock", RedisStream),
        ("sentinel://one:26379;sentinel://two:26379/0", RedisStream),
        ("amqp://localhost//", AmqpStream),
        ("amqps://localhost//", AmqpStream),
        ("pyamqp://localhost//", AmqpStream),
        ("memory://", KombuStream),
        ("filesystem://", KombuStream),
    ],
)
def test_the_scheme_decides(url: str, kind: type) -> None:
    """Brokers with a stream of their own get it, all others that of kombu."""
    assert type(stream_for(BrokerSettings(url=url), print)) is kind
