"""What mkdocs does not do by itself for the documentation site.

- An entry of the navigation that ends with `/` is every page of that folder.
- What stands beside `docs/` and is linked to from a page, or named in the navigation as `project/…`, is put on the
  site as it is; a link to a folder becomes its text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from posixpath import relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BESIDE = "project/"
LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<path>[^()#\s:]+)(?P<anchor>#[^()\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Unfold the folders of the navigation."""
    config.nav = [_unfolded(entry) for entry in config.nav or ()]
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what pages link to and what the navigation names, and what those pages link to."""
    waiting = list(_named(config.nav or ()))
    waiting += [uri for file in files.documentation_pages() for uri in _linked(file.src_uri)]
    while waiting:
        uri = waiting.pop()
        if uri.startswith(BESIDE) and files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(_path(uri)), inclusion=InclusionLevel.NOT_IN_NAV))
            waiting += _linked(uri)
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Lead links to where their targets are on the site."""
    here = page.file.src_uri

    def led(link: re.Match[str]) -> str:
        target = _path(here).parent / link["path"]
        if target.is_dir() and not (target / "README.md").is_file():
            return link["text"]
        uri = _uri(target / "README.md" if target.is_dir() else target)
        if uri is None:
            return link[0]  # dead, and the build will say so
        return f"[{link['text']}]({relpath(uri, str(Path(here).parent))}{link['anchor'] or ''})"

    return LINK.sub(led, markdown)


def _unfolded(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {title: _unfolded(inner) for title, inner in entry.items()}
    if isinstance(entry, list):
        return [each for inner in entry for each in _folder(inner)]
    return _folder(entry) if entry.endswith("/") else entry


def _folder(entry: Any) -> list[Any]:
    """What an entry of a list stands for: the pages of a folder, its README.md first, or itself."""
    if not isinstance(entry, str) or not entry.endswith("/"):
        return [_unfolded(entry)]
    pages = sorted((DOCS / entry).rglob("*.md"), key=lambda page: (page.parent, page.name != "README.md", page.name))
    return [page.relative_to(DOCS).as_posix() for page in pages]


def _named(nav: Iterable[Any]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            yield from _named(entry.values() if isinstance(entry, dict) else entry)


def _linked(uri: str) -> list[str]:
    if not uri.endswith(".md"):
        return []
    targets = [_path(uri).parent / link["path"] for link in LINK.finditer(_path(uri).read_text())]
    return [found for target in targets if target.is_file() and (found := _uri(target))]


def _path(uri: str) -> Path:
    """Where the source of something on the site is."""
    return ROOT / uri.removeprefix(BESIDE) if uri.startswith(BESIDE) else DOCS / uri


def _uri(target: Path) -> str | None:
    """Where on the site a file is; none if there is no such file in the project."""
    target = target.resolve()
    if not target.is_file() or not target.is_relative_to(ROOT):
        return None
    if target.is_relative_to(DOCS):
        return target.relative_to(DOCS).as_posix()
    return BESIDE + target.relative_to(ROOT).as_posix()
