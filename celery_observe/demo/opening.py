"""Whether the live page is opened for the user, and how."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Mapping

_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def may_open(environment: Mapping[str, str], *, terminal: bool, platform: str = sys.platform) -> bool:
    """Tell whether somebody sits here: at a terminal, with a display, and not in CI or behind SSH."""
    if not terminal or environment.get("CI") or environment.get("SSH_CONNECTION"):
        return False
    return platform == "darwin" or any(environment.get(name) for name in _DISPLAYS)


def open_page(url: str) -> bool:
    """Open a page in the user's browser, which lives on without us; return False if there is none."""
    return webbrowser.open(url)
