"""Whose turn it is of the questions that workers are asked: one goes out at a time. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ROUND = 6
"""Intervals, within which each question to all workers has had its turn: there are so many places."""


class Rota:
    """Places in a row, each of one question or of several that share its turns. Questions are commands of Celery."""

    def __init__(self, *places: Sequence[str]) -> None:
        self._places = places
        self._asked: dict[str, float] = {}

    def next(self, possible: Collection[str]) -> str:
        """Return the question in the place that waits for longest, of those possible; there, that which does."""
        places = (place for place in self._places if any(command in possible for command in place))
        place = min(places, key=lambda each: max(map(self.asked, each)))
        return min((command for command in place if command in possible), key=self.asked)

    def note(self, command: str, at: float) -> None:
        """Note that a question was asked at a time that never jumps."""
        self._asked[command] = at

    def asked(self, command: str) -> float:
        """Return when a question was asked last; before all times if it was not."""
        return self._asked.get(command, -math.inf)
