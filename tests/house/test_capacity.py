"""docs/capacity.md computes its plan from what was measured."""

from __future__ import annotations

import re
from math import ceil

import pytest

from house.source import ROOT

PAGE = (ROOT / "docs" / "capacity.md").read_text()
RATES = (1_000, 10_000, 100_000, 1_000_000)
BUSY = 0.6
NAMES, SECONDS, SLOTS, TOGETHER, INTERVAL = 20, 0.1, 8, 8, 15.0
ROUNDED = 0.06  # to two digits


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\|(.+)\|$", section, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def numbers(cells: list[str]) -> list[float]:
    """What stands in cells that hold numbers."""
    return [float(cell.replace(",", "")) for cell in cells]


MEASURED = {name.strip("`"): float(value) for name, value, *_ in rows("What one costs")}


def test_what_a_rate_costs_follows_from_what_one_costs() -> None:
    """Each cell."""
    micro = 1e-6
    for row in map(numbers, rows("What a rate costs")):
        rate = row[0]
        events = rate * MEASURED["events_per_task"]
        assert row == pytest.approx(
            [
                rate,
                events,
                events * MEASURED["redis_bytes"] / 1e6,
                events * MEASURED["exporter_redis"] * micro,
                rate * MEASURED["redis_task_events"] * micro,
                rate * MEASURED["redis_task"] * micro,
                events * MEASURED["rabbitmq_event"] * micro,
                rate * MEASURED["in_worker"] * micro,
                rate * MEASURED["replay"] * micro,
            ],
            rel=ROUNDED,
        )
    assert [row[0] for row in map(numbers, rows("What a rate costs"))] == list(RATES)


def exporters(rate: float) -> int:
    """How many read all events of a rate."""
    return ceil(rate * MEASURED["events_per_task"] * MEASURED["exporter_redis"] * 1e-6 / BUSY)


def test_the_plan_follows_from_what_a_rate_costs() -> None:
    """So many brokers carry it, so many exporters follow; and what the text says of one of each, and of shards."""
    plan = [numbers(row) for row in rows("The plan")]
    events, redis = MEASURED["events_per_task"], MEASURED["redis_task_events"]
    own, skip = MEASURED["exporter_redis"], MEASURED["shard_skip"]

    assert plan == [[rate, ceil(rate * redis * 1e-6 / BUSY), exporters(rate)] for rate in RATES]
    assert said(r"one exporter follows .*? = ([\d,]+) tasks") == pytest.approx(BUSY * 1e6 / events / own, rel=ROUNDED)
    assert said(r"carries .*? = ([\d,]+) with events") == pytest.approx(BUSY * 1e6 / redis, rel=ROUNDED)
    assert said(r"and ([\d,]+) without") == pytest.approx(BUSY * 1e6 / MEASURED["redis_task"], rel=ROUNDED)
    four = BUSY * 1e6 / events / (skip + (own - skip) / 4)
    assert said(r"([\d,]+) with four") == pytest.approx(four, rel=ROUNDED)
    assert said(r"no number of shards follows ([\d,]+)") == pytest.approx(BUSY * 1e6 / events / skip, rel=ROUNDED)


def said(pattern: str) -> float:
    """The number that the text has in this place."""
    (found,) = re.findall(pattern, " ".join(PAGE.split()), flags=re.IGNORECASE)
    return float(found.replace(",", ""))


def test_what_prometheus_pays_follows_from_the_pages() -> None:
    """Whoever serves them."""
    for rate, workers, nodes, who, *paid in rows("What Prometheus pays"):
        there = ceil(*numbers([rate])) * SECONDS / SLOTS
        assert numbers([workers, nodes]) == [ceil(there), ceil(there / TOGETHER)]
        pages = {"exporter": 2 * exporters(*numbers([rate])), "worker": ceil(there), "sidecar": ceil(there / TOGETHER)}
        seen = 2 if who == "exporter" else 1  # how often each worker is on a page
        series = pages[who] * (MEASURED["series_own"] + NAMES * MEASURED["series_task"])
        series += seen * ceil(there) * MEASURED["series_worker"]
        samples = series / INTERVAL
        assert numbers(paid) == pytest.approx(
            [
                pages[who],
                series,
                samples,
                series * MEASURED["prometheus_memory"] / 1e6,
                samples * MEASURED["prometheus_sample"] * 1e-6,
            ],
            rel=ROUNDED,
            abs=0.0005,
        )
