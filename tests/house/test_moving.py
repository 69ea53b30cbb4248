"""What docs/moving.md promises is there: metrics, alerts and options."""

from __future__ import annotations

import re
from collections.abc import Iterator

from celery_observe.compat import PEERS
from celery_observe.settings import SETTINGS
from house import promql
from house.rules import alerts
from house.source import ROOT

PAGE = (ROOT / "docs" / "moving.md").read_text().replace(r"\|", "\0")
FLAGS = {setting.flag for setting in SETTINGS.values()}
NAMES = {family.name for peer in PEERS.values() for family in peer.families}


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of all rows of the tables whose first cell begins so."""
    for table in re.findall(rf"^\| {heading}.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE):
        for line in table.splitlines():
            yield [cell.strip().replace("\0", "|") for cell in line.strip("|").split("|")]


def code(cell: str) -> list[str]:
    """What is set as code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def test_each_name_of_theirs_has_one_of_ours() -> None:
    """And what is asked of ours there can be asked: names, labels and values."""
    pairs = [(code(theirs), code(ours)) for theirs, ours in rows("its name")]
    known = promql.catalogue()

    assert {re.sub(r"_bucket$|\{.*", "", names[0]) for names, _ in pairs} == NAMES
    for _, ours in pairs:
        asked = [text for text in ours if "celery_" in text]
        assert asked
        for expression in asked:
            promql.labels_of(expression, known)


def test_each_alert_of_theirs_has_one_of_ours() -> None:
    """By the names that our rules have."""
    ours = {name for _, cell, _ in rows("its alert") for name in code(cell)}

    assert ours
    assert ours <= {alert.name for alert in alerts()}


def test_each_option_of_theirs_has_one_of_ours_or_none_is_needed() -> None:
    """The flags are those of `--help`."""
    for theirs, ours in rows("option"):
        flags = [text.split()[0] for text in code(ours) if text.startswith("--")]
        same = code(theirs) if "the same" in ours else []
        assert {*flags, *same} <= FLAGS, theirs
        assert flags or same or "not needed" in ours or "labels of the target" in ours, theirs
