"""What `doctor` and `lint` find, how it is shown, and what exit code it amounts to. Pure.

A tool registers its rules, each a function whose docstring says what is wrong, why that matters and what to do; the
docstring is the rule's documentation page too. It makes a `Report` of what they found.
"""

from __future__ import annotations

from celery_observe.findings.finding import (
    CLEAN,
    Finding,
    Place,
    Report,
    Rule,
    Severity,
    Unchecked,
    exit_code,
    listed,
    rule_of,
)
from celery_observe.findings.page import page
from celery_observe.findings.rendering import FORMATS, render

__all__ = [
    "CLEAN",
    "FORMATS",
    "Finding",
    "Place",
    "Report",
    "Rule",
    "Severity",
    "Unchecked",
    "exit_code",
    "listed",
    "page",
    "render",
    "rule_of",
]
