"""Which attempts have ended: the last of them, so that an end that is told again is not counted again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

K = TypeVar("K")


class End(msgspec.Struct, gc=False):
    """Which delivery of an attempt's message ended, when, and whether the message went back to the queue."""

    received: float | None
    at: float
    requeued: bool


class Ends(Generic[K]):
    """Ends by attempt: the last ``least`` at the least, and twice as many at the most."""

    def __init__(self, least: int) -> None:
        self._least = least
        # Two dictionaries, of which the older is forgotten as a whole: to delete the first key of one, again and again,
        # has Python look past all that were deleted before it.
        self.recent: dict[K, End] = {}
        self.before: dict[K, End] = {}

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self.recent) + len(self.before)

    def get(self, key: K) -> End | None:
        """Return the last end of an attempt, None if it is not remembered."""
        return self.recent.get(key) or self.before.get(key)

    def knows_any(self, keys: AbstractSet[K]) -> bool:
        """Tell whether the end of one of these attempts is remembered."""
        return not (self.recent.keys().isdisjoint(keys) and self.before.keys().isdisjoint(keys))

    def remember(self, key: K, end: End) -> None:
        """Remember an end, if need be instead of the oldest."""
        self._make_room()
        self.recent[key] = end

    def remember_all(self, ends: Sequence[tuple[K, End]]) -> None:
        """Remember the ends of different attempts, of which none is known."""
        told = 0
        while told < len(ends):
            self._make_room()
            room = self._least - len(self.recent)
            self.recent.update(ends[told : told + room])
            told += room

    def _make_room(self) -> None:
        if len(self.recent) >= self._least:
            self.before, self.recent = self.recent, {}
