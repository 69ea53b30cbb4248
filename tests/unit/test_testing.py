"""The stand-ins that are shipped for tests of plug-ins stand in well."""

from __future__ import annotations

import pytest

from celery_observe.errors import StreamError
from celery_observe.event import Decoder, Event
from celery_observe.fleet import Instant
from celery_observe.streams import Stream
from celery_observe.testing import EPOCH, FakeClock, MemoryStream, make_event


def decoded(bodies: list[bytes]) -> list[Event]:
    """The events of bodies, none of which may be malformed."""
    decoder = Decoder(pytest.fail)
    return [event for event in decoder.decode(bodies) if isinstance(event, Event)]


def test_an_event_has_what_every_event_has() -> None:
    """And what was given."""
    event = make_event("task-started", uuid="a")

    assert (event.type, event.uuid, event.timestamp, event.hostname) == ("task-started", "a", EPOCH, "celery@host")


def test_a_clock_stands_still_until_it_is_moved() -> None:
    """Both of its faces move alike."""
    clock = FakeClock()

    assert clock.now == Instant(EPOCH, 0.0)
    assert clock.advance(2.5) == clock.now == Instant(EPOCH + 2.5, 2.5)
    assert clock() == 2.5


def test_a_stream_hands_out_what_was_put_in() -> None:
    """Events, batches and raw bodies, once."""
    event = make_event("task-started", uuid="a")
    stream: Stream = MemoryStream(event, [event, event])

    stream.open()

    assert decoded(stream.read(1.0)) == [event] * 3
    assert stream.read(1.0) == []
    stream.close()


def test_a_stream_fails_in_its_turn() -> None:
    """What came before the loss is read; what comes after needs a new connection."""
    stream = MemoryStream(b"[]", StreamError("lost"), b"{}")

    assert stream.read(1.0) == [b"[]"]
    with pytest.raises(StreamError, match="lost"):
        stream.read(1.0)
    stream.put(b"1")
    assert stream.read(1.0) == [b"{}", b"1"]


def test_a_stream_knows_how_often_it_was_opened_and_closed() -> None:
    """A reader opens it again after each loss."""
    stream = MemoryStream()

    stream.open()
    stream.close()
    stream.close()

    assert (stream.opened, stream.closed) == (1, 2)
