"""The options and the manners of sinks that are reached over HTTP.

Redirects are refused, since a POST that is redirected arrives as a GET. Proxies are those of the environment, as
everywhere in Python (``urllib.request.getproxies``).
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from email.message import Message
from http.client import HTTPException
from typing import Annotated, Any, ClassVar
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from celery_observe.broker import is_http_url
from celery_observe.errors import SettingsError, SinkError, SinkRefusedError
from celery_observe.masking import mask_destination

_TRY_AGAIN = frozenset({408, 409, 425, 429})
"""Refusals that do not last (RFC 9110, 6585 and 8470)."""
_SERVER_ERROR = 500
_MOST_SHOWN = 200
_LONGEST_WAIT = 300.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Leave the answer as it is: an error."""


class HttpSink(msgspec.Struct, frozen=True, kw_only=True):
    """A sink at a URL."""

    forgets: ClassVar[bool] = False

    url: str
    timeout: Annotated[float, msgspec.Meta(gt=0, le=300)] = 10.0
    """Seconds for each step: to connect, and to wait for some of the answer."""
    headers: dict[str, str] = {}
    bearer_token: str | None = None
    ca_file: str | None = None
    """CA to verify the server with, instead of the system's."""

    def __post_init__(self) -> None:
        """Raise SettingsError for what cannot work."""
        if not is_http_url(self.url):
            raise SettingsError(f"url: {mask_destination(self.url)!r} is not a URL. Give https://HOST/PATH.")
        self._context()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({mask_destination(self.url)!r})"

    def post(self, content: Any, *, path: str = "", headers: dict[str, str] | None = None) -> None:
        """Send JSON, or bytes as they are. Raises SinkError, SinkRefusedError."""
        request = self._request(content if isinstance(content, bytes) else msgspec.json.encode(content), path)
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        handlers = (_NoRedirect(), urllib.request.HTTPSHandler(context=self._context()))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout) as answer:
                answer.read(_MOST_SHOWN)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except urllib.error.URLError as error:
            raise SinkError(f"{mask_destination(self.url)} cannot be reached: {error.reason}.") from None
        except (OSError, HTTPException, ValueError) as error:
            raise SinkError(f"{mask_destination(self.url)} did not answer: {type(error).__name__}.") from None

    def _request(self, body: bytes, path: str) -> urllib.request.Request:
        url, login = _without_login(self.url)
        token = {"Authorization": f"Bearer {self.bearer_token}"} if self.bearer_token else {}
        headers = {"Content-Type": "application/json", "User-Agent": "celery-observe", **login, **token, **self.headers}
        return urllib.request.Request(url.rstrip("/") + path if path else url, body, headers)  # noqa: S310 - see __post_init__

    def _refusal(self, error: urllib.error.HTTPError) -> SinkError:
        said = f"{mask_destination(self.url)} answered {error.code} {error.reason}."
        if error.code in _TRY_AGAIN or error.code >= _SERVER_ERROR:
            return SinkError(said, _retry_after(error.headers))
        return SinkRefusedError(said)

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"ca_file: {self.ca_file!r} cannot be read: {error}.") from None


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without user and password, and the header that says them instead (RFC 7617)."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, {}
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _retry_after(headers: Message) -> float:
    """Return the seconds in ``Retry-After`` (RFC 9110, 10.2.3); 0 if it is a date, or is not there."""
    text = headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT) if text.isascii() and text.isdigit() else 0.0
