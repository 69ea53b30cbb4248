"""The settings of TLS reach a real server, for the stream and for remote control alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from celery_observe.app import celery_app, with_app
from celery_observe.broker import REDIS
from celery_observe.doctor.gathering import exists
from celery_observe.doctor.server import observers
from celery_observe.errors import CeleryObserveError, StreamError
from celery_observe.leader import lock_for
from celery_observe.probes import probes_for
from celery_observe.probes.control import Question, RemoteControl
from celery_observe.settings import BrokerSettings, Settings, load
from celery_observe.streams import Stream, stream_for
from celery_observe.streams.kombu import KombuStream
from services.certificates import Certificates
from services.observed import Observed
from services.probed import Heard
from services.rabbitmq import RabbitMQ
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


def ask_queues(broker: BrokerSettings) -> None:
    """Ask the probe of queues once."""
    probes = {probe.name: probe for probe in probes_for(broker, Settings(), Heard())}
    probe = probes["queues.redis" if broker.transport in REDIS else "queues.amqp"]
    with closing(probe):
        list(probe.ask())


def open_and_close(stream: Stream) -> None:
    """Read nothing."""
    stream.open()
    stream.close()


def lead(broker: BrokerSettings) -> None:
    """Take the lock of the leader, and let go of it."""
    lock = lock_for(broker)
    try:
        assert lock.hold(5)
    finally:
        lock.release()


def read_with_kombu(broker: BrokerSettings) -> None:
    """Open the stream of the brokers that have no faster one."""
    open_and_close(KombuStream(broker, lambda _: None))


WAYS: tuple[Callable[[BrokerSettings], object], ...] = (
    lambda broker: open_and_close(stream_for(broker, lambda _: None)),
    ask_queues,
    lambda broker: RemoteControl(broker, 0.1).ask([Question("ping")]),
    lead,
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

    for use in (*WAYS, read_with_kombu):
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


@pytest.fixture
def amqps_url(rabbitmq_server: RabbitMQ, rabbitmq_url: str) -> str:
    """The broker URL of a virtual host that no other test uses, over TLS."""
    return rabbitmq_server.over_tls(rabbitmq_url)


def test_amqps_is_read_and_asked_with_the_right_authority(
    rabbitmq_url: str, amqps_url: str, certificates: Certificates
) -> None:
    """Events, workers, queues, the leader and the doctor."""
    (broker,) = load({"broker": (amqps_url,), "broker_tls_ca_file": str(certificates.authority)}, {}).brokers
    observed = Observed(amqps_url, use_ssl=broker.use_ssl)
    observed.stream.open()

    app = Celery(broker=rabbitmq_url, set_as_current=False)
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        dispatcher.send("task-failed", traceback="x" * 300_000)  # many records of TLS
        dispatcher.send("task-sent")

    assert observed.types(2) == ["task-failed", "task-sent"]
    assert len(observed.events[0]["traceback"]) == 300_000
    observed.stream.close()
    for use in WAYS:
        use(broker)


@pytest.mark.parametrize("of", [lambda url, **flags: load({"broker": (url,)} | flags, {}).brokers[0], with_app_of])
def test_amqps_of_an_unknown_authority_is_refused_in_all_ways_that_a_broker_is_read(
    amqps_url: str, tmp_path: Path, of: Callable[..., BrokerSettings]
) -> None:
    """Whether another is named or none."""
    other = str(Certificates(tmp_path).authority)

    for use in WAYS:
        for broker in (of(amqps_url), of(amqps_url, broker_tls_ca_file=other)):
            with pytest.raises(CeleryObserveError, match="certificate verify failed"):
                use(broker)
        use(of(amqps_url, broker_tls_insecure=True))


def test_each_of_several_addresses_is_verified_by_its_own_name(
    amqps_url: str, free_port: int, certificates: Certificates
) -> None:
    """The certificate is of 127.0.0.1: another name does not pass, and an address before it does no harm."""
    gone, renamed = f"amqps://127.0.0.2:{free_port}//", amqps_url.replace("127.0.0.1", "127.1")
    flags = {"broker_tls_ca_file": str(certificates.authority)}
    (listed,) = load({"broker": (f"{gone};{amqps_url}",)} | flags, {}).brokers
    (misnamed,) = load({"broker": (renamed,)} | flags, {}).brokers

    for use in WAYS:
        use(listed)
        with pytest.raises(CeleryObserveError, match="certificate verify failed"):
            use(misnamed)
