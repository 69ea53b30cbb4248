"""Users' own labels: their names are declared up front, their values are bounded.

An attempt of which nobody said a label counts under ``unknown``, and values past the bound of a label under
``__other__``, so that a sum over the labels is that over all attempts.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import msgspec

from celery_observe.cause import UNKNOWN
from celery_observe.fact import Labelled, LabelOverflowed
from celery_observe.metrics import CATALOGUE
from celery_observe.series import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery_observe.fact import Ended, Fact
    from celery_observe.metrics import Family


@cache
def labelled(names: tuple[str, ...]) -> type[Labelled]:
    """Return the kind of fact that has these labels."""
    fields = [(name, str) for name in names]
    return msgspec.defstruct("Labelled", fields, bases=(Labelled,), module=__name__, gc=False)  # type: ignore[return-value]


def catalogue(names: tuple[str, ...]) -> tuple[Family, ...]:
    """Return the catalogue with these labels in the families that are divided by users' labels."""
    return tuple(
        msgspec.structs.replace(family, on=labelled(names), labels=(*family.labels, *names))
        if family.on is Labelled
        else family
        for family in CATALOGUE
    )


class UserLabels:
    """Divides ends of attempts by what is said of them; each label may have ``max_values`` values."""

    def __init__(self, emit: Callable[[Fact], None], names: tuple[str, ...], max_values: int) -> None:
        self._emit = emit
        self._fact = labelled(names)
        self._known: dict[str, set[str]] = {name: set() for name in names}
        self._max_values = max_values

    def divide(self, end: Ended, said: Mapping[str, str] | None) -> None:
        """Tell of an end once more, with the values of all labels; nothing if there are none."""
        if self._known:
            values = [self._admit(name, known, (said or {}).get(name)) for name, known in self._known.items()]
            self._emit(self._fact(end.task, end.queue, end.worker, end.outcome, end.runtime, *values))

    def _admit(self, name: str, known: set[str], value: str | None) -> str:
        if value is None:
            return UNKNOWN
        if value not in known:
            if len(known) >= self._max_values:
                self._emit(LabelOverflowed(name))
                return OTHER
            known.add(value)
        return value
