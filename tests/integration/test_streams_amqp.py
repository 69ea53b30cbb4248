"""The AMQP stream against a real RabbitMQ, fed by Celery's own dispatcher."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import kombu
import pytest
from celery import Celery

from celery_observe.errors import StreamError
from celery_observe.event import MAX_BODY_BYTES, Malformed
from celery_observe.streams.amqp import AmqpStream
from services.observed import Observed, dispatch, opens
from services.rabbitmq import RabbitMQ
from services.waiting import eventually


def event_queues(server: RabbitMQ, url: str) -> list[dict[str, Any]]:
    """The event queues of a virtual host, as the management API describes them."""
    host = url.rpartition("/")[2]
    return [queue for queue in server.management("GET", f"queues/{host}") if "ev." in queue["name"]]


def test_it_hears_celery(rabbitmq_url: str, observe: Callable[..., Observed]) -> None:
    """Single events and batches come in their order, from a virtual host of its own."""
    observed = observe(rabbitmq_url)

    dispatch(observed.broker, "task-sent", "task-received", "worker-heartbeat")

    assert observed.types(3) == ["task-sent", "task-received", "worker-heartbeat"]
    assert not observed.malformed


def test_it_hears_another_exchange(rabbitmq_url: str, observe: Callable[..., Observed]) -> None:
    """`event_exchange` is honoured."""
    observed = observe(rabbitmq_url, event_exchange="other")

    dispatch(observed.broker, "task-sent")

    assert observed.types(1) == ["task-sent"]


def test_its_queue_is_what_celery_would_declare(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, observe: Callable[..., Observed]
) -> None:
    """Prefix, message TTL, expiry and exclusiveness of the queue follow the settings."""
    observe(rabbitmq_url, event_queue_prefix="ourev", event_queue_ttl=7.5, event_queue_expires=120.0)

    (queue,) = eventually(lambda: event_queues(rabbitmq_server, rabbitmq_url))

    assert queue["name"].startswith("ourev.")
    assert queue["arguments"] == {"x-message-ttl": 7500, "x-expires": 120_000}
    assert queue["exclusive"]
    assert queue["auto_delete"]
    assert not queue["durable"]


def test_it_leaves_nothing_behind(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, observe: Callable[..., Observed]
) -> None:
    """A closed stream has no queue left."""
    observed = observe(rabbitmq_url)
    eventually(lambda: event_queues(rabbitmq_server, rabbitmq_url))

    observed.stream.close()
    observed.stream.close()

    eventually(lambda: not event_queues(rabbitmq_server, rabbitmq_url))
    with pytest.raises(StreamError, match="not open"):
        observed.stream.read(0)


def test_a_body_of_many_frames_is_read(rabbitmq_url: str, observe: Callable[..., Observed]) -> None:
    """A body above the frame size comes whole."""
    observed = observe(rabbitmq_url)
    app = Celery(broker=rabbitmq_url, set_as_current=False)
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        dispatcher.send("task-failed", traceback="x" * 3_000_000)

    observed.types(1)

    assert len(observed.events[0]["traceback"]) == 3_000_000


def test_a_monstrous_body_is_counted_and_skipped(rabbitmq_url: str, observe: Callable[..., Observed]) -> None:
    """What cannot be an event is not gathered in memory, and what follows is read."""
    observed = observe(rabbitmq_url)
    with kombu.Connection(rabbitmq_url) as connection:
        producer = kombu.Producer(connection, kombu.Exchange("celeryev", "topic"))
        producer.publish(b"x" * (MAX_BODY_BYTES + 1), content_type="application/json", routing_key="task.sent")

    dispatch(observed.broker, "task-sent")

    assert observed.types(1) == ["task-sent"]
    assert observed.malformed == [Malformed.TOO_LARGE]


@pytest.mark.parametrize(
    ("accept_content", "malformed", "types"),
    [
        (("json",), [Malformed.REFUSED_CONTENT], ["task-received"]),
        (("json", "pickle"), [], ["task-sent", "task-received"]),
    ],
)
def test_pickle_is_read_only_when_accepted(
    rabbitmq_url: str,
    observe: Callable[..., Observed],
    accept_content: tuple[str, ...],
    malformed: list[Malformed],
    types: list[str],
) -> None:
    """Content that is not accepted is counted; accepted content becomes JSON."""
    observed = observe(rabbitmq_url, accept_content=accept_content)

    dispatch(observed.broker, "task-sent", event_serializer="pickle")
    dispatch(observed.broker, "task-received")

    assert observed.types(len(types)) == types
    assert observed.malformed == malformed


def test_it_answers_heartbeats(rabbitmq_url: str) -> None:
    """With heartbeats every second the connection outlives several of them, silent or not."""
    stream = AmqpStream(Observed(rabbitmq_url).broker, print, heartbeat=1.0)
    stream.open()
    started = time.monotonic()

    while time.monotonic() < started + 5:
        assert stream.read(0.1) == []

    stream.close()


def test_a_deleted_queue_is_an_error(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, observe: Callable[..., Observed]
) -> None:
    """A queue that an operator deletes is noticed, and the stream can be opened again."""
    observed = observe(rabbitmq_url, event_queue_exclusive=False)
    (queue,) = eventually(lambda: event_queues(rabbitmq_server, rabbitmq_url))

    rabbitmq_server.management("DELETE", f"queues/{queue['vhost']}/{queue['name']}")
    assert "deleted the event queue" in observed.time_to_error()[1]
    observed.stream.open()
    dispatch(observed.broker, "task-sent")
    assert observed.types(1) == ["task-sent"]


def test_a_connection_that_is_closed_is_an_error(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, observe: Callable[..., Observed]
) -> None:
    """A connection that an operator closes is noticed, with the reason that the broker gives."""
    observed = observe(rabbitmq_url)
    host = rabbitmq_url.rpartition("/")[2]
    (connection,) = eventually(lambda: rabbitmq_server.management("GET", f"vhosts/{host}/connections"))

    rabbitmq_server.management("DELETE", f"connections/{quote(connection['name'], safe='')}")

    assert "320 CONNECTION_FORCED" in observed.time_to_error()[1]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("amqp://guest:hunter2@127.0.0.1:{port}//", "cannot connect: .*ACCESS_REFUSED"),
        ("amqp://guest:guest@127.0.0.1:{port}/nowhere", "cannot connect: .*vhost nowhere not found"),
        ("amqp://guest:hunter2@127.0.0.1:{free_port}//", "cannot connect: .*refused.* Check"),
    ],
)
def test_it_says_why_it_cannot_connect(rabbitmq_server: RabbitMQ, free_port: int, url: str, message: str) -> None:
    """A wrong password, virtual host or port is an error at once that says so, without the password."""
    stream = Observed(url.format(port=rabbitmq_server.port, free_port=free_port)).stream
    started = time.monotonic()

    with pytest.raises(StreamError, match=message) as caught:
        stream.open()
    assert time.monotonic() - started < 5
    assert "hunter2" not in str(caught.value)


def test_it_survives_its_broker(tmp_path: Path, observe: Callable[..., Observed]) -> None:
    """A frozen broker is an error within 10 s, a stopped one at once, and one that is back is heard."""
    with RabbitMQ(tmp_path) as server:
        observed = observe(server.url)
        server.pause()
        seconds, message = observed.time_to_error()
        assert seconds < 11
        assert "stalled" in message
        started = time.monotonic()
        assert not opens(observed.stream)
        assert time.monotonic() - started < 5

        server.resume()
        eventually(lambda: opens(observed.stream))
        server.stop()
        assert "stalled" not in observed.time_to_error()[1]
        assert not opens(observed.stream)

        server.start()
        observed.stream.open()
        dispatch(observed.broker, "task-sent")
        assert observed.types(1) == ["task-sent"]
