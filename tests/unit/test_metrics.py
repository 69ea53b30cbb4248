"""The catalogue keeps the conventions of Prometheus and of this project."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from celery_observe.fact import Ended
from celery_observe.metrics import CATALOGUE, Family, Kind, tasks

ROOT = Path(__file__).parents[2]
LABELS = {
    *("task", "queue", "worker", "outcome", "exception", "cause", "priority", "entry", "root"),
    *("state", "label"),  # users choose them; they are capped
    *("rule", "sink"),  # users choose them, in the settings
    *("type", "kind", "version", "pool", "reason", "plugin", "family"),  # each of few values, which we or Celery choose
    *("stage", "command"),  # so are these
}
UNITS = ("_seconds", "_bytes", "_tasks", "_items")

every_family = pytest.mark.parametrize("family", CATALOGUE, ids=lambda family: family.name)


def test_a_name_is_declared_once() -> None:
    """The recorder finds its series by name."""
    assert len({family.name for family in CATALOGUE}) == len(CATALOGUE)


@every_family
def test_a_name_says_whose_it_is(family: Family) -> None:
    """Prefix, subsystem, words."""
    assert re.fullmatch(r"celery_(observe|task|queue|worker|beat|workflow|chord)_[a-z0-9_]+", family.name)


@every_family
def test_counters_and_only_they_end_in_total(family: Family) -> None:
    """A gauge that ends so would be taken for one."""
    assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)


@every_family
def test_a_histogram_has_a_unit_and_ascending_bounds(family: Family) -> None:
    """A base unit, or what is counted, in its name; other kinds have no bounds."""
    if family.kind is Kind.HISTOGRAM:
        assert family.name.endswith(UNITS)
        assert family.buckets == tuple(sorted(set(family.buckets)))
        assert family.value is not None
    assert bool(family.buckets) == (family.kind is Kind.HISTOGRAM)


@every_family
def test_a_help_is_a_sentence(family: Family) -> None:
    """It begins like one and ends like one, and does not repeat the name."""
    assert re.match(r"[A-Z0-9]", family.help)
    assert family.help.endswith(".")
    assert family.name not in family.help


@every_family
def test_labels_are_bounded_by_nature_or_by_the_cap(family: Family) -> None:
    """No id, no host of a client, no argument, no text of an exception, no child's pid."""
    assert set(family.labels) <= LABELS
    assert len(set(family.labels)) == len(family.labels)


@every_family
def test_what_a_declaration_names_is_in_its_fact(family: Family) -> None:
    """Labels and value are attributes of the fact that feeds the family."""
    if family.on is not None:
        assert {*family.labels, *filter(None, [family.value])} <= set(family.on.__struct_fields__)


@every_family
def test_zeros_are_of_a_label_of_the_family(family: Family) -> None:
    """And only counters have them."""
    if family.zero_on is not None:
        assert family.zero_label in family.labels
        assert family.kind is Kind.COUNTER
        assert set(family.labels) - {family.zero_label} <= set(family.zero_on.__struct_fields__)


@every_family
def test_only_what_tells_of_this_moment_is_left_out_while_blind(family: Family) -> None:
    """Counters and histograms tell of the past."""
    if family.live:
        assert family.kind is Kind.GAUGE


@every_family
def test_only_a_counter_takes_the_totals_of_others(family: Family) -> None:
    """A gauge is set anyway."""
    if family.cumulative:
        assert family.kind is Kind.COUNTER


def test_bounds_of_runtimes_reach_hours() -> None:
    """From milliseconds to half a day."""
    assert tasks.RUNTIME.buckets[0] <= 0.01
    assert tasks.RUNTIME.buckets[-1] >= 12 * 3600.0
    assert tasks.RUNTIME.on is Ended


def test_the_documentation_lists_the_catalogue() -> None:
    """docs/metrics.md is written by scripts/document_metrics.py: run it."""
    script = runpy.run_path(str(ROOT / "scripts" / "document_metrics.py"))

    assert (ROOT / "docs" / "metrics.md").read_text() == script["page"]()
