"""The page for people."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

from celery_observe import __version__
from celery_observe.exposition.landing import CONTENT_SECURITY_POLICY, landing_page


def test_the_page_shows_version_links_and_state() -> None:
    """A person sees what runs, where to go, and whether all is well."""
    page = landing_page(ready=True, reasons=())

    assert __version__ in page
    assert re.findall(r'href="([^"]+)"', page) == ["metrics", "healthz", "readyz"]
    assert "Ready." in page


def test_reasons_are_shown_as_text() -> None:
    """What a reason holds cannot become markup."""
    page = landing_page(ready=False, reasons=("stream: <script>alert(1)</script>",))

    assert "Not ready" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def test_the_policy_allows_the_style_of_the_page_and_nothing_else() -> None:
    """The hash in the policy is that of the only style there is."""
    (style,) = re.findall(r"<style>(.*)</style>", landing_page(ready=True, reasons=()), re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert f"style-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")
    assert "unsafe" not in CONTENT_SECURITY_POLICY
