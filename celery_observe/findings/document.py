"""A report as JSON of our own, for scripts."""

from __future__ import annotations

from typing import Any

import msgspec

from celery_observe.findings.finding import Finding, Report, Severity, shown


def document(report: Report) -> str:
    """Return the report as a JSON object: `findings`, the most severe first, `unchecked`, and `counts`."""
    counts = {str(severity): sum(each.severity == severity for each in report.findings) for severity in Severity}
    told = {
        "tool": report.tool,
        "subject": shown(report.subject),
        "seconds": round(report.seconds, 3),
        "counts": counts,
        "findings": [_finding(each) for each in report.ordered],
        "unchecked": [{"rule": each.rule.name, "reason": shown(each.reason)} for each in report.unchecked],
        "rules": [rule.name for rule in report.rules],
    }
    return msgspec.json.format(msgspec.json.encode(told)).decode()


def _finding(finding: Finding) -> dict[str, Any]:
    told = {
        "rule": finding.rule.name,
        "severity": str(finding.severity),
        "subject": shown(finding.subject),
        "message": shown(finding.message),
        "evidence": shown(finding.evidence),
        "why": finding.rule.reason,
        "fix": shown(finding.fix or finding.rule.fix),
        "alerts": list(finding.rule.alerts),
        "metrics": list(finding.rule.metrics),
    }
    return told | ({"place": msgspec.to_builtins(finding.place)} if finding.place else {})
