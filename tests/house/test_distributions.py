"""The sdist and the wheel: what is in them, and that whoever builds them gets the same bytes."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from house.source import ROOT, tracked_files
from services.distributions import build

pytestmark = pytest.mark.xdist_group("distributions")

# Not published: what CI starts.
UNPUBLISHED = (".ci/",)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel, built here."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def metadata(built: tuple[Path, Path]) -> EmailMessage:
    """The metadata of the wheel."""
    with zipfile.ZipFile(built[1]) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(wheel.read(name), policy=policy.default)


def test_another_checkout_gives_the_same_bytes(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Whenever it was made, wherever it is, and whoever may read it."""
    before = os.umask(0o077)
    try:
        for file in tracked_files():
            copy = tmp_path / "elsewhere" / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            copy.chmod(0o700 if os.access(file, os.X_OK) else 0o600)
            os.utime(copy, (1_000_000_000, 1_000_000_000))
        again = build(tmp_path / "elsewhere", tmp_path / "dist")
    finally:
        os.umask(before)

    assert [file.name for file in again] == [file.name for file in built]
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in built]


def test_the_sdist_gives_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    """Who builds from the sdist gets what was published."""
    with tarfile.open(built[0]) as sdist:
        sdist.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()

    again = build(source, tmp_path / "dist")

    assert again[1].read_bytes() == built[1].read_bytes()


def test_the_sdist_is_what_git_tracks(built: tuple[Path, Path]) -> None:
    """The tests, the rules and the documentation too; nothing that lies about."""
    with tarfile.open(built[0]) as sdist:
        inside = {name.partition("/")[2] for name in sdist.getnames()}
    tracked = {file.relative_to(ROOT).as_posix() for file in tracked_files()}

    assert inside - {"PKG-INFO"} == {name for name in tracked if not name.startswith(UNPUBLISHED)}


def test_the_wheel_has_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    """With the mark that it is typed, and the licence."""
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    roots = {name.partition("/")[0] for name in names}

    assert roots == {"celery_observe", next(root for root in roots if root.endswith(".dist-info"))}
    assert "celery_observe/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_metadata_says_what_can_be_installed(metadata: EmailMessage) -> None:
    """The extras, the Pythons, and the licence; and where nothing is, no address."""
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "alerts",
        "all",
        "demo",
        "flower",
        "otel",
        "rabbitmq",
        "redis",
    }
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_content().startswith("# celery-observe")
    assert not metadata.get_all("Project-URL")


def test_the_extra_all_is_all_extras(metadata: EmailMessage) -> None:
    """Whatever another extra installs, it installs too."""
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    of_extras = {
        extra: {each.name for each in required if _only_with(extra, each)}
        for extra in metadata.get_all("Provides-Extra", [])
    }

    assert len(of_extras["all"]) > 3
    assert of_extras.pop("all") == set().union(*of_extras.values())


def _only_with(extra: str, requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
