"""Bodies in any content type that the user accepts, to JSON. No I/O."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, Protocol

import msgspec
from kombu.exceptions import KombuError
from kombu.serialization import loads, prepare_accept_content

from celery_observe.errors import SettingsError
from celery_observe.event import MAX_BODY_BYTES, Malformed


class Content(NamedTuple):
    """What a body is: its content type, the encoding of its text, and how it was compressed (None: not)."""

    type: str | None
    encoding: str | None = "utf-8"
    compression: str | None = None


JSON: Final = Content("application/json")


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


# The names under which `kombu/compression.py` registers them. Its brotli and zstandard cannot be bounded.
_DECOMPRESSORS: Final[dict[str, Callable[[], _Decompressor]]] = {
    "application/x-gzip": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lzma.LZMADecompressor,
}


class ContentReader:
    """Turns bodies into JSON, and reports those that are refused or broken.

    JSON is always accepted; other content only if it is in `accept`, as names (`yaml`) or content types.
    Raises SettingsError for a name that kombu does not know.
    """

    def __init__(self, accept: Collection[str], on_malformed: Callable[[Malformed], None]) -> None:
        try:
            self._accept: frozenset[str] = frozenset(prepare_accept_content(accept))
        except KombuError as error:
            raise SettingsError(f"accept_content: {error}. Use names such as json and yaml.") from error
        self._on_malformed = on_malformed

    def to_json(self, body: bytes, content: Content) -> bytes | None:
        """Return `body` as JSON, or None when it was reported as malformed."""
        if content == JSON:
            return body
        result = self._read(body, content)
        if isinstance(result, Malformed):
            self._on_malformed(result)
            return None
        return result

    def _read(self, body: bytes, content: Content) -> bytes | Malformed:
        is_json = content.type == JSON.type
        if not is_json and content.type not in self._accept:
            return Malformed.REFUSED_CONTENT
        plain = decompress(body, content.compression) if content.compression else body
        if is_json or isinstance(plain, Malformed):
            return plain
        try:
            value = loads(plain, content.type, content.encoding, self._accept)
            return msgspec.json.encode(value, enc_hook=str)
        except (KombuError, TypeError, ValueError, RecursionError, LookupError):
            return Malformed.ENVELOPE


def decompress(body: bytes, compression: str, limit: int = MAX_BODY_BYTES) -> bytes | Malformed:
    """Return at most `limit` bytes, or why there are none."""
    decompressor = _DECOMPRESSORS.get(compression)
    if decompressor is None:
        return Malformed.REFUSED_CONTENT
    try:
        plain = decompressor().decompress(body, limit + 1)
    except (zlib.error, lzma.LZMAError, OSError, ValueError):
        return Malformed.ENVELOPE
    return plain if len(plain) <= limit else Malformed.TOO_LARGE
