"""The pages about the shop, read for the tests that hold them to what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from house.source import ROOT

PAGES = sorted((ROOT / "docs" / "shop").glob("*.md"))
EVERYWHERE = "everywhere"

_SEEN = re.compile(r"^## What you see\n(.+?)(?=^## |\Z)", flags=re.DOTALL | re.MULTILINE)
_ROW = re.compile(r"^\| `(.+?)` \|", flags=re.MULTILINE)
_ONE_BROKER = re.compile(r"^### On (\w+)\n", flags=re.MULTILINE)
_TRACED = re.compile(r"^## What you see in traces\n(.+?)(?=^## |\Z)", flags=re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"^\| ((?:`[^`]+` )+)\|", flags=re.MULTILINE)
_PANELS = re.compile(r"^Panels: (.+)\.$", flags=re.MULTILINE)
_ON_BOARD = re.compile(r"([^;\]]+)\[(\w+)\]")
_LINK = re.compile(r"\]\(([^)#]+)?(?:#([^)]+))?\)")


class Claim(NamedTuple):
    """A PromQL expression that a page says will be true of the shop."""

    page: Path
    broker: str
    """`Redis`, `RabbitMQ`, or everywhere."""
    expression: str

    def __str__(self) -> str:
        """Identify it in the output of pytest."""
        return f"{self.page.stem}: {self.expression}"


class SpanClaim(NamedTuple):
    """A span that a page says will be made in the shop."""

    page: Path
    span: str
    """Its name."""
    traits: tuple[tuple[str, str], ...]
    """What it has: the name of its `parent`, what a `link` leads to, an `event`, a `status`, or attributes."""

    def __str__(self) -> str:
        """Identify it in the output of pytest."""
        return " ".join([f"{self.page.stem}: {self.span}", *(f"{name}={value}" for name, value in self.traits)])


@cache
def claims() -> tuple[Claim, ...]:
    """All of all pages."""
    return tuple(claim for page in PAGES for claim in _claims(page))


def _claims(page: Path) -> Iterator[Claim]:
    found = _SEEN.search(page.read_text())
    parts = _ONE_BROKER.split(found[1]) if found else [""]
    for broker, text in zip([EVERYWHERE, *parts[1::2]], parts[::2], strict=True):
        yield from (Claim(page, broker, expression) for expression in _ROW.findall(text))


@cache
def span_claims() -> tuple[SpanClaim, ...]:
    """All of all pages."""
    return tuple(claim for page in PAGES for claim in _span_claims(page))


def _span_claims(page: Path) -> Iterator[SpanClaim]:
    found = _TRACED.search(page.read_text())
    for cell in _SPAN.findall(found[1]) if found else ():
        span, *traits = re.findall(r"`([^`]+)`", cell)
        pairs = (trait.partition("=") for trait in traits)
        yield SpanClaim(page, span, tuple((name, value) for name, _, value in pairs))


def panels(page: Path) -> Iterator[tuple[str, str]]:
    """The boards and titles of the panels that a page names."""
    found = _PANELS.search(page.read_text())
    for titles, board in _ON_BOARD.findall(found[1]) if found else ():
        yield from ((board, title) for title in re.findall(r"\*([^*]+)\*", titles))


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, each with the heading in it, if there is one."""
    return [
        ((page.parent / (path or page.name)).resolve(), heading) for path, heading in _LINK.findall(page.read_text())
    ]
