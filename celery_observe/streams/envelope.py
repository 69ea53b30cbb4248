"""What kombu wraps around a body on brokers that carry no properties of their own: a JSON object.

Written by `kombu/transport/virtual/base.py: Channel.prepare_message`. Pure: no I/O.
"""

from __future__ import annotations

from binascii import a2b_base64
from typing import Literal

import msgspec

from celery_observe.streams.content import Content


class _NoCompression(msgspec.Struct, gc=False):
    compression: None = None


class _Base64(msgspec.Struct, gc=False):
    body_encoding: Literal["base64"]


class _JsonEnvelope(msgspec.Struct, kw_only=True, gc=False):
    """What nearly every envelope is, its fields in the order in which kombu writes them."""

    body: bytes
    content_type: Literal["application/json"] = msgspec.field(name="content-type")
    headers: _NoCompression
    properties: _Base64


class _Headers(msgspec.Struct, gc=False):
    compression: str | None = None


class _Properties(msgspec.Struct, gc=False):
    body_encoding: str | None = None


class _Envelope(msgspec.Struct, gc=False, kw_only=True):
    body: str
    content_encoding: str | None = msgspec.field(name="content-encoding", default=None)
    content_type: str | None = msgspec.field(name="content-type", default=None)
    headers: _Headers
    properties: _Properties


# msgspec decodes base64 while it parses: 2.5 times as fast as binascii on a string that was parsed before.
json_envelope = msgspec.json.Decoder(_JsonEnvelope).decode
"""Reads the envelope of a JSON body in base64; raises msgspec.DecodeError for what is none."""
_envelope = msgspec.json.Decoder(_Envelope)


def unwrap(envelope: bytes) -> tuple[bytes, Content]:
    """Return the body and what it is. Raises ValueError (and its kin of msgspec) when it is no envelope."""
    message = _envelope.decode(envelope)
    content = Content(message.content_type, message.content_encoding, message.headers.compression)
    match message.properties.body_encoding:
        case None:
            return message.body.encode(), content
        case "base64":
            return a2b_base64(message.body, strict_mode=True), content
        case unknown:
            raise ValueError(f"unknown body encoding {unknown}")
