"""The Dockerfile, as text; tests/acceptance/test_image.py builds and runs it."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

from house.source import ROOT


def test_hadolint_finds_nothing() -> None:
    """At no level, and without an exception."""
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    ended = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (0, "")
    assert "hadolint ignore" not in (ROOT / "Dockerfile").read_text()
