"""The live page, which a person sees who opens the address in a browser.

One document with its style and its script in it. It loads nothing but what it shows, the answer of ``/overview``, and
the policy that goes with it allows nothing else: neither another script or style, nor another host.
"""

from __future__ import annotations

import gzip
import hashlib
from base64 import b64encode
from importlib.resources import files
from string import Template

from celery_observe import __version__

_FILES = files(__name__.rpartition(".")[0]) / "live"


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


STYLE = _read("page.css")
SCRIPT = _read("page.js")

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_hash(STYLE)}",
        f"script-src {_hash(SCRIPT)}",
        "connect-src 'self'",
        "img-src data:",  # the icon of the tab, which is in the document too
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)

PAGE = Template(_read("page.html")).substitute(version=__version__, style=STYLE, script=SCRIPT).encode()
PAGE_COMPRESSED = gzip.compress(PAGE, mtime=0)
