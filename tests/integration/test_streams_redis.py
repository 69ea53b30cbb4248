"""The Redis stream against real servers, fed by Celery's own dispatcher."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from celery_observe.errors import StreamError
from celery_observe.event import MAX_BODY_BYTES, Malformed
from celery_observe.settings import BrokerSettings
from services.certificates import Certificates
from services.observed import Observed, dispatch, opens
from services.ports import free_port
from services.redis import Redis
from services.sentinel import Sentinel
from services.waiting import eventually

CHANNEL = "/0.celeryev/task.sent"


@pytest.mark.parametrize("database", [0, 5])
@pytest.mark.parametrize("exchange", ["celeryev", "other"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"global_keyprefix": "shop:"},
        {"fanout_prefix": False},
        {"fanout_prefix": "/{db}.custom."},
        {"fanout_prefix": True, "fanout_patterns": False},
        {"global_keyprefix": "shop:", "fanout_prefix": False, "fanout_patterns": False},
    ],
)
def test_it_hears_celery_whatever_the_channels_are_called(
    redis_server: Redis,
    observe: Callable[..., Observed],
    options: dict[str, Any],
    exchange: str,
    database: int,
) -> None:
    """The channel's name follows database, exchange and transport options as the publisher's does."""
    observed = observe(redis_server.url_of_database(database), transport_options=options, event_exchange=exchange)

    dispatch(observed.broker, "task-sent", "worker-heartbeat")

    assert observed.types(2) == ["task-sent", "worker-heartbeat"]
    assert not observed.malformed


def test_it_leaves_nothing_but_one_connection(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """An open stream is one connection and no key; a closed one is nothing."""
    observed = observe(redis_server.url)
    with redis_server.client() as client:
        assert len(client.client_list()) == 2
        assert client.keys() == []

        observed.stream.close()

        eventually(lambda: len(client.client_list()) == 1)


def test_an_event_comes_at_once(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """An event in the middle of a trickle is read within 50 ms of its publication."""
    observed = observe(redis_server.url)
    app = Celery(broker=redis_server.url, set_as_current=False)
    latencies = []
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        for _ in range(50):
            dispatcher.send("task-received")
            while not (bodies := observed.stream.read(1.0)):
                pass
            latencies.append(time.time() - json.loads(bodies[0])["timestamp"])

    assert sorted(latencies)[len(latencies) // 2] < 0.05


def test_it_connects_by_tls(
    start_redis: Callable[..., Redis], certificates: Certificates, observe: Callable[..., Observed]
) -> None:
    """TLS options of the URL are honoured, and events larger than a TLS record come whole."""
    server = start_redis(tls=certificates, password="s3cret")
    observed = observe(server.url)

    dispatch(observed.broker, *["task-sent"] * 500)

    assert len(observed.types(500)) == 500


def test_it_connects_by_tls_options_of_the_app(
    start_redis: Callable[..., Redis], certificates: Certificates, observe: Callable[..., Observed]
) -> None:
    """`broker_use_ssl` is honoured."""
    server = start_redis(tls=certificates)
    use_ssl = {"ssl_cert_reqs": "required", "ssl_ca_certs": str(certificates.authority)}
    observed = observe(server.url.partition("?")[0], use_ssl=use_ssl)

    dispatch(observed.broker, "task-sent")

    assert observed.types(1) == ["task-sent"]


def test_it_refuses_a_server_whose_certificate_is_not_trusted(
    start_redis: Callable[..., Redis], certificates: Certificates
) -> None:
    """A certificate of an unknown authority is an error that says so."""
    server = start_redis(tls=certificates)
    stream = Observed(server.url.partition("?")[0] + "?ssl_cert_reqs=required").stream

    with pytest.raises(StreamError, match="certificate verify failed"):
        stream.open()


def test_it_connects_by_a_unix_socket(
    start_redis: Callable[..., Redis], tmp_path_factory: pytest.TempPathFactory, observe: Callable[..., Observed]
) -> None:
    """`redis+socket://` URLs are honoured, database included."""
    path = tmp_path_factory.mktemp("s") / "s"
    start_redis("--unixsocket", str(path))
    observed = observe(f"redis+socket://{path}?virtual_host=3")

    dispatch(observed.broker, "task-sent")

    assert observed.types(1) == ["task-sent"]


def test_it_takes_a_password_of_special_characters(
    start_redis: Callable[..., Redis], observe: Callable[..., Observed]
) -> None:
    """A percent-encoded password is decoded."""
    server = start_redis()
    with server.client() as client:
        client.config_set("requirepass", "p@ss/w:rd#%")
    observed = observe(f"redis://:p%40ss%2Fw%3Ard%23%25@127.0.0.1:{server.port}/0")

    dispatch(observed.broker, "task-sent")

    assert observed.types(1) == ["task-sent"]


def test_it_needs_few_rights(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """A user that may do nothing but PING, PSUBSCRIBE and SELECT, on this one pattern, is enough."""
    with redis_server.client() as client:
        client.acl_setuser(
            "eve",
            enabled=True,
            passwords=["+pw"],
            channels=["/0.celeryev/*"],
            commands=["+ping", "+psubscribe", "+select"],
            reset=True,
        )
    observed = observe(f"redis://eve:pw@127.0.0.1:{redis_server.port}/0")

    dispatch(BrokerSettings(url=redis_server.url), "task-sent")

    assert observed.types(1) == ["task-sent"]


def test_it_says_what_it_may_not_subscribe_to(redis_server: Redis) -> None:
    """A user without the right to the channel gets an error that names it."""
    with redis_server.client() as client:
        client.acl_setuser("eve", enabled=True, passwords=["+pw"], channels=["other"], categories=["+@all"])
    stream = Observed(f"redis://eve:pw@127.0.0.1:{redis_server.port}/0").stream

    with pytest.raises(StreamError, match=r"cannot subscribe to /0\.celeryev/\*: .*NOPERM"):
        stream.open()


def test_it_says_that_the_password_is_wrong_without_saying_the_password(
    start_redis: Callable[..., Redis],
) -> None:
    """The error names the cause, and neither password."""
    server = start_redis(password="right")
    stream = Observed(server.url.replace("right", "hunter2")).stream

    with pytest.raises(StreamError, match=r"(?i)invalid username-password") as caught:
        stream.open()
    assert "hunter2" not in str(caught.value)


def test_it_says_that_nobody_listens() -> None:
    """A refused connection is an error at once, with the address and what to check."""
    stream = Observed(f"redis://:hunter2@127.0.0.1:{free_port()}/0").stream
    started = time.monotonic()

    with pytest.raises(StreamError, match=r"127\.0\.0\.1.*refused.*Check") as caught:
        stream.open()
    assert time.monotonic() - started < 3
    assert "hunter2" not in str(caught.value)


def test_it_goes_to_the_alternate_that_answers(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """Of several URLs the first that answers is taken."""
    observed = observe(f"redis://127.0.0.1:{free_port()}/0;{redis_server.url}")

    dispatch(BrokerSettings(url=redis_server.url), "task-sent")

    assert observed.types(1) == ["task-sent"]


def test_it_finds_the_master_and_its_successor(redis_sentinel: Sentinel, observe: Callable[..., Observed]) -> None:
    """Sentinel names the master, and after its death the replica that was promoted."""
    absent = f"sentinel://127.0.0.1:{free_port()}/0"
    observed = observe(f"{absent};{redis_sentinel.url}", transport_options=redis_sentinel.transport_options)
    successor = BrokerSettings(url=redis_sentinel.url, transport_options=redis_sentinel.transport_options)
    dispatch(successor, "task-sent")
    assert observed.types(1) == ["task-sent"]

    redis_sentinel.master.kill()
    observed.time_to_error()
    eventually(lambda: opens(observed.stream), what="the replica is promoted")

    dispatch(successor, "task-received")
    assert observed.types(2) == ["task-sent", "task-received"]


def test_a_killed_client_is_an_error_at_once(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """CLIENT KILL is noticed, and the stream can be opened again."""
    observed = observe(redis_server.url)
    with redis_server.client() as client:
        client.client_kill_filter(_type="pubsub")

    assert "closed the connection" in observed.time_to_error()[1]
    observed.stream.open()
    dispatch(observed.broker, "task-sent")
    assert observed.types(1) == ["task-sent"]


def test_a_killed_server_is_an_error_at_once_until_it_is_back(
    redis_server: Redis, observe: Callable[..., Observed]
) -> None:
    """SIGKILL is noticed, opening fails while it is gone, and works when it is back."""
    observed = observe(redis_server.url)

    redis_server.kill()

    assert "closed the connection" in observed.time_to_error()[1]
    with pytest.raises(StreamError, match="refused"):
        observed.stream.open()
    redis_server.start()
    observed.stream.open()
    dispatch(observed.broker, "task-sent")
    assert observed.types(1) == ["task-sent"]


def test_a_frozen_server_is_an_error_within_six_seconds(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """A peer that keeps the connection and says nothing (SIGSTOP) is stalled; opening another fails soon too."""
    observed = observe(redis_server.url)

    redis_server.pause()
    seconds, message = observed.time_to_error()

    assert 3 < seconds < 6
    assert "stalled" in message
    started = time.monotonic()
    with pytest.raises(StreamError):
        observed.stream.open()
    assert time.monotonic() - started < 5


def test_a_quiet_server_is_no_error(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """A server that answers PING may be silent for as long as it likes."""
    observed = observe(redis_server.url)
    started = time.monotonic()

    while time.monotonic() < started + 7:
        observed.read()

    dispatch(observed.broker, "task-sent")
    assert observed.types(1) == ["task-sent"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", Malformed.ENVELOPE),
        (b"garbage", Malformed.ENVELOPE),
        (b"\xff\xfe", Malformed.ENVELOPE),
        (b"[" * 100_000, Malformed.ENVELOPE),
        (b"{}", Malformed.ENVELOPE),
        (b'{"body": "%%%", "headers": {}, "properties": {"body_encoding": "base64"}}', Malformed.ENVELOPE),
        (
            b"""{"body": "gASVAA==", "content-type": "application/x-python-serialize", "headers": {},
            "properties": {"body_encoding": "base64"}}""",
            Malformed.REFUSED_CONTENT,
        ),
    ],
)
def test_garbage_is_counted_and_what_follows_is_read(
    redis_server: Redis, observe: Callable[..., Observed], payload: bytes, reason: Malformed
) -> None:
    """A broken or refused message costs nothing but itself."""
    observed = observe(redis_server.url)

    with redis_server.client() as client:
        client.publish(CHANNEL, payload)
    dispatch(observed.broker, "task-sent")

    assert observed.types(1) == ["task-sent"]
    assert observed.malformed == [reason]


def test_a_large_message_is_read(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """A message of many reads comes whole."""
    observed = observe(redis_server.url)
    app = Celery(broker=redis_server.url, set_as_current=False)
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        dispatcher.send("task-failed", traceback="x" * 3_000_000)

    observed.types(1)

    assert len(observed.events[0]["traceback"]) == 3_000_000


def test_a_monstrous_message_is_counted_and_ends_the_connection(
    start_redis: Callable[..., Redis], observe: Callable[..., Observed]
) -> None:
    """What cannot be an event is not gathered in memory."""
    server = start_redis("--client-output-buffer-limit", "pubsub 0 0 0")
    observed = observe(server.url)
    with server.client() as client:
        client.publish(CHANNEL, b"x" * (3 * MAX_BODY_BYTES))

    _, message = observed.time_to_error()

    assert "too large" in message
    assert observed.malformed == [Malformed.TOO_LARGE]


def test_accepted_content_becomes_json(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """Events that a producer pickles are read when pickle is accepted."""
    observed = observe(redis_server.url, accept_content=("json", "pickle"))

    dispatch(observed.broker, "task-sent", event_serializer="pickle")

    assert observed.types(1) == ["task-sent"]


def test_bodies_that_are_not_encoded_are_read(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """The transport option `body_encoding` of the producers may be off."""
    observed = observe(redis_server.url, transport_options={"body_encoding": None})

    dispatch(observed.broker, "task-sent")

    assert observed.types(1) == ["task-sent"]


def test_reading_a_closed_stream_is_an_error(redis_server: Redis, observe: Callable[..., Observed]) -> None:
    """A closed stream can be closed again, not read."""
    observed = observe(redis_server.url)

    observed.stream.close()
    observed.stream.close()

    with pytest.raises(StreamError, match="not open"):
        observed.stream.read(0)


def test_a_wrong_database_is_an_error() -> None:
    """The path of the URL must be a number."""
    with pytest.raises(StreamError, match="Database is int"):
        Observed("redis://127.0.0.1/events").stream.open()


def test_a_database_that_is_not_there_is_an_error(redis_server: Redis) -> None:
    """A database that the server does not have is reported as the server puts it."""
    with pytest.raises(StreamError, match=r"(?i)db index is out of range"):
        Observed(redis_server.url_of_database(99)).stream.open()
