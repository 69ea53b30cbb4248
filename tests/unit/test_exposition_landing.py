"""The page for people."""

from __future__ import annotations

import gzip
import hashlib
import re
from base64 import b64encode

import pytest

from celery_observe import __version__
from celery_observe.exposition.landing import CONTENT_SECURITY_POLICY, PAGE, PAGE_COMPRESSED

TEXT = PAGE.decode()


def test_the_page_shows_version_and_links() -> None:
    """A person sees what runs and where else to go, though the script should fail."""
    assert f"celery-observe {__version__}" in TEXT
    assert {"metrics", "healthz", "readyz", "overview"} <= set(re.findall(r'href="([a-z]+)"', TEXT))
    assert "<noscript>" in TEXT


@pytest.mark.parametrize("element", ["style", "script"])
def test_the_policy_allows_the_style_and_the_script_of_the_page_and_nothing_else(element: str) -> None:
    """The hash in the policy is that of the only one there is."""
    (content,) = re.findall(rf"<{element}>(.*)</{element}>", TEXT, re.DOTALL)
    digest = b64encode(hashlib.sha256(content.encode()).digest()).decode()

    assert f"{element}-src 'sha256-{digest}';" in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_the_page_is_one_document() -> None:
    """It names no other host, and loads no file."""
    loaded = re.findall(r'\b(?:src|href)="((?:https?:)?//[^"]*|[^"]*\.(?:js|css|png|woff2?))"', TEXT)

    assert loaded == []
    assert set(re.findall(r"https?://[\w.]+", TEXT)) == {"http://www.w3.org"}  # the namespace of SVG


def test_nothing_on_the_page_is_made_of_markup() -> None:
    """What a task is called cannot become an element: texts are set as texts."""
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\son\w+=", TEXT)


def test_the_page_is_small() -> None:
    """It is loaded once, over whatever leads to a cluster."""
    assert len(PAGE_COMPRESSED) < 20_000
    assert gzip.decompress(PAGE_COMPRESSED) == PAGE
