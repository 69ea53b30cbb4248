"""What the pages about the shop say can be asked, and what they point to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from celery_observe.demo.shop import app, configuration
from house import boards, promql
from house.rules import series
from house.shop import PAGES, Claim, claims, links, panels, span_claims

INDEX = next(page for page in PAGES if page.name == "README.md")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.mark.parametrize("claim", claims(), ids=str)
def test_what_a_page_claims_can_be_asked(claim: Claim) -> None:
    """Families and labels of the catalogue, and the label that the shop adds."""
    known = {name: labels | {"tier"} if "_labelled_" in name else labels for name, labels in series().items()}

    promql.labels_of(claim.expression, known)


@pytest.mark.parametrize("claim", [claim for claim in claims() if "task=" in claim.expression], ids=str)
def test_what_a_page_claims_is_about_a_task_of_the_shop(claim: Claim) -> None:
    """A name that was misspelt would be awaited in vain."""
    app.loader.import_default_modules()

    named = set(re.findall(r'task="([^"]+)"', claim.expression))

    assert named <= {*app.tasks, "legacy.sync"}


@every_page
def test_a_page_points_to_what_is_there(page: Path) -> None:
    """Files, and headings in them."""
    for file, heading in links(page):
        assert file.exists(), file
        assert not heading or heading in _headings(file), f"{heading} in {file}"


@every_page
def test_a_page_names_panels_that_there_are(page: Path) -> None:
    """By board and title."""
    there = {(file.stem, panel["title"]) for file in boards.BOARDS for panel in boards.panels(file)}

    named = {(board.lower(), title) for board, title in panels(page)}

    assert named <= there
    assert named or page == INDEX


@pytest.mark.parametrize("page", [page for page in PAGES if page != INDEX], ids=lambda page: page.stem)
def test_a_page_names_the_alert_that_tells_of_trouble(page: Path) -> None:
    """By a link into its runbook."""
    named = re.search(r"^Alerts?: (.+(?:\n.+)*)", page.read_text(), flags=re.MULTILINE)

    assert named
    assert re.findall(r"\[(\w+)\]\(\.\./runbooks/\w+\.md#(\w+)\)", named[1])
    for name, heading in re.findall(r"\[(\w+)\]\(\.\./runbooks/\w+\.md#(\w+)\)", named[1]):
        assert heading == name.lower()


def _headings(file: Path) -> set[str]:
    lines = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines}


def test_every_pattern_says_what_one_sees_of_it() -> None:
    """And the index leads to it."""
    patterns = {page.resolve() for page in PAGES if page != INDEX}

    assert {claim.page.resolve() for claim in claims()} == patterns
    assert {claim.page.resolve() for claim in span_claims()} == patterns
    assert patterns <= {file for file, _ in links(INDEX)}


def test_every_setting_of_the_shop_has_its_reason() -> None:
    """A comment before it, at its end, or before those that it stands together with."""
    text = Path(configuration.__file__).read_text()
    blocks = [block for block in text.split("\n\n") if re.search(r"^[a-z_]+ = ", block, flags=re.MULTILINE)]

    assert [block for block in blocks if "# " not in block] == []
