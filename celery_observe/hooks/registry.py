"""``@on_fact``: hooks in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from celery_observe.settings import Settings


Call = Callable[[Any], str | None]
C = TypeVar("C", bound=Callable[[Any], str | None])


class Hook(NamedTuple):
    """A function, and what it was decorated with."""

    table: dict[str, Any]
    call: Call


registered: dict[str, Hook] = {}
"""By module and name, so that a module that is imported again replaces its own."""


def wanted(settings: Settings) -> bool:
    """Tell whether anything may have to be told."""
    return bool(settings.alert_rule or settings.alert_hooks or registered)


def detail_level(settings: Settings) -> str:
    """Return how much is told of a failure: what the settings say, or what is wanted if there is anybody to tell."""
    if settings.alert_detail != "auto":
        return settings.alert_detail
    return "traceback" if wanted(settings) else "none"


def on_fact(on: str, **keys: Any) -> Callable[[C], C]:
    """Have the decorated function called with each fact that meets these conditions.

    ``on`` and ``keys`` are those of a rule, see ``docs/hooks.md``. The function is called in a thread of its own, one
    fact after the other. It may do what it likes; if it returns a text, that is the summary of an alert, which goes the
    way of all alerts. What is wrong with the keys is told when the pipeline starts, not here: this never raises.
    """

    def register(call: C) -> C:
        table = {"on": on, "name": getattr(call, "__name__", "hook").replace("<lambda>", "hook"), **keys}
        registered[f"{call.__module__}.{getattr(call, '__qualname__', repr(call))}"] = Hook(table, call)
        return call

    return register
