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


@cache
def claims() -> tuple[Claim, ...]:
    """All of all pages."""
    return tuple(claim for page in PAGES for claim in _claims(page))


def _claims(page: Path) -> Iterator[Claim]:
    found = _SEEN.search(page.read_text())
    parts = _ONE_BROKER.split(found[1]) if found else [""]
    for broker, text in zip([EVERYWHERE, *parts[1::2]], parts[::2], strict=True):
        yield from (Claim(page, broker, expression) for expression in _ROW.findall(text))


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, each with the heading in it, if there is one."""
    return [
        ((page.parent / (path or page.name)).resolve(), heading) for path, heading in _LINK.findall(page.read_text())
    ]
