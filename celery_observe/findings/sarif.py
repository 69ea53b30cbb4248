"""A report as SARIF 2.1.0, which code scanning and editors read.

<https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>. What could not be checked is a notification of the
invocation: a result of the kind `open` is taken for a finding by many readers.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final
from urllib.parse import quote

import msgspec

from celery_observe import __version__
from celery_observe.findings.finding import Finding, Place, Report, Rule, Severity, Unchecked, shown
from celery_observe.findings.page import page

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_NUMBER: Final = re.compile(r"\d+")
_LEVELS: Final = {Severity.CRITICAL: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def sarif(report: Report) -> str:
    """Return the report as a SARIF log with one run."""
    indexes = {rule.name: index for index, rule in enumerate(report.rules)}
    run = {
        "tool": {
            "driver": {
                "name": f"celery-observe {report.tool}",
                "version": __version__,
                "rules": [_rule(rule) for rule in report.rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [_notification(each, indexes) for each in report.unchecked],
            }
        ],
        "results": [_result(each, indexes) for each in report.ordered],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(log)).decode()


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.reason},
        "help": {"text": f"{rule.reason} Fix: {rule.fix}", "markdown": page(rule)},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"alerts": list(rule.alerts), "metrics": list(rule.metrics)},
    }


def _result(finding: Finding, indexes: dict[str, int]) -> dict[str, Any]:
    fix = shown(finding.fix or finding.rule.fix)
    sentences = [shown(finding.message), shown(finding.evidence), f"Fix: {fix}"]
    subject = shown(finding.subject)
    return {
        "ruleId": finding.rule.name,
        "ruleIndex": indexes[finding.rule.name],
        "level": _LEVELS[finding.severity],
        "message": {"text": " ".join(filter(None, sentences))},
        "locations": [_location(finding.place, subject)] if finding.place or subject else [],
        "partialFingerprints": {"celeryObserve/v1": _fingerprint(finding)},
        "properties": {"evidence": shown(finding.evidence), "fix": fix},
    }


def _location(place: Place | None, subject: str) -> dict[str, Any]:
    logical = {"logicalLocations": [{"fullyQualifiedName": subject}]} if subject else {}
    return logical | ({"physicalLocation": _physical(place)} if place else {})


def _physical(place: Place) -> dict[str, Any]:
    ends = {"endLine": place.end_line, "endColumn": place.end_column}
    region = {"startLine": place.line, "startColumn": place.column}
    return {
        "artifactLocation": {"uri": quote(place.path)},
        "region": region | {name: value for name, value in ends.items() if value is not None},
    }


def _fingerprint(finding: Finding) -> str:
    """Return what is the same of the same finding in the next run: not its line, nor what it counts."""
    path = finding.place.path if finding.place else ""
    told = msgspec.json.encode([finding.rule.name, path, finding.subject, _NUMBER.sub("0", finding.message)])
    return hashlib.sha256(told).hexdigest()[:32]


def _notification(unchecked: Unchecked, indexes: dict[str, int]) -> dict[str, Any]:
    name = unchecked.rule.name
    return {
        "level": "note",
        "message": {"text": f"{name} could not be checked: {shown(unchecked.reason)}"},
        "associatedRule": {"id": name, "index": indexes[name]},
    }
