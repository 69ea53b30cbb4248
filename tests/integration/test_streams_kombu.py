"""The stream for the rest of kombu's transports, on those that need no server."""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable
from pathlib import Path

import kombu
import pytest

from celery_observe.errors import SettingsError, StreamError
from celery_observe.event import MAX_BODY_BYTES, Malformed
from services.observed import Observed, dispatch

EXCHANGE = kombu.Exchange("celeryev", "topic")


def test_it_hears_events_in_memory(observe: Callable[..., Observed]) -> None:
    """The memory transport works within one process."""
    observed = observe("memory://")

    dispatch(observed.broker, "task-sent", "worker-heartbeat")

    assert observed.types(2) == ["task-sent", "worker-heartbeat"]


def test_it_hears_another_process_through_files(tmp_path: Path, observe: Callable[..., Observed]) -> None:
    """The filesystem transport works between processes, and a closed stream leaves no binding."""
    options = {
        "data_folder_in": str(tmp_path / "data"),
        "data_folder_out": str(tmp_path / "data"),
        "control_folder": str(tmp_path / "control"),
    }
    (tmp_path / "data").mkdir()
    observed = observe("filesystem://", transport_options=options)

    producer = multiprocessing.get_context("spawn").Process(target=dispatch, args=(observed.broker, "task-sent"))
    producer.start()
    producer.join()

    assert observed.types(1) == ["task-sent"]
    observed.stream.close()
    assert "celeryev." not in (tmp_path / "control" / "celeryev.exchange").read_text()


def test_nothing_comes_of_silence(observe: Callable[..., Observed]) -> None:
    """A read without events ends with the time-out."""
    assert observe("memory://").stream.read(0.01) == []


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"not compressed", {"compression": "application/x-gzip"}, Malformed.ENVELOPE),
        (
            zlib.compress(b"x" * (MAX_BODY_BYTES + 1)),
            {"compression": "application/x-gzip"},
            Malformed.TOO_LARGE,
        ),
        (b"?", {"compression": "application/x-brotli"}, Malformed.REFUSED_CONTENT),
    ],
)
def test_what_cannot_be_decompressed_is_counted(
    observe: Callable[..., Observed], body: bytes, headers: dict[str, str], reason: Malformed
) -> None:
    """Compressed bodies are bounded, and a broken one costs nothing but itself."""
    observed = observe("memory://")
    with kombu.Connection("memory://") as connection:
        producer = kombu.Producer(connection, EXCHANGE)
        producer.publish(body, content_type="application/json", routing_key="task.sent", headers=headers)

    dispatch(observed.broker, "task-sent")

    assert observed.types(1) == ["task-sent"]
    assert observed.malformed == [reason]


def test_compressed_events_are_read(observe: Callable[..., Observed]) -> None:
    """A producer may compress its events."""
    observed = observe("memory://")
    with kombu.Connection("memory://") as connection:
        producer = kombu.Producer(connection, EXCHANGE, compression="gzip")
        producer.publish({"type": "task-sent"}, routing_key="task.sent")

    assert observed.types(1) == ["task-sent"]


def test_pickle_is_refused(observe: Callable[..., Observed]) -> None:
    """Content that is not accepted is counted, and not decoded."""
    observed = observe("memory://")

    dispatch(observed.broker, "task-sent", event_serializer="pickle")
    dispatch(observed.broker, "task-received")

    assert observed.types(1) == ["task-received"]
    assert observed.malformed == [Malformed.REFUSED_CONTENT]


def test_a_broken_envelope_is_counted(tmp_path: Path, observe: Callable[..., Observed]) -> None:
    """A message that kombu cannot take apart costs nothing but itself."""
    options = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path), "control_folder": str(tmp_path)}
    observed = observe("filesystem://", transport_options=options)
    queue = (tmp_path / "celeryev.exchange").read_text().split('"')[-2]
    (tmp_path / f"0_garbage.{queue}.msg").write_text("{}")

    dispatch(observed.broker, "task-sent")

    assert observed.types(1) == ["task-sent"]
    assert observed.malformed == [Malformed.ENVELOPE]


def test_a_transport_without_fanout_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where events cannot reach us the error names the transport and what to use instead."""
    monkeypatch.setattr("kombu.transport.memory.Channel.supports_fanout", False)

    with pytest.raises(StreamError, match=r"memory transport .* Use Redis or RabbitMQ"):
        Observed("memory://").stream.open()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://", "No such transport"),
        ("redis://:hunter2/@127.0.0.1/0", "Percent-encode"),
        ("redis://:hunter2@127.0.0.1/0?colour=blue", "unexpected keyword argument 'colour'"),
    ],
)
def test_wrong_settings_show_before_anything_is_opened(url: str, message: str) -> None:
    """A URL that kombu cannot use is an error of the settings, without the password."""
    with pytest.raises(SettingsError, match=message) as caught:
        Observed(url)
    assert "hunter2" not in str(caught.value)


def test_unknown_content_is_an_error_of_the_settings() -> None:
    """A content type that kombu does not know cannot be accepted."""
    with pytest.raises(SettingsError, match="nosuch"):
        Observed("memory://", accept_content=("nosuch",))
