"""docs/security.md says what is so: which paths there are, and who may read them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from celery_observe.settings import SETTINGS
from house.source import PACKAGE, ROOT, nodes
from services.web import Settings, ask, serving

PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = re.findall(r"^\| ((?:`/[^`]*` ?)+)\|.*\| ([^|]+) \|$", PAGE, flags=re.MULTILINE)
OPEN = {path: "everyone" in readers for paths, readers in ROWS for path in re.findall(r"`(/[^`]*)`", paths)}


def test_every_path_that_is_served_is_named() -> None:
    """None is open that the page does not tell of."""
    constants = nodes(PACKAGE / "exposition" / "__init__.py", ast.Constant)
    values = [node.value for node in constants if isinstance(node, ast.Constant)]
    served = {value.replace("([^/]+)", "ID") for value in values if isinstance(value, str) and value.startswith("/")}

    assert len(served) > 4
    assert set(OPEN) == served


@pytest.mark.parametrize("path", OPEN)
def test_who_may_read_a_path_is_as_it_says(path: str, tmp_path: Path) -> None:
    """Without a password all but the probes are refused, and nothing can be changed by anyone."""
    passwords = tmp_path / "passwords"
    passwords.write_text("user:password\n")

    with serving(Settings(basic_auth_file=passwords)) as exposition:
        read, written = ask(exposition, path), ask(exposition, path, method="POST")

    assert (read.status == 401) is not OPEN[path]
    assert written.status == (405 if OPEN[path] else 401)


def test_every_option_that_it_names_is_one() -> None:
    """By the names that settings have."""
    flags = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    known = {setting.flag for setting in SETTINGS.values()} | {"--check", "--config"}  # of `run` alone

    assert len(flags) > 10
    assert {flag.replace("--no-", "--") for flag in flags} <= known
