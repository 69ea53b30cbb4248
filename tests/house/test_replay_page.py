"""docs/tracing-replay.md says what is so."""

from __future__ import annotations

import re

from celery_observe.fact import Replayed
from celery_observe.metrics import CATALOGUE
from celery_observe.settings import SETTINGS
from house.source import ROOT

PAGE = (ROOT / "docs" / "tracing-replay.md").read_text()


def test_every_outcome_is_explained() -> None:
    """Of the spans of an attempt."""
    section = PAGE.partition("| `outcome` | |")[2].partition("\n\n")[0]

    assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == [each.value for each in Replayed]


def test_the_families_it_names_are_in_the_catalogue() -> None:
    """All that begin as ours do."""
    assert set(re.findall(r"`(celery_\w+)", PAGE)) <= {family.name for family in CATALOGUE}


def test_the_settings_it_names_are_there() -> None:
    """And those of replay are all named."""
    flags = set(re.findall(r"--([a-z]+(?:-[a-z]+)+)", PAGE)) - {"enable-feature"}
    known = {name.replace("_", "-") for name in SETTINGS}

    assert flags <= known
    assert {flag for flag in known if flag.startswith("replay-")} <= flags
