"""`celery-observe trace`: asks a running exporter for the tasks of a workflow, and prints them as a tree.

What it serves names tasks, queues, workers and times; it knows no arguments.
"""

from __future__ import annotations

import base64
import ssl
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from celery_observe.broker import is_http_url
from celery_observe.errors import SettingsError, TraceError
from celery_observe.masking import mask_url
from celery_observe.tree import Tree, draw

if TYPE_CHECKING:
    from celery_observe.settings import Settings

MAX_BYTES = 16 * 1024 * 1024
"""An answer above this many bytes is none of ours."""
_SAYINGS = {
    HTTPStatus.NOT_FOUND: "no such workflow is known there, or no more; a task that is alone is none",
    HTTPStatus.UNAUTHORIZED: "it wants a password or a token: give --basic-auth-file or --bearer-token-file",
}


def lines(root_id: str, url: str | None, settings: Settings, *, ca_file: str | None, timeout: float) -> list[str]:
    """Return the lines of the tree of a workflow. Raises SettingsError, TraceError."""
    tree = ask(root_id, url or f"http://127.0.0.1:{settings.port}", settings, ca_file=ca_file, timeout=timeout)
    return ["".join(each if each.isprintable() else "?" for each in line) for line in draw(tree)]


def ask(root_id: str, url: str, settings: Settings, *, ca_file: str | None, timeout: float) -> Tree:
    """Return what is served at a URL of the workflow with this id. Raises SettingsError, TraceError."""
    if not is_http_url(url):
        raise SettingsError(f"--url: {mask_url(url)!r} is not a URL. Give http://HOST:9808.")
    address = f"{url.rstrip('/')}/workflows/{quote(root_id, safe='')}"
    request = urllib.request.Request(address, headers=_credentials(settings))  # noqa: S310 - is_http_url
    try:
        with _opener(ca_file).open(request, timeout=timeout) as answer:
            return msgspec.json.decode(answer.read(MAX_BYTES), type=Tree)
    except urllib.error.HTTPError as error:
        with error:
            said = _SAYINGS.get(HTTPStatus(error.code), f"it answers {error.code}")
        raise TraceError(f"{mask_url(url)}: {said}.") from None
    except OSError as error:
        raise TraceError(f"{mask_url(url)} does not answer: {getattr(error, 'reason', None) or error}") from None
    except msgspec.DecodeError:
        raise TraceError(f"{mask_url(url)}: no answer of celery-observe.") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Lets nobody send our credentials elsewhere."""

    def redirect_request(self, *_: object) -> None:
        """Refuse."""


def _opener(ca_file: str | None) -> urllib.request.OpenerDirector:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise SettingsError(f"--ca-file {ca_file} cannot be used: {error.strerror or error}.") from None
    handler = urllib.request.HTTPSHandler(context=context)
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), handler, _NoRedirect())


def _credentials(settings: Settings) -> dict[str, str]:
    """Return the header for the first line of the file of tokens, or else of passwords."""
    if settings.bearer_token_file:
        return {"Authorization": f"Bearer {_first(settings.bearer_token_file).decode()}"}
    if settings.basic_auth_file:
        return {"Authorization": f"Basic {base64.b64encode(_first(settings.basic_auth_file)).decode()}"}
    return {}


def _first(file: str) -> bytes:
    """Return the first line that is no comment, as the server reads it."""
    stripped = (line.strip() for line in Path(file).read_bytes().splitlines())
    found = next((line for line in stripped if line and not line.startswith(b"#")), None)
    if found is None:
        raise SettingsError(f"{file} has no line with a password or token.")
    return found
