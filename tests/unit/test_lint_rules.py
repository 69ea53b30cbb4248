"""Every rule finds what its bad samples mark, and no rule finds anything else."""

from __future__ import annotations

import ast

import pytest

from celery_observe.lint import Check, checks
from celery_observe.lint.linter import UNREADABLE
from celery_observe.metrics import CATALOGUE
from house.rules import alerts
from unit.lint_sources import found

CHECKS = [check for name, check in checks().items() if name != UNREADABLE]

every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.rule.name)


@every_check
def test_a_rule_finds_what_its_bad_samples_mark(check: Check) -> None:
    """Each marked line, no other line, and no other rule."""
    assert check.bad
    for sample in check.bad:
        marked = [number for number, line in enumerate(sample.split("\n"), start=1) if line.endswith("# bad")]

        assert marked
        assert sorted(found({"sample.py": sample})) == sorted(f"sample.py:{line} {check.rule.name}" for line in marked)


@every_check
def test_no_rule_finds_anything_in_good_samples(check: Check) -> None:
    """They look much like the bad ones."""
    assert check.good
    for sample in check.good:
        ast.parse(sample)

        assert found({"sample.py": sample}) == []


@pytest.mark.parametrize("check", checks().values(), ids=lambda check: check.rule.name)
def test_a_rule_names_alerts_and_metrics_that_there_are(check: Check) -> None:
    """What shows the same at run time; only a file that cannot be read shows nowhere."""
    rule = check.rule

    assert set(rule.alerts) <= {alert.name for alert in alerts()}
    assert set(rule.metrics) <= {family.name for family in CATALOGUE}
    assert bool(rule.metrics) == (rule.name != UNREADABLE)
