"""Where checks register themselves, and how they are run. A check is a pure function of the evidence."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from celery_observe.doctor.evidence import Evidence
from celery_observe.findings import Finding, Rule, Severity, Unchecked, rule_of


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found: a sentence, the evidence on one line, and the setting that mends it."""

    message: str
    evidence: str
    fix: str
    subject: str = ""
    severity: Severity | None = None
    """Where it is another than the check's."""


class Unknown(msgspec.Struct, frozen=True):
    """Why a check could not look, or not everywhere."""

    reason: str


Verdicts = Iterator[Found | Unknown]
Check = Callable[[Evidence], Verdicts]


class Registered(NamedTuple):
    """A check, its rule, and the transports of brokers for which it makes sense; none stands for all."""

    rule: Rule
    check: Check
    transports: frozenset[str]


_registered: dict[str, Registered] = {}


def checks(
    name: str,
    severity: Severity,
    *,
    alerts: tuple[str, ...] = (),
    metrics: tuple[str, ...] = (),
    transports: frozenset[str] = frozenset(),
) -> Callable[[Check], Check]:
    """Register the decorated check. Its docstring is its page: a title, why it matters, a paragraph `Fix: …`."""

    def register(check: Check) -> Check:
        rule = rule_of(name, severity, check, alerts=alerts, metrics=metrics)
        _registered[name] = Registered(rule, check, transports)
        return check

    return register


def registered() -> list[Registered]:
    """Return all checks, by name."""
    package = importlib.import_module("celery_observe.doctor.checks")
    for module in pkgutil.iter_modules(package.__path__, prefix=f"{package.__name__}."):
        importlib.import_module(module.name)
    return [_registered[name] for name in sorted(_registered)]


class Diagnosis(NamedTuple):
    """What the checks say."""

    rules: tuple[Rule, ...]
    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]


def diagnose(evidence: Evidence) -> Diagnosis:
    """Run all checks that make sense for this broker."""
    fitting = [each for each in registered() if not each.transports or evidence.broker.transport in each.transports]
    findings: list[Finding] = []
    unchecked: list[Unchecked] = []
    for rule, check, _ in fitting:
        for verdict in check(evidence):
            if isinstance(verdict, Unknown):
                unchecked.append(Unchecked(rule, verdict.reason))
            else:
                findings.append(_finding(rule, verdict, evidence))
    return Diagnosis(tuple(rule for rule, *_ in fitting), tuple(findings), tuple(unchecked))


def _finding(rule: Rule, found: Found, evidence: Evidence) -> Finding:
    return Finding(
        rule=rule,
        message=found.message,
        evidence=found.evidence,
        fix=found.fix,
        subject=found.subject or evidence.broker.url,
        severity_of_this=found.severity,
    )
