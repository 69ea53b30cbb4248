"""The settings of TLS reach a real server, for the stream and for remote control alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kombu.exceptions import OperationalError

from celery_observe.app import celery_app
from celery_observe.errors import StreamError
from celery_observe.settings import BrokerSettings, load
from celery_observe.streams import stream_for
from services.certificates import Certificates
from services.redis import Redis


def broker_of(server: Redis, **flags: str | bool) -> BrokerSettings:
    """Load settings for the server's URL without the parameters of TLS in it."""
    (broker,) = load({"broker": (server.url.partition("?")[0],)} | flags, {}).brokers
    return broker


@pytest.mark.parametrize("scheme", ["rediss", "redis"])
def test_a_broker_is_verified_with_the_given_authority(
    start_redis: Callable[..., Redis], certificates: Certificates, scheme: str
) -> None:
    """Whether or not the scheme of the URL asks for TLS."""
    server = start_redis(tls=certificates, password="s3cret")
    url = server.url.partition("?")[0].replace("rediss", scheme)
    (broker,) = load({"broker": (url,), "broker_tls_ca_file": str(certificates.authority)}, {}).brokers

    stream = stream_for(broker, lambda _: None)
    stream.open()
    stream.close()
    with celery_app(broker).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)


def test_a_broker_is_not_verified_if_so_asked(start_redis: Callable[..., Redis], certificates: Certificates) -> None:
    """`--broker-tls-insecure` takes any certificate."""
    broker = broker_of(start_redis(tls=certificates), broker_tls_insecure=True)

    stream = stream_for(broker, lambda _: None)
    stream.open()
    stream.close()
    with celery_app(broker).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)


def test_a_broker_of_another_authority_is_refused(
    start_redis: Callable[..., Redis], certificates: Certificates
) -> None:
    """The client's certificate is no authority."""
    server = start_redis(tls=certificates)
    broker = broker_of(server, broker_tls_ca_file=str(certificates.client_certificate))

    with pytest.raises(StreamError, match="certificate verify failed"):
        stream_for(broker, lambda _: None).open()
    with (
        celery_app(broker).connection_for_write() as connection,
        pytest.raises(OperationalError, match="certificate verify failed"),
    ):
        connection.ensure_connection(max_retries=1)
