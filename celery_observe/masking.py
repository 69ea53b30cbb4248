"""Masks passwords in whatever is about to be shown. Shows too little rather than too much."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from kombu.transport import TRANSPORT_ALIASES

MASK = "***"

_SECRET_KEY = re.compile(
    r"pass|pwd|secret|token|credential|signature|(access|account|api|auth|private|shared)[\w.-]*key",
    re.IGNORECASE,
)
_PATH_KEY = re.compile(r"[_-]?file(name)?$", re.IGNORECASE)
_ALTERNATE = re.compile(rf";(?=(?:{'|'.join(map(re.escape, TRANSPORT_ALIASES))})(?:\+\w+)?://)")
_ADDRESS = re.compile(r"(?:\[[\w:.%]*\]|[^:@\[\]]*)(?::\d{0,5})?")
_ADDRESSES = re.compile(rf"{_ADDRESS.pattern}(?:[,;]{_ADDRESS.pattern})*")
_QUERY_VALUE = re.compile(r"(?P<key>[^=&;?]+)=(?P<value>[^&;]*)")
_URL_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*://\S+?(?=[)\]}>'\",.:;!]*(?:\s|$))")
_SECRET_IN_TEXT = re.compile(
    r"""((?:password|passwd|pwd|secret|token|credentials?|(?:access|api|auth|private)[_-]?key)["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s"',;&}]+)""",
    re.IGNORECASE,
)


@lru_cache(maxsize=1000)
def is_secret(key: str) -> bool:
    """Tell from its name whether a value is a secret; the path of a file that holds one is none."""
    return bool(_SECRET_KEY.search(key)) and not _PATH_KEY.search(key)


def mask_url(url: str) -> str:
    """Return a broker URL, or a `;`-separated list of them, without passwords.

    What cannot be taken apart for certain is masked as a whole. A user name is kept if a password follows.
    """
    return ";".join(_mask_one(alternate) for alternate in _ALTERNATE.split(url))


def mask_destination(value: Any) -> Any:
    """Return where alerts go, in what it nests too, as it may be shown: of URLs the host, as paths are passwords.

    Other texts are masked whole.
    """
    if isinstance(value, Mapping):
        return {key: item if key == "type" else mask_destination(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_destination(item) for item in value]
    if not isinstance(value, str):
        return value
    scheme, separator, rest = value.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    if scheme not in {"http", "https"} or not separator or not _ADDRESS.fullmatch(host):
        return MASK
    return f"{scheme}://{host}" if f"{scheme}://{host}" == value else f"{scheme}://{host}/{MASK}"


def _mask_one(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url if _ADDRESS.fullmatch(url) and re.fullmatch(r"[\w.:-]*", url) else MASK
    before, question, query = rest.partition("?")
    userinfo, at, address = before.rpartition("@")
    authority = re.split(r"[/#]", address, maxsplit=1)[0]
    if "@" in query or not _ADDRESSES.fullmatch(authority):
        return f"{scheme}://{MASK}"
    user, colon, _ = userinfo.partition(":")
    login = f"{user}:{MASK}@" if colon else f"{MASK}@" if at else ""
    return f"{scheme}://{login}{address}{question}{_QUERY_VALUE.sub(_mask_parameter, query)}"


def _mask_parameter(match: re.Match[str]) -> str:
    key = match["key"]
    return f"{key}={MASK}" if is_secret(unquote(key)) else match[0]


def mask_text(text: str) -> str:
    """Return a sentence without the passwords of the URLs and `password=…` pairs in it."""
    if "://" in text:
        text = _URL_IN_TEXT.sub(lambda match: mask_url(match[0]), text)
    return _SECRET_IN_TEXT.sub(rf"\1{MASK}", text) if "=" in text or ":" in text else text


def mask(value: Any, key: str = "") -> Any:
    """Return a setting or log field without secrets, found by key, by text and in what it nests."""
    if isinstance(value, Mapping):
        return {name: mask(item, str(name)) for name, item in value.items()}
    if is_secret(key) and not isinstance(value, bool | None):
        return MASK
    if isinstance(value, list | tuple):
        return [mask(item) for item in value]
    return mask_text(value) if isinstance(value, str) else value
