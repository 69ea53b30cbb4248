"""The documentation site: whole, and complete without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from house.rules import alerts
from house.source import ROOT

pytestmark = pytest.mark.xdist_group("site")

# Who asks for something from elsewhere is refused.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a project, as `make docs` does. With `--quiet` mkdocs would overhear its own warnings."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    env = {**os.environ, **OFFLINE, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False, timeout=100)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder


class Loaded(HTMLParser):
    """What a page has a browser load, and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is loaded by the tag, and its id."""
        attributes = dict(attrs)
        self.addresses.append(attributes.get(LOADED.get(tag, ""), "") or "")
        self.anchors.add(attributes.get("id", "") or "")


def test_every_page_is_on_the_site(site: Path) -> None:
    """Links and anchors lead somewhere, and the navigation has every page: the build is strict. Each has its HTML."""
    pages = [page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")]

    missing = [page for page in pages if not _html(site, page).is_file()]

    assert pages
    assert not missing


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """No font, script, style or picture: whoever reads is told to nobody."""
    loaded = [address for page in site.rglob("*.html") for address in Loaded(page).addresses if address]

    assert len(loaded) > 100
    assert not [address for address in loaded if "//" in address]


def test_whatever_is_loaded_is_there(site: Path) -> None:
    """Pictures too that pages have as HTML, which the build does not look at."""
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]  # which may be served anywhere
    loaded = {page.parent / re.split(r"[?#]", address)[0] for page in pages for address in Loaded(page).addresses}

    assert not [file for file in loaded if not file.exists()]


def test_alerts_find_their_runbooks_on_the_site(site: Path) -> None:
    """The anchor in an alert's link is the one that its heading has there."""
    pages = {page.stem: Loaded(page).anchors for page in (site / "runbooks").glob("*.html")}

    missing = [alert.name for alert in alerts() if alert.name.lower() not in pages[alert.file.stem]]

    assert not missing


def test_what_is_beside_the_docs_is_on_the_site(site: Path) -> None:
    """Rules and examples that pages link to are there to be read."""
    assert (site / "project" / "alerts" / "rules" / "tasks.yml").read_bytes() == (
        ROOT / "alerts" / "rules" / "tasks.yml"
    ).read_bytes()


def test_a_site_with_a_fault_is_not_built(tmp_path: Path) -> None:
    """A dead link, a dead anchor, a file that is not there, a page that nobody finds: each fails it."""
    for name in ("docs", "scripts", "alerts", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("mkdocs.yml", "CHANGELOG.md", "SECURITY.md"):
        shutil.copy(ROOT / name, tmp_path)
    faults = "# Lost\n\n[a](nowhere.md) [b](queues.md#nowhere) [c](../nowhere.toml)\n"
    (tmp_path / "docs" / "lost.md").write_text(faults)

    built = build(tmp_path, tmp_path / "site")

    assert built.returncode != 0
    for fault in ("lost.md\n", "'nowhere.md'", "an anchor '#nowhere'", "'../nowhere.toml'"):
        assert fault in built.stderr


def _html(site: Path, page: Path) -> Path:
    return site / page.parent / ("index.html" if page.name == "README.md" else f"{page.stem}.html")
