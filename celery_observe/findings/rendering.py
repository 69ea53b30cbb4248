"""The formats of a report: one function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from celery_observe.findings.document import document
from celery_observe.findings.finding import Report
from celery_observe.findings.sarif import sarif
from celery_observe.findings.text import text

FORMATS: Final[dict[str, Callable[[Report], str]]] = {"text": text, "json": document, "sarif": sarif}


def render(report: Report, form: str) -> str:
    """Return a report in one of the `FORMATS`."""
    return FORMATS[form](report)
