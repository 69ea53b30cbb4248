"""AMQP 0-9-1 frames to deliveries and methods (specification §2.3.5 and §4.2.3). Pure: no I/O.

A message is a method frame, a header frame (body size and properties) and as many body frames as it takes.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from amqp.exceptions import AMQPError
from amqp.serialization import decode_properties_basic

from celery_observe.event import MAX_BODY_BYTES, Malformed
from celery_observe.streams.content import JSON, Content

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_FRAME_END: Final = 0xCE
_OVERHEAD: Final = 8
_BASIC_DELIVER: Final = b"\x00\x3c\x00\x3c"
_HEADER_BYTES: Final = 14  # class, weight, body size and property flags
_CACHED_PROPERTIES: Final = 512

_frame = struct.Struct(">BHL").unpack_from
_body_size = struct.Struct(">4xQ").unpack_from


class FrameError(ValueError):
    """The peer does not speak AMQP 0-9-1, or lost its place."""


class Delivery(NamedTuple):
    """A message: its properties as they came, and its body."""

    properties: bytes
    body: bytes


class Method(NamedTuple):
    """A method other than basic.deliver: its class and method id, and its arguments as they came."""

    id: tuple[int, int]
    arguments: bytes


HEARTBEAT: Final = struct.pack(">BHLB", _HEARTBEAT, 0, 0, _FRAME_END)


def method_frame(method_id: tuple[int, int], arguments: bytes, channel: int = 0) -> bytes:
    """Return the frame that carries a method."""
    header = struct.pack(">BHLHH", _METHOD, channel, len(arguments) + 4, *method_id)
    return header + arguments + bytes([_FRAME_END])


class FrameParser:
    """Takes bytes as they come, split anywhere, and gives back what is complete."""

    def __init__(self, frame_max: int = 131_072, body_max: int = MAX_BODY_BYTES) -> None:
        self._frame_max = frame_max
        self._body_max = body_max
        self._rest = b""
        self._properties = b""
        self._missing = 0
        self._parts: list[bytes] | None = []

    def feed(self, data: bytes | memoryview) -> list[Delivery | Method | Malformed]:
        """Return what `data` completes; a body above `body_max` bytes is skipped, as Malformed.TOO_LARGE.

        Raises FrameError, after which the parser must not be used again.
        """
        buffer = self._rest + data
        end = len(buffer)
        position = 0
        found: list[Delivery | Method | Malformed] = []
        while end - position >= _OVERHEAD:
            kind, _, size = _frame(buffer, position)
            if size > self._frame_max:
                raise FrameError(f"a frame of {size} bytes, of which {self._frame_max} were agreed")
            following = position + _OVERHEAD + size
            if following > end:
                break
            if buffer[following - 1] != _FRAME_END:
                raise FrameError("a frame without its end mark")
            item = self._take(kind, buffer[position + 7 : following - 1])
            if item is not None:
                found.append(item)
            position = following
        self._rest = buffer[position:]
        return found

    def _take(self, kind: int, payload: bytes) -> Delivery | Method | Malformed | None:
        if kind == _BODY:
            return self._take_body(payload)
        if kind == _METHOD:
            if payload.startswith(_BASIC_DELIVER):
                return None
            return Method((int.from_bytes(payload[0:2]), int.from_bytes(payload[2:4])), payload[4:])
        if kind == _HEADER:
            return self._take_header(payload)
        if kind == _HEARTBEAT:
            return None
        raise FrameError(f"a frame of unknown type {kind}")

    def _take_header(self, payload: bytes) -> Delivery | Malformed | None:
        if len(payload) < _HEADER_BYTES:
            raise FrameError("a content header that is cut short")
        (self._missing,) = _body_size(payload)
        self._properties = payload[12:]
        self._parts = [] if self._missing <= self._body_max else None
        return None if self._missing else Delivery(self._properties, b"")

    def _take_body(self, payload: bytes) -> Delivery | Malformed | None:
        self._missing -= len(payload)
        if self._missing < 0:
            raise FrameError("a body longer than its header said")
        if self._parts is None:
            return None if self._missing else Malformed.TOO_LARGE
        if self._parts or self._missing:
            self._parts.append(payload)
            if self._missing:
                return None
            payload = b"".join(self._parts)
        return Delivery(self._properties, payload)


def content_of(properties: bytes) -> Content:
    """Return what the body of a delivery is. Raises ValueError when the properties are broken."""
    # A producer's properties hardly ever change; what is large is not kept.
    return _cached_content(properties) if len(properties) <= _CACHED_PROPERTIES else _content(properties)


def _content(properties: bytes) -> Content:
    try:
        fields, _ = decode_properties_basic(properties, 0)
    except (AMQPError, struct.error, LookupError, TypeError, ArithmeticError) as error:
        raise ValueError("broken message properties") from error
    compression = (fields.get("application_headers") or {}).get("compression")
    if not isinstance(compression, str | None):
        raise ValueError("broken message headers")  # noqa: TRY004 - it is their value that is wrong
    content = Content(fields.get("content_type"), fields.get("content_encoding"), compression)
    return JSON if content == JSON else content


_cached_content = lru_cache(maxsize=256)(_content)


def reply_of(method: Method) -> str:
    """Return `code text` of a connection.close, channel.close, or the first text of another method."""
    arguments = method.arguments
    code = ""
    if method.id[1] in {40, 50}:
        code, arguments = f"{int.from_bytes(arguments[:2])} ", arguments[2:]
    return code + arguments[1 : 1 + arguments[0]].decode(errors="replace") if arguments else code
