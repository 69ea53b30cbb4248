"""Which files are linted: the only part that reads the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, NamedTuple

LARGEST: Final = 5_000_000
"""Bytes. What is larger was not written by hand."""
_NEVER: Final = frozenset({"__pycache__", "node_modules"})
"""Folders that are not looked into, beside those whose name begins with a dot, and virtual environments."""


class Source(NamedTuple):
    """A file, and what is in it."""

    path: str
    """Relative to where the command runs, if it is below that; with `/`."""
    module: str
    """Its dotted name."""
    content: bytes = b""
    problem: str = ""
    """Why it could not be read."""


def sources(paths: Iterable[Path], exclude: Sequence[str] = ()) -> Iterator[Source]:
    """Yield the Python files at or below these paths, each once, but for those that match a pattern.

    Links to folders are not followed. A path that is named itself is read whatever it is called.
    """
    seen = set()
    for path in paths:
        for file in [path] if path.is_file() else _below(path, exclude):
            if file not in seen:
                seen.add(file)
                yield _read(file)


def _below(folder: Path, exclude: Sequence[str]) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(name for name in folders if _is_looked_into(here / name, exclude))
        for name in sorted(files):
            file = here / name
            if name.endswith(".py") and not _is_excluded(file, exclude) and file.is_file():
                yield file


def _is_looked_into(folder: Path, exclude: Sequence[str]) -> bool:
    if folder.name in _NEVER or folder.name.startswith(".") or _is_excluded(folder, exclude):
        return False
    return not (folder / "pyvenv.cfg").exists()


def _is_excluded(path: Path, patterns: Sequence[str]) -> bool:
    return any(matches(path.as_posix(), pattern) for pattern in patterns)


def matches(path: str, pattern: str) -> bool:
    """Tell whether a pattern such as `migrations` or `shop/*.py` matches a path or the end of it."""
    return fnmatch(path, pattern) or fnmatch(path, f"*/{pattern}")


def _read(path: Path) -> Source:
    source = Source(_shown(path), module_name(path))
    try:
        if path.stat().st_size > LARGEST:
            return source._replace(problem=f"larger than {LARGEST} bytes")
        return source._replace(content=path.read_bytes())
    except OSError as error:
        return source._replace(problem=error.strerror or "cannot be read")


def _shown(path: Path) -> str:
    here, path = Path.cwd(), path.absolute()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def module_name(path: Path) -> str:
    """Return the dotted name of a file, by the packages that it is in: the folders with an `__init__.py`."""
    path = path.absolute()
    parts = [] if path.name == "__init__.py" else [path.stem]
    for folder in path.parents:
        if not (folder / "__init__.py").is_file():
            break
        parts.insert(0, folder.name)
    return ".".join(parts) or path.parent.name
