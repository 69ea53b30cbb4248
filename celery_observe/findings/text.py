"""A report for people: the most severe first, why and where to read on once for each rule."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby
from typing import Final

import click

from celery_observe.findings.finding import Finding, Report, Rule, Severity, shown

_WIDTH: Final = 110
_LABEL: Final = 10
"""Characters of `  found    `."""
_COLORS: Final = {Severity.CRITICAL: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


def text(report: Report) -> str:
    """Return the report with colours, which `click.echo` leaves out where there is no terminal."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"celery-observe {report.tool}: {shown(report.subject)}"
    for _, group in groupby(sorted(report.ordered, key=_group), key=_group):
        findings = list(group)
        yield ""
        yield _heading(findings[0].severity, findings[0].rule)
        for finding in findings:
            yield from _finding(finding)
        yield from _why(report.tool, findings)
    if report.unchecked:
        yield ""
        yield click.style("not checked", bold=True)
        for reason, names in _reasons(report).items():
            yield from _wrapped("", f"{', '.join(names)}: {reason}", indent=2)
    yield ""
    yield _summary(report)


def _reasons(report: Report) -> dict[str, list[str]]:
    """Return the names of rules by the reason why they could not look, which is often the same."""
    found: dict[str, list[str]] = {}
    for each in report.unchecked:
        found.setdefault(shown(each.reason), []).append(each.rule.name)
    return found


def _group(finding: Finding) -> tuple[int, str]:
    return finding.severity.rank, finding.rule.name


def _heading(severity: Severity, rule: Rule) -> str:
    return f"{click.style(severity.upper(), fg=_COLORS[severity], bold=True)}  {click.style(rule.name, bold=True)}"


def _finding(finding: Finding) -> Iterator[str]:
    place = finding.place
    where = f"{place.path}:{place.line}:{place.column}: " if place and not finding.subject else ""
    yield from _wrapped("", f"{shown(where)} {shown(finding.message)}".strip(), indent=2)
    if finding.evidence:
        yield from _wrapped("found", shown(finding.evidence))
    if finding.fix:
        yield from _wrapped("fix", shown(finding.fix), color="green")


def _why(tool: str, findings: list[Finding]) -> Iterator[str]:
    rule = findings[0].rule
    yield from _wrapped("why", rule.reason)
    if not all(finding.fix for finding in findings):
        yield from _wrapped("fix", rule.fix, color="green")
    see = [*(f"alert {name}" for name in rule.alerts), *(f"metric {name}" for name in rule.metrics)]
    yield from _wrapped("see", "; ".join([f"docs/{tool}/{rule.name}.md", *see]), dim=True)


def _wrapped(label: str, told: str, *, indent: int = _LABEL, color: str | None = None, dim: bool = False) -> list[str]:
    margin = " " * indent
    lines = textwrap.wrap(told, _WIDTH - indent, break_long_words=False, break_on_hyphens=False) or [""]
    first = f"  {label:<{indent - 2}}" if label else margin
    styled = [click.style(line, fg=color, dim=dim or None) if color or dim else line for line in lines]
    return [f"{first if not number else margin}{line}" for number, line in enumerate(styled)]


def _summary(report: Report) -> str:
    counts = [(severity, sum(each.severity == severity for each in report.findings)) for severity in Severity]
    found = ", ".join(_counted(count, severity) for severity, count in counts if count) or "nothing found"
    loud = {each.rule.name for each in report.findings} | {each.rule.name for each in report.unchecked}
    quiet = {rule.name for rule in report.rules} - loud
    unchecked = f", {len(report.unchecked)} not checked" if report.unchecked else ""
    passed = f"{len(quiet)} of {len(report.rules)} rules passed{unchecked}; {report.seconds:.1f} s"
    return f"{click.style(found, bold=True)}; {passed}"


def _counted(count: int, severity: Severity) -> str:
    """Return `2 warnings`; of the others there is no plural."""
    return f"{count} {severity}{'s' if severity is Severity.WARNING and count > 1 else ''}"
