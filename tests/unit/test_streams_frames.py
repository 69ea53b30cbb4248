"""AMQP frames, from bytes written by py-amqp's own serializers."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import pairwise

import pytest
from amqp.basic_message import Message
from hypothesis import given
from hypothesis import strategies as st

from celery_observe.event import Malformed
from celery_observe.streams.content import JSON, Content
from celery_observe.streams.frames import (
    HEARTBEAT,
    Delivery,
    FrameError,
    FrameParser,
    Method,
    content_of,
    method_frame,
    reply_of,
)

DELIVER = (60, 60)
CLOSE = (20, 40)


def frame(kind: int, payload: bytes) -> bytes:
    """One frame on channel 1."""
    return struct.pack(">BHL", kind, 1, len(payload)) + payload + b"\xce"


def properties(**fields: object) -> bytes:
    """Message properties as py-amqp writes them."""
    return bytes(Message(b"", **fields)._serialize_properties())  # noqa: SLF001 (py-amqp has no other way to it)


def message(body: bytes, *, frame_size: int = 100, fields: bytes = b"\x00\x00") -> bytes:
    """The frames of one message."""
    header = frame(2, struct.pack(">HHQ", 60, 0, len(body)) + fields)
    bodies = [frame(3, body[start : start + frame_size]) for start in range(0, len(body), frame_size)]
    return method_frame(DELIVER, b"\x01c" + b"\x00" * 9 + b"\x01x\x01y") + header + b"".join(bodies)


def feed_in_pieces(parser: FrameParser, data: bytes, cuts: list[int]) -> list[Delivery | Method | Malformed]:
    """Feed `data` cut at the given places."""
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in pairwise(edges)]
    return [item for piece in pieces for item in parser.feed(memoryview(piece))]


@given(
    bodies=st.lists(st.binary(max_size=300), max_size=6),
    cuts=st.lists(st.integers(0, 2_000), max_size=30),
    frame_size=st.integers(1, 400),
)
def test_messages_come_whole_wherever_they_are_cut(bodies: list[bytes], cuts: list[int], frame_size: int) -> None:
    """Reads and frames may end anywhere: bodies come complete, in order, with heartbeats in between."""
    data = b"".join(message(body, frame_size=frame_size) + HEARTBEAT for body in bodies)

    found = feed_in_pieces(FrameParser(), data, [cut for cut in cuts if cut < len(data)])

    assert found == [Delivery(b"\x00\x00", body) for body in bodies]


def test_messages_come_whole_byte_by_byte() -> None:
    """Every byte may be a read of its own."""
    data = message(b"one") + method_frame(CLOSE, b"\x01\x40") + message(b"two" * 100)

    found = feed_in_pieces(FrameParser(), data, list(range(1, len(data))))

    assert found == [
        Delivery(b"\x00\x00", b"one"),
        Method(CLOSE, b"\x01\x40"),
        Delivery(b"\x00\x00", b"two" * 100),
    ]


@given(st.binary(max_size=200))
def test_garbage_is_a_frame_error_or_nothing(data: bytes) -> None:
    """Bytes that are no AMQP end in FrameError or wait for more, and in no other way."""
    with suppress(FrameError):
        FrameParser(frame_max=64).feed(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x01\x00\x01\x00\x00\x00\x04\x00\x14\x00\x28\x00", "end mark"),
        (frame(5, b""), "unknown type 5"),
        (frame(3, b"x"), "longer than its header said"),
        (frame(2, b"x"), "cut short"),
        (b"HTTP/1.1 400 Bad Request", "were agreed"),
    ],
)
def test_a_peer_that_speaks_something_else_is_an_error(data: bytes, message: str) -> None:
    """What is wrong with a frame is named."""
    with pytest.raises(FrameError, match=message):
        FrameParser().feed(data)


@pytest.mark.parametrize("size", [11, 100])
def test_a_body_above_the_bound_is_skipped(size: int) -> None:
    """It is reported once, and the message after it is read."""
    data = message(b"x" * size, frame_size=7) + message(b"y" * 10)

    found = feed_in_pieces(FrameParser(body_max=10), data, [5, 50])

    assert found == [Malformed.TOO_LARGE, Delivery(b"\x00\x00", b"y" * 10)]


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ({}, Content(None, None)),
        ({"content_type": "application/json", "content_encoding": "utf-8", "priority": 0}, JSON),
        (
            {
                "content_type": "application/json",
                "content_encoding": "utf-8",
                "application_headers": {"hostname": "w@h", "compression": "application/x-gzip"},
            },
            Content("application/json", "utf-8", "application/x-gzip"),
        ),
        (
            {"content_type": "application/x-yaml", "application_headers": {"x": "y" * 600}},
            Content("application/x-yaml", None),
        ),
    ],
)
def test_properties_tell_the_content(fields: dict[str, object], content: Content) -> None:
    """Content type, encoding and compression are read from a message's properties, large or small."""
    assert content_of(properties(**fields)) == content


@given(st.binary(min_size=2, max_size=700))
def test_broken_properties_are_a_value_error(data: bytes) -> None:
    """Properties of any bytes are content or ValueError."""
    with suppress(ValueError):
        content_of(data)


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        (Method((10, 50), b"\x01\x40\x06FORCED\x00\x00\x00\x00"), "320 FORCED"),
        (Method((60, 30), b"\x03tag\x00"), "tag"),
        (Method((20, 40), b""), "0 "),
    ],
)
def test_the_reply_of_a_method_is_its_code_and_text(method: Method, reply: str) -> None:
    """What the broker says when it ends something can be shown."""
    assert reply_of(method) == reply
