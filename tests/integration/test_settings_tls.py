"""The settings of TLS reach a real server, for the stream and for remote control alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from celery_observe.app import celery_app, with_app
from celery_observe.broker import REDIS
from celery_observe.doctor.gathering import exists
from celery_observe.doctor.server import observers
from celery_observe.errors import CeleryObserveError, StreamError
from celery_observe.leader import lock_for
from celery_observe.probes import Probe, probes_for
from celery_observe.probes.control import Question, RemoteControl
from celery_observe.settings import BrokerSettings, Settings, load
from celery_observe.streams import Stream, stream_for
from celery_observe.streams.kombu import KombuStream
from services.certificates import Certificates
from services.probed import Heard
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


def with_app_of(url: str, **flags: str | bool) -> BrokerSettings:
    """What is known of the broker of an app with this URL."""
    app = Celery(broker=url, set_as_current=False, fixups=[])
    (broker,) = with_app(load({"app": "shop"} | flags, {}), app).brokers
    return broker


def queues_of(broker: BrokerSettings) -> Probe:
    """The probe of queues."""
    return next(
        probe for probe in probes_for(broker, Settings(), Heard()) if probe.name in {"queues.redis", "queues.amqp"}
    )


def open_and_close(stream: Stream) -> None:
    """Read nothing."""
    stream.open()
    stream.close()


WAYS: tuple[Callable[[BrokerSettings], object], ...] = (
    lambda broker: open_and_close(stream_for(broker, lambda _: None)),
    lambda broker: open_and_close(KombuStream(broker, lambda _: None)),
    lambda broker: list(queues_of(broker).ask()),
    lambda broker: RemoteControl(broker, 0.1).ask([Question("ping")]),
    lambda broker: lock_for(broker).hold(5),
    lambda broker: observers(broker) if broker.transport in REDIS else exists(broker, "celeryev"),
)


@pytest.mark.parametrize("of", [lambda url, **flags: load({"broker": (url,)} | flags, {}).brokers[0], with_app_of])
def test_a_bare_rediss_is_verified_in_all_ways_that_a_broker_is_read(
    start_redis: Callable[..., Redis], certificates: Certificates, of: Callable[..., BrokerSettings]
) -> None:
    """With the CAs of the system: one that they do not know is refused until it is named, or nothing is verified."""
    url = start_redis(tls=certificates).url.partition("?")[0]
    trusting = (
        of(url, broker_tls_ca_file=str(certificates.authority)),
        of(url, broker_tls_insecure=True),
        of(f"{url}?ssl_cert_reqs=none"),
    )

    for use in WAYS:
        with pytest.raises(CeleryObserveError, match="certificate verify failed"):
            use(of(url))
        for broker in trusting:
            use(broker)
    with pytest.raises(StreamError, match=r"verify failed.* Give the CA of its certificate with --broker-tls-ca-file"):
        stream_for(of(url), lambda _: None).open()


def test_an_app_can_say_that_nothing_is_verified(start_redis: Callable[..., Redis], certificates: Certificates) -> None:
    """As Celery would."""
    app = Celery(broker=start_redis(tls=certificates).url.partition("?")[0], set_as_current=False, fixups=[])
    app.conf.broker_use_ssl = {"ssl_cert_reqs": "none"}
    (broker,) = with_app(load({"app": "shop"}, {}), app).brokers

    for use in WAYS:
        use(broker)
    assert celery_app(broker) is app
