"""docs/hooks.md says what is so."""

from __future__ import annotations

import re
import tomllib

import msgspec

from celery_observe.delivery import plan
from celery_observe.fact import Departure, Exit
from celery_observe.hooks.conditions import FACTS, keys
from celery_observe.hooks.rule import KEYS
from celery_observe.metrics import alerts
from celery_observe.settings import load
from celery_observe.sinks import sink_types
from house.source import ROOT

PAGE = (ROOT / "docs" / "hooks.md").read_text()


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a heading, less its head."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in found[2:]]


def test_the_example_can_be_run() -> None:
    """Its rules and sinks are valid."""
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    given = tomllib.loads(example)
    given["alert_sink"]["slack"] = {"url": "https://hooks.slack.com/x"}

    found = plan(load(given, {}, instrumented=True))

    assert [rule.name for rule in found.rules] == ["charge-failed", "worker-lost", "slow-report"]


def test_the_conditions_are_those_of_the_facts() -> None:
    """Each key, and each value of an enumeration."""
    for _when, on, conditions in rows("Conditions"):
        fact = on.strip("`")
        named = re.findall(r"`(\w+)(?: = [^`]+)?`", conditions)
        assert set(named) - {*Exit, *Departure} <= set(keys(FACTS[fact])), fact


def test_all_keys_of_a_rule_are_there() -> None:
    """But `on`, of which the page speaks before."""
    assert {row[0].strip("`") for row in rows("What else a rule says")} == set(KEYS) - {"on"}


def test_all_sinks_are_there() -> None:
    """Each with those options that it does not share."""
    table = {row[0].strip("`"): row[1] for row in rows("Sinks")}

    assert set(table) == set(sink_types())
    for kind, sink in sink_types().items():
        own = {field.name for field in msgspec.structs.fields(sink)} - {"timeout", "headers", "bearer_token", "ca_file"}
        assert all(f"`{name}`" in table[kind] for name in own), kind


def test_the_families_it_names_are_in_the_catalogue() -> None:
    """Those that tell what goes wrong."""
    known = {family.name for family in vars(alerts).values() if hasattr(family, "help")}

    assert set(re.findall(r"celery_observe_alerts_\w+[a-z]", PAGE)) <= known
