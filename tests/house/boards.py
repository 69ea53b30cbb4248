"""The committed dashboards, read for the tests that hold them to the catalogue, to Grafana and to a Prometheus."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from house import promql
from house.rules import series
from house.source import ROOT

BOARDS = sorted((ROOT / "dashboards").glob("*.json"))

EVERYTHING = dict.fromkeys(("cluster", "job", "broker", "queue", "worker", "root", "entry"), ".*")
"""What the variables of several values stand for when all are chosen."""
TIMES = {"__rate_interval": "1m", "__interval": "15s", "__range": "15m"}
"""What Grafana puts in for its own, of a quarter of an hour."""

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::\w+)?\}|([A-Za-z_]\w*))")


class Query(NamedTuple):
    """One query of a panel."""

    board: str
    panel: str
    letter: str
    expression: str
    instant: bool

    def __str__(self) -> str:
        """Identify it in the output of pytest."""
        return f"{self.board}: {self.panel} [{self.letter}]"

    def filled(self, **values: str) -> str:
        """The expression, with values in the place of variables."""
        return filled(self.expression, EVERYTHING | TIMES | values)


@cache
def content(file: Path) -> dict[str, Any]:
    """What a board is made of."""
    return dict(json.loads(file.read_text()))


def panels(file: Path) -> Iterator[dict[str, Any]]:
    """All panels of a board but the headings of rows."""
    for panel in content(file)["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", [])
        else:
            yield panel


@cache
def queries() -> tuple[Query, ...]:
    """All of all boards."""
    return tuple(
        Query(file.stem, panel["title"], target["refId"], target["expr"], target.get("instant", False))
        for file in BOARDS
        for panel in panels(file)
        for target in panel["targets"]
    )


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text with values in the place of variables; a KeyError names one of which there is none."""
    return _VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def asked(expression: str) -> Iterator[str]:
    """The names of variables that a text asks for."""
    return (found[1] or found[2] for found in _VARIABLE.finditer(expression))


@cache
def known() -> dict[str, promql.Labels]:
    """All that a board may ask: what rules may, with the label `cluster` of targets, and what Prometheus tells."""
    ours = {name: labels | {"cluster"} for name, labels in series().items()}
    scraped = dict.fromkeys(
        ("scrape_duration_seconds", "scrape_samples_scraped", "process_resident_memory_bytes", "process_open_fds"),
        promql.TARGET,
    )
    alerts = promql.TARGET | {"alertname", "alertstate", "severity", "task", "queue", "worker", "entry"}
    return ours | scraped | {"ALERTS": alerts}
