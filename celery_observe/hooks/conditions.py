"""Conditions on facts: which facts there are by name, what of them can be asked, and functions that ask it.

A fact's name is that of its class: ``worker_exited`` is a ``WorkerExited``. What is text is asked by glob patterns,
what is a number by ``_over`` and ``_under``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, get_args

import msgspec

from celery_observe import beat, fact
from celery_observe.errors import SettingsError
from celery_observe.fact import Fact
from celery_observe.names import first_match

_LATE: dict[type[Fact], type[Fact]] = {fact.Started: fact.Waited, fact.Ended: fact.Finished}
"""The facts that bring what was not known yet when the first was told."""
_ROOTS = frozenset({Fact, fact.TaskFact, fact.Labelled})
_IDS = frozenset({"uuid", "group", "attempt"})
_UNASKED = frozenset({"trace_id"})
"""What tells one attempt from all others: no rule asks for it, and no alert is told from another by it."""

Test = Callable[[Fact], bool]


def attributes(kind: type[Fact]) -> dict[str, type]:
    """Return what of a fact can be asked: each name with ``str``, an enumeration, or ``float``."""
    kinds = {field.name: _kind(field.type) for field in msgspec.structs.fields(kind) if field.name not in _UNASKED}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _kind(annotation: Any) -> type | None:
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    kind, *others = [each for each in kinds if each is not NoneType]
    if others or not isinstance(kind, type):
        return None
    if kind in {int, float}:
        return float
    return kind if issubclass(kind, str) else None


def _facts() -> Iterator[type[Fact]]:
    for module in (fact, beat):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Fact) and _is_for_rules(kind):
                yield kind


def _is_for_rules(kind: type[Fact]) -> bool:
    """Leave out the roots, what is about single tasks of workflows, and what is about alerts."""
    return kind not in _ROOTS and not _IDS & set(kind.__struct_fields__) and not issubclass(kind, fact.AlertFact)


def _name(kind: type[Fact]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


FACTS: dict[str, type[Fact]] = {_name(kind): kind for kind in _facts()}
"""The facts that can be asked for, by name."""


def keys(kind: type[Fact]) -> list[str]:
    """Return the keys of conditions on a fact."""
    return [key for name, each in attributes(kind).items() for key in _keys(name, each)]


def _keys(name: str, kind: type) -> tuple[str, ...]:
    return (f"{name}_over", f"{name}_under") if kind is float else (name,)


def compiled(kind: type[Fact], conditions: Mapping[str, Any]) -> dict[type[Fact], Test]:
    """Return what tells whether a fact of this kind meets all conditions, and so for what may be told later.

    Raises SettingsError: a condition is none of this fact's, or its value is of the wrong type, or never holds.
    """
    late = _LATE.get(kind)
    asked = {_attribute(key) for key in conditions}
    kinds = [kind, late] if late is not None and _brings(late, asked) else [kind]
    return {each: _all([_test(each, key, value) for key, value in conditions.items()]) for each in kinds}


def _brings(late: type[Fact], asked: set[str]) -> bool:
    """Tell whether a fact tells all that is asked, and the number among it that was not known before."""
    known = attributes(late)
    return asked <= known.keys() and any(known[name] is float for name in asked)


def _attribute(key: str) -> str:
    return key.removesuffix("_over").removesuffix("_under")


def _all(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda found: all(test(found) for test in tests)


def _test(kind: type[Fact], key: str, value: Any) -> Test:
    known = attributes(kind)
    if known.get(key, float) is not float:
        return _matches(key, known[key], value)
    get = attrgetter(_attribute(key))
    limit = _number(key, value)
    if key.endswith("_over"):
        return lambda found: (number := get(found)) is not None and number > limit
    return lambda found: (number := get(found)) is not None and number < limit


def _matches(name: str, kind: type, value: Any) -> Test:
    patterns = _patterns(name, value)
    matching = first_match(dict.fromkeys(patterns, True))
    if issubclass(kind, enum.StrEnum):
        values = [str(each) for each in kind]
        for pattern in patterns:
            if not any(map(first_match({pattern: True}), values)):
                raise SettingsError(f"no {name} is {pattern!r}. Give some of {', '.join(values)}.")
    get = attrgetter(name)
    return lambda found: matching(get(found) or "") is not None


def _patterns(name: str, value: Any) -> list[str]:
    patterns: Iterable[Any] = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    found = [pattern for pattern in patterns if isinstance(pattern, str) and pattern]
    if not found or len(found) < len(list(patterns)):
        raise SettingsError(
            f"{name}: got {value!r:.100}. Give a glob pattern, or a list of some, such as 'payments.*'."
        )
    return found


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - not a number
        raise SettingsError(f"{key}: got {value!r:.100}. Give a number, such as 60.")
    return float(value)
