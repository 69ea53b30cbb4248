"""The words of `doctor` and `lint`: a rule, what it found, and what could not be checked."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from inspect import getdoc
from typing import Any

import msgspec

from celery_observe.masking import mask_text

CLEAN = 0
"""The exit code when nothing was found that counts."""
_LONGEST = 500
"""Characters of a text that is shown; evidence may quote what a stranger named."""
_SHOWN = 3
_FIX = "Fix:"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class Severity(enum.StrEnum):
    """How much it hurts, the worst first."""

    CRITICAL = "critical"
    """Tasks are lost or executed twice, or a stranger can execute code: now, or at the next restart."""
    WARNING = "warning"
    """It hurts under load, at a restart or at the next failure."""
    INFO = "info"
    """Worth knowing; nothing breaks."""

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)

    @property
    def exit_code(self) -> int:
        """4, 3 and 0: 1 and 2 are taken by what went wrong at work, and by wrong options."""
        return {Severity.CRITICAL: 4, Severity.WARNING: 3}.get(self, CLEAN)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for.

    ``title`` is a sentence, ``why`` are paragraphs of Markdown, ``fix`` says what to do in general. ``alerts`` and
    ``metrics`` show the same at run time.
    """

    name: str
    severity: Severity
    title: str
    why: str
    fix: str
    alerts: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The first paragraph of why it matters, on one line."""
        return " ".join(self.why.partition("\n\n")[0].split())


def rule_of(
    name: str,
    severity: Severity,
    documented: Callable[..., Any],
    *,
    alerts: Iterable[str] = (),
    metrics: Iterable[str] = (),
) -> Rule:
    """Return the rule that a docstring describes: a title, why it matters, and a paragraph that begins with `Fix:`.

    Raises ValueError for a docstring that lacks one of them.
    """
    title, *others = re.split(r"\n\s*\n", getdoc(documented) or "")
    fixes = [each.removeprefix(_FIX).strip() for each in others if each.startswith(_FIX)]
    why = "\n\n".join(each for each in others if not each.startswith(_FIX))
    if not title or not why or len(fixes) != 1:
        raise ValueError(f"{name}: its docstring needs a title, why it matters, and one paragraph that begins {_FIX}")
    return Rule(
        name=name,
        severity=severity,
        title=" ".join(title.split()),
        why=why,
        fix=" ".join(fixes[0].split()),
        alerts=tuple(alerts),
        metrics=tuple(metrics),
    )


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where in source: a path with `/`, relative to where the command ran; lines and columns count from 1."""

    path: str
    line: int = 1
    column: int = 1
    end_line: int | None = None
    end_column: int | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong: where, the evidence on one line, and what mends it.

    ``subject`` is what it is about if that is not source: a worker, a queue, the broker; its ``place`` is then where
    that is configured, for readers that show nothing without one. Texts are shown without secrets and without control
    characters, whoever wrote what they quote.
    """

    rule: Rule
    message: str
    evidence: str = ""
    fix: str = ""
    subject: str = ""
    place: Place | None = None
    severity_of_this: Severity | None = None

    @property
    def severity(self) -> Severity:
        """That of the rule, unless this one is less or more."""
        return self.severity_of_this or self.rule.severity


class Unchecked(msgspec.Struct, frozen=True):
    """A rule that could not look, or not everywhere, and why."""

    rule: Rule
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that a tool found. ``subject`` is what it looked at, ``seconds`` how long it took."""

    tool: str
    subject: str
    rules: tuple[Rule, ...]
    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...] = ()
    seconds: float = 0.0

    @property
    def ordered(self) -> list[Finding]:
        """The findings, the most severe first, and in the order of source or subject."""
        return sorted(self.findings, key=_order)


def _order(finding: Finding) -> tuple[Any, ...]:
    place = finding.place or Place("", 0, 0)
    return finding.severity.rank, place.path, place.line, place.column, finding.rule.name, finding.subject


def exit_code(findings: Iterable[Finding], fail_on: Severity | None = Severity.WARNING) -> int:
    """Return the exit code of the worst finding that is at least ``fail_on``; 0 if there is none, or for None.

    Critical is 4, all else 3: with ``fail_on`` info even what is worth knowing only.
    """
    counted = [each.severity for each in findings if fail_on is not None and each.severity.rank <= fail_on.rank]
    worst = min(counted, key=lambda severity: severity.rank, default=None)
    return CLEAN if worst is None else worst.exit_code or Severity.WARNING.exit_code


def listed(names: Iterable[str], shown: int = _SHOWN) -> str:
    """Return names in order, and how many more there are: `a, b, c and 409 more`."""
    ordered = sorted(names)
    more = f" and {len(ordered) - shown} more" if len(ordered) > shown else ""
    return f"{', '.join(ordered[:shown])}{more}"


def shown(text: str) -> str:
    """Return a text as it may be shown, on one line: no secrets, no control characters, not too long."""
    clean = mask_text(_CONTROL.sub(" ", text)).strip()
    return clean if len(clean) <= _LONGEST else f"{clean[: _LONGEST - 1]}…"
