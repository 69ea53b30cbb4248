"""Kombu's envelope, as kombu writes it, and the bodies in it."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import pickle
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.serialization import dumps

from celery_observe.event import Malformed
from celery_observe.streams.content import JSON, Content, ContentReader, decompress
from celery_observe.streams.envelope import unwrap

EVENT = {"type": "task-sent", "uuid": "1"}


def envelope(body: str, **changes: Any) -> bytes:
    """A message as `kombu/transport/virtual/base.py` puts it, with some fields changed."""
    message = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"hostname": "w@h"},
        "properties": {"delivery_mode": 1, "priority": 0, "body_encoding": "base64", "delivery_tag": "t"},
    }
    return json.dumps(message | changes).encode()


def encoded(body: bytes) -> str:
    """A body as it stands in an envelope."""
    return base64.b64encode(body).decode()


def reader(*accept: str) -> tuple[ContentReader, list[Malformed]]:
    """A reader, and what it reports."""
    malformed: list[Malformed] = []
    return ContentReader(accept or ("json",), malformed.append), malformed


def test_the_body_of_an_event_is_decoded() -> None:
    """A body of JSON in base64 is what Celery sends unless told otherwise."""
    assert unwrap(envelope(encoded(b'{"a": 1}'))) == (b'{"a": 1}', JSON)


@pytest.mark.parametrize("body", ['{"a": "ö"}', "abcd"])
def test_a_body_that_is_not_encoded_is_taken_as_it_is(body: str) -> None:
    """Without body encoding the body is text, even if it could be base64."""
    assert unwrap(envelope(body, properties={"body_encoding": None})) == (body.encode(), JSON)


def test_compression_and_content_type_are_told() -> None:
    """What kind of body it is stands beside it."""
    data = envelope(encoded(b"x"), headers={"compression": "application/x-gzip"}, **{"content-type": "a/b"})

    assert unwrap(data) == (b"x", Content("a/b", "utf-8", "application/x-gzip"))


@given(
    st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_what_is_no_envelope_is_an_error(data: bytes) -> None:
    """Any bytes are refused with an error of decoding."""
    with pytest.raises((msgspec.DecodeError, ValueError)):
        unwrap(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"properties": {"body_encoding": "rot13"}},
        {"properties": None},
        {"headers": []},
        {"headers": {"compression": 1}},
        {"body": None},
        {"body": "%%%"},
        {"content-type": 1},
    ],
)
def test_a_broken_envelope_is_an_error(changes: dict[str, Any]) -> None:
    """Each field must have the type that kombu gives it."""
    with pytest.raises((msgspec.DecodeError, ValueError)):
        unwrap(envelope(**{"body": encoded(b"{}")} | changes))


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/data", "nosuch", "", None])
def test_other_content_is_refused(content_type: str | None) -> None:
    """Nothing but JSON is read unless it is accepted."""
    content, malformed = reader()

    assert content.to_json(b"x", Content(content_type)) is None
    assert malformed == [Malformed.REFUSED_CONTENT]


class Bomb:
    """Unpickling it fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("unpickled",)


def test_pickle_is_not_loaded_unless_accepted() -> None:
    """Refused means that no code of the producer runs."""
    content, malformed = reader("json", "yaml")

    assert content.to_json(pickle.dumps(Bomb()), Content("application/x-python-serialize", "binary")) is None
    assert malformed == [Malformed.REFUSED_CONTENT]


@pytest.mark.parametrize("accept", ["pickle", "application/x-python-serialize"])
def test_accepted_content_becomes_json(accept: str) -> None:
    """Content may be accepted by its name or by its type."""
    content, malformed = reader("json", accept)
    content_type, encoding, body = dumps([EVENT], "pickle")

    assert content.to_json(body, Content(content_type, encoding)) == json.dumps([EVENT], separators=(",", ":")).encode()
    assert not malformed


def test_accepted_content_that_is_broken_is_reported() -> None:
    """What its decoder refuses is malformed."""
    content, malformed = reader("pickle")

    assert content.to_json(b"garbage", Content("application/x-python-serialize", "binary")) is None
    assert malformed == [Malformed.ENVELOPE]


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "application/x-gzip": zlib.compress,
    "application/x-bz2": bz2.compress,
    "application/x-lzma": lzma.compress,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_json_is_read(compression: str) -> None:
    """The compressions that can be bounded are known."""
    content, malformed = reader()

    assert content.to_json(COMPRESSIONS[compression](b"{}"), JSON._replace(compression=compression)) == b"{}"
    assert not malformed


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("size", "result"), [(100, b"x" * 100), (101, Malformed.TOO_LARGE)])
def test_decompression_is_bounded(compression: str, size: int, result: bytes | Malformed) -> None:
    """A small body that would grow without end is refused."""
    assert decompress(COMPRESSIONS[compression](b"x" * size), compression, limit=100) == result


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_is_not_compressed_is_reported(compression: str) -> None:
    """A body that is not what its header says is malformed."""
    assert decompress(b"garbage", compression) is Malformed.ENVELOPE


def test_unknown_compression_is_refused() -> None:
    """What cannot be bounded is not decompressed."""
    assert decompress(b"x", "application/zstd") is Malformed.REFUSED_CONTENT
