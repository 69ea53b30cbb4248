"""Which format and coding a client gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_observe.exposition.negotiation import OPENMETRICS, TEXT, accepts_gzip, content_type

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_TEXT = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        (PROMETHEUS_3_TEXT, TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ('Application/OpenMetrics-Text; Version="1.0.0"', OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", TEXT),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=0.1,text/plain;q=0.9", TEXT),
        ("text/plain;q=0.1,application/openmetrics-text;q=0.9", OPENMETRICS),
        ("text/plain,application/openmetrics-text", TEXT),
        ("image/png", TEXT),
        ("application/openmetrics-text;q=high", TEXT),
    ],
)
def test_the_preferred_format_that_we_have_is_chosen(accept: str, expected: str) -> None:
    """Quality decides, then order; text when nothing fits."""
    assert content_type(accept) == expected


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("GZIP;q=0.5, deflate", True),
        ("br, x-gzip", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0, identity", False),
    ],
)
def test_gzip_is_used_only_if_accepted(accept_encoding: str, expected: bool) -> None:
    """A quality of zero is a refusal."""
    assert accepts_gzip(accept_encoding) is expected


@given(st.text())
def test_any_header_gets_an_answer(header: str) -> None:
    """Nonsense means text, uncompressed or not, never an error."""
    assert content_type(header) in {TEXT, OPENMETRICS}
    assert accepts_gzip(header) in {True, False}
