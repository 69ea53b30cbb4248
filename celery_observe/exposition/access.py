"""Who may read: holders of a password (RFC 7617) or of a bearer token (RFC 6750) that stands in a file."""

from __future__ import annotations

import binascii
import hashlib
import hmac
from base64 import b64decode
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from celery_observe.errors import ExpositionError
from celery_observe.exposition.watched import Watched

BASIC_CHALLENGE = 'Basic realm="celery-observe", charset="UTF-8"'
BEARER_CHALLENGE = 'Bearer realm="celery-observe"'


class Access:
    """Compares an Authorization header with the files, in a time that does not tell how near it came."""

    def __init__(self, basic_auth_file: Path | None, bearer_token_file: Path | None) -> None:
        """Read the files that are given; raise ExpositionError, which names file and line but no secret."""
        kinds = (
            (basic_auth_file, parse_passwords, BASIC_CHALLENGE),
            (bearer_token_file, parse_tokens, BEARER_CHALLENGE),
        )
        asked = [(file, parse, challenge) for file, parse, challenge in kinds if file]
        self.challenges = tuple(challenge for _, _, challenge in asked)
        self._sources = [Watched([file], partial(_read, file, parse)) for file, parse, _ in asked]

    def admits(self, authorization: str) -> bool:
        """Tell whether this Authorization header ("" for none) may read. Without files, everyone may."""
        if not self._sources:
            return True
        offered = offered_digest(authorization)
        known = [digest for source in self._sources for digest in source.get()]
        # Summed, not any(): every digest is compared, whichever one fits.
        return offered is not None and sum(hmac.compare_digest(offered, digest) for digest in known) > 0


def parse_passwords(lines: Iterable[bytes]) -> list[bytes]:
    """Digest lines `user:password`; raise ValueError with the number of a line that is none."""
    digests = []
    for number, line in lines_with_content(lines):
        user, _, password = line.partition(b":")
        if not user or not password:
            message = f"line {number} is not of the form user:password"
            raise ValueError(message)
        digests.append(_digest(b"basic", line))
    return digests


def parse_tokens(lines: Iterable[bytes]) -> list[bytes]:
    """Digest lines of one token each, so that an old and a new one can both hold for a while."""
    return [_digest(b"bearer", line.strip()) for _, line in lines_with_content(lines)]


def lines_with_content(lines: Iterable[bytes]) -> list[tuple[int, bytes]]:
    """Return numbered lines without their ends, less blank lines and comments (#)."""
    numbered = ((number, line.rstrip(b"\r\n")) for number, line in enumerate(lines, start=1))
    return [(number, line) for number, line in numbered if line.strip() and not line.startswith(b"#")]


def offered_digest(authorization: str) -> bytes | None:
    """Digest an Authorization header as its line in the file was; None if malformed or of another kind."""
    scheme, _, credentials = authorization.partition(" ")
    # An HTTP header arrives as latin-1, whatever its bytes meant.
    raw = credentials.strip().encode("latin-1", "replace")
    match scheme.lower():
        case "basic":
            try:
                return _digest(b"basic", b64decode(raw, validate=True))
            except binascii.Error:
                return None
        case "bearer":
            return _digest(b"bearer", raw)
        case _:
            return None


def _digest(scheme: bytes, secret: bytes) -> bytes:
    # Equal lengths, so that comparing does not tell the length of a secret either.
    return hashlib.sha256(scheme + b" " + secret).digest()


def _read(file: Path, parse: Callable[[Iterable[bytes]], list[bytes]]) -> list[bytes]:
    try:
        digests = parse(file.read_bytes().splitlines())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"cannot use {file}: {reason}"
        raise ExpositionError(message) from None
    if not digests:
        message = f"cannot use {file}: it has no line that lets anyone in"
        raise ExpositionError(message)
    return digests
