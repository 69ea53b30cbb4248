"""The documentation page of a rule, from its declaration."""

from __future__ import annotations

from collections.abc import Callable

from celery_observe.findings.finding import Rule


def page(rule: Rule, link: Callable[[str], str] = lambda name: f"`{name}`", more: str = "") -> str:
    """Return the page in Markdown. ``link`` makes one of an alert or a metric; ``more`` stands before them."""
    parts = [
        f"# {rule.name}",
        f"**{rule.title}** Severity: {rule.severity}.",
        rule.why,
        f"**Fix.** {rule.fix[:1].upper()}{rule.fix[1:]}",
        more.strip(),
        _at_run_time(rule, link),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _at_run_time(rule: Rule, link: Callable[[str], str]) -> str:
    alerts = [f"the alert {link(name)}" for name in rule.alerts]
    metrics = [f"the metric {link(name)}" for name in rule.metrics]
    return f"**At run time** it shows as {', '.join([*alerts, *metrics])}." if alerts or metrics else ""
