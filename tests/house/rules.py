"""The shipped rules, their tests and their runbooks, read for the tests that hold them together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import yaml

from house import promql as reading
from house.source import ROOT

ALERTS = ROOT / "alerts"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULE_FILES = sorted((ALERTS / "rules").glob("*.yml"))
TEST_FILES = sorted((ALERTS / "tests").glob("*.yml"))


class Rule(NamedTuple):
    """A recording or alerting rule, and the file that it stands in."""

    file: Path
    content: dict[str, Any]

    @property
    def expression(self) -> str:
        """What it evaluates."""
        return str(self.content["expr"])

    @property
    def name(self) -> str:
        """Of the series or of the alert."""
        return str(self.content.get("record") or self.content["alert"])

    @property
    def severity(self) -> str:
        """Of an alert; empty if it has none."""
        return str(self.content.get("labels", {}).get("severity", ""))

    @property
    def annotations(self) -> dict[str, str]:
        """Of an alert."""
        return dict(self.content.get("annotations", {}))

    def __str__(self) -> str:
        """Identify it in the output of pytest."""
        labels = self.content.get("labels", {})
        return "-".join([self.name, *(labels[name] for name in ("slo", "severity") if name in labels)])


class Check(NamedTuple):
    """One moment of a promtool test at which an alert is, or is not, expected to fire."""

    at: float
    """Seconds."""
    fires: bool


@cache
def rules() -> tuple[Rule, ...]:
    """All rules of all files."""
    documents = [(file, yaml.safe_load(file.read_text())) for file in RULE_FILES]
    return tuple(Rule(file, rule) for file, text in documents for group in text["groups"] for rule in group["rules"])


def records() -> list[Rule]:
    """The recording rules."""
    return [rule for rule in rules() if "record" in rule.content]


def alerts() -> list[Rule]:
    """The alerting rules."""
    return [rule for rule in rules() if "alert" in rule.content]


@cache
def series() -> dict[str, reading.Labels]:
    """All that may be asked: what the catalogue declares and what the rules record, with the labels of each."""
    known = reading.catalogue()
    pending = records()
    while pending:
        unknown = {rule.name for rule in pending}
        ready = [rule for rule in pending if not asked(rule.expression) & unknown] or pending
        for rule in ready:
            labels = reading.labels_of(rule.expression, known) | set(rule.content.get("labels", {}))
            known[rule.name] = known.get(rule.name, frozenset()) | labels
        pending = [rule for rule in pending if rule not in ready]
    return known


def asked(expression: str) -> set[str]:
    """The names of the series that an expression asks for."""
    names: set[str] = set()

    def note(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector) and node.name:
            names.add(node.name)
        if isinstance(node, promql.MatrixSelector):
            note(node.vector_selector)

    promql.walk(promql.parse(expression), pre_visit=note)
    return names


def checks(alert: Rule) -> list[list[Check]]:
    """Each promtool test of an alert: when it is looked at, and what is expected."""
    found = [[_check(case) for case in test["promql_expr_test"] if _is_about(case, alert)] for test in _tests()]
    return [checks for checks in found if checks]


@cache
def _tests() -> list[dict[str, Any]]:
    return [test for file in TEST_FILES for test in yaml.safe_load(file.read_text())["tests"]]


def _is_about(case: dict[str, Any], alert: Rule) -> bool:
    fires = f'ALERTS{{alertname="{alert.name}", alertstate="firing", severity="{alert.severity}"}}'
    return bool(case["expr"] == fires)


def _check(case: dict[str, Any]) -> Check:
    return Check(promql.parse_duration(case["eval_time"]).total_seconds(), bool(case.get("exp_samples")))


class Runbook(NamedTuple):
    """The section of a runbook that tells of one alert."""

    file: Path
    alert: str
    text: str

    @property
    def queries(self) -> list[str]:
        """The PromQL expressions in it."""
        blocks = re.findall(r"```promql\n(.+?)```", self.text, flags=re.DOTALL)
        return [query for block in blocks for query in block.strip().split("\n\n")]

    def part(self, name: str) -> str:
        """The text that follows **Meaning.**, or another such word; empty without it."""
        found = re.search(rf"^\*\*{name}\.\*\*(.+?)(?=^\*\*\w+\.\*\*|\Z)", self.text, flags=re.DOTALL | re.MULTILINE)
        return found[1].strip() if found else ""


def runbooks() -> Iterator[Runbook]:
    """All sections of all runbooks."""
    for file in sorted(RUNBOOKS.glob("*.md")):
        for section in re.split(r"^## ", file.read_text(), flags=re.MULTILINE)[1:]:
            heading, _, text = section.partition("\n")
            yield Runbook(file, heading.strip(), text)
