"""The project's source, read as syntax trees, for the tests that hold its laws."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "celery_observe"


def python_files(*folders: str) -> list[Path]:
    """All modules under these folders of the project."""
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


@cache
def tree(file: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(file.read_text(), filename=str(file))


def nodes(file: Path, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of these kinds in a module."""
    return (node for node in ast.walk(tree(file)) if isinstance(node, kinds))


def name_of(file: Path) -> str:
    """The dotted name of a module: `celery_observe.streams.redis`."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(file: Path) -> set[str]:
    """The dotted names of what a module imports, wherever in it: modules, and names taken from modules."""
    found = {alias.name for node in nodes(file, ast.Import) for alias in getattr(node, "names", ())}
    for node in nodes(file, ast.ImportFrom):
        assert isinstance(node, ast.ImportFrom)
        assert node.module, f"a relative import in {file}"
        found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def names_used(file: Path) -> set[str]:
    """The dotted names that a module uses or imports: `os.environ`, `time.sleep`."""
    return {ast.unparse(node) for node in nodes(file, ast.Attribute)} | imports(file)


def tracked_files() -> list[Path]:
    """All files that git tracks, or would once added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]
