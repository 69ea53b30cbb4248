"""Where alerts go: one file per kind of receiver, which registers itself with `delivers`.

A sink is a frozen struct: its fields are its options in the settings, its ``deliver`` sends one message. It keeps
nothing between two messages and is used by one thread.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec

from celery_observe.errors import SettingsError
from celery_observe.hooks import Message
from celery_observe.masking import MASK


class Sink(Protocol):
    """A receiver of alerts."""

    forgets: ClassVar[bool]
    """Whether alerts end there by themselves unless they are told again."""

    def deliver(self, message: Message) -> None:
        """Send one message. Raises SinkError, and SinkRefusedError if trying again is in vain."""


SinkType = TypeVar("SinkType", bound=type[Any])
_types: dict[str, Callable[..., Sink]] = {}


def delivers(kind: str) -> Callable[[SinkType], SinkType]:
    """Register the decorated struct as the sink of this ``type``."""

    def register(sink: SinkType) -> SinkType:
        _types[kind] = sink
        return sink

    return register


def sink_types() -> dict[str, Any]:
    """Return the struct of each kind of sink."""
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
    return dict(sorted(_types.items()))


def sink_for(name: str, given: Any, origin: str) -> Sink:
    """Return the sink that a table of the settings describes, or a text: the URL of a sink of the type ``name``.

    The value of any option may stand in a file, which ``OPTION_file`` names. Raises SettingsError.
    """
    table = {"url": given} if isinstance(given, str) else given
    if not isinstance(table, Mapping):
        raise SettingsError(f"{origin}, sink {name}: got {MASK}. Give a URL or a table of options.")
    kind = str(table.get("type", name))
    known = sink_types()
    if kind not in known:
        raise SettingsError(f"{origin}, sink {name}: there is no type {kind!r}. Give one of {', '.join(known)}.")
    try:
        return _made(known[kind], {key: value for key, value in table.items() if key != "type"})
    except (SettingsError, msgspec.ValidationError) as error:
        reason = str(error).replace("`", "")
        raise SettingsError(f"{origin}, sink {name}: {reason} See docs/hooks.md.") from None


def _made(sink: Any, table: Mapping[str, Any]) -> Sink:
    options = {field.name for field in msgspec.structs.fields(sink)}
    given = dict(_option(key, value, options) for key, value in table.items())
    try:
        made: Sink = msgspec.convert(given, sink)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{error}.") from None
    return made


def _option(key: str, value: Any, options: set[str]) -> tuple[str, Any]:
    """Return an option and its value, read from a file if that is what is named."""
    stem = key.removesuffix("_file")
    if key not in options and stem != key and stem in options:
        return stem, _contents(key, value)
    if key not in options:
        close = difflib.get_close_matches(key, options, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Give some of {', '.join(sorted(options))}."
        raise SettingsError(f"{key} (got {MASK}) is no option. {hint}")
    return key, value


def _contents(key: str, path: Any) -> str:
    try:
        return Path(str(path)).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(f"{key}: {str(path)!r} cannot be read: {reason}. Create it first.") from None
