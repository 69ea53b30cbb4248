"""The rules for names: under which name a task is counted, and which queue it is routed to."""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING, TypeVar

from celery_observe.series import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_REMEMBERED = 10_000
"""Names whose answer is kept."""

T = TypeVar("T")


def first_match(rules: Mapping[str, T]) -> Callable[[str], T | None]:
    """Return a function from a name to the value of the first glob pattern it matches, None if there is none."""
    compiled = [(re.compile(translate(pattern)), value) for pattern, value in rules.items()]
    return remembering(lambda name: next((value for pattern, value in compiled if pattern.match(name)), None))


def label_rules(
    allow: Iterable[str] = (), deny: Iterable[str] = (), rename: Mapping[str, str] | None = None
) -> Callable[[str], str]:
    """Return a function from a task's name to its label: renamed, or ``__other__`` where it is not to be named.

    All three are glob patterns for the name that the task was sent with. An empty ``allow`` allows all.
    """
    allowed = first_match(dict.fromkeys(allow, True) or {"*": True})
    denied = first_match(dict.fromkeys(deny, True))
    renamed = first_match(rename or {})
    return remembering(lambda name: (renamed(name) or name) if allowed(name) and not denied(name) else OTHER)


class _Answers(dict[str, T]):
    """The answers for a bounded number of names, as they are asked for."""

    def __init__(self, answer: Callable[[str], T]) -> None:
        self._answer = answer

    def __missing__(self, name: str) -> T:
        if len(self) >= _REMEMBERED:
            self.clear()
        found = self[name] = self._answer(name)
        return found


def remembering(answer: Callable[[str], T]) -> Callable[[str], T]:
    """Keep the answers for a bounded number of names; a dictionary is several times faster than lru_cache."""
    return _Answers(answer).__getitem__
