"""What is linted, and how: `[tool.celery-observe.lint]` in a `pyproject.toml`, and the flags of the command."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from celery_observe.errors import LintError
from celery_observe.lint.files import matches
from celery_observe.lint.registry import checks

FILE: Final = "pyproject.toml"
SECTION: Final = "[tool.celery-observe.lint]"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """How source is linted. The keys in TOML have `-` for `_`."""

    select: tuple[str, ...] = ()
    """The rules to apply; all if there are none here."""
    ignore: tuple[str, ...] = ()
    """The rules not to apply."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders not to look at."""
    per_file_ignores: dict[str, tuple[str, ...]] = {}
    """By pattern of files, rules not to apply there."""
    fail_on: Literal["critical", "warning", "info", "never"] = "warning"
    """The least severity for which the exit code is not 0."""
    visibility_timeout: float | None = None
    """Seconds, where the source does not say it."""
    task_decorators: tuple[str, ...] = ()
    """Dotted names of decorators of your own that make tasks."""

    def __post_init__(self) -> None:
        """Raise LintError for a rule that there is not."""
        named = {*self.select, *self.ignore, *(name for names in self.per_file_ignores.values() for name in names)}
        unknown = sorted(named - set(checks()))
        if unknown:
            raise LintError(f"There is no rule {unknown[0]!r}. The rules are: {', '.join(checks())}.")

    @property
    def rules(self) -> list[str]:
        """The names of the rules to apply."""
        return [name for name in checks() if name not in self.ignore and (not self.select or name in self.select)]

    def ignored_in(self, path: str) -> set[str]:
        """Return the rules that are not to be applied to a file."""
        matching = (names for pattern, names in self.per_file_ignores.items() if matches(path, pattern))
        return {name for names in matching for name in names}


def load(start: Path, flags: Mapping[str, Any], file: Path | None = None) -> Options:
    """Return the options in effect: flags before the file, which is the `pyproject.toml` at or above `start`.

    Raises LintError for a file that cannot be read, an unknown key or rule, and a value of the wrong type.
    """
    given = {name.replace("_", "-"): value for name, value in flags.items() if value not in {None, ()}}
    found = file or next((each / FILE for each in _upwards(start) if (each / FILE).is_file()), None)
    table = _table(found) if found is not None else {}
    try:
        return msgspec.convert(table | given, Options, strict=True)
    except msgspec.ValidationError as error:
        raise LintError(f"{SECTION} in {found or 'the options'}: {error}.") from None


def _upwards(start: Path) -> Iterable[Path]:
    start = start.absolute()
    return [start, *start.parents]


def _table(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LintError(f"{file} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise LintError(f"{file} is not valid TOML: {error}.") from None
    table = document.get("tool", {}).get("celery-observe", {}).get("lint", {})
    if not isinstance(table, dict):
        raise LintError(f"{SECTION} in {file} is no table.")
    return table
