"""The circuit breaker of a sink: after failures it is left alone, longer each time, and then tried once."""

from __future__ import annotations

_SHORTEST = 15.0
_LONGEST = 240.0


class Breaker:
    """Closed at first. Seconds are those of a monotonic clock."""

    def __init__(self) -> None:
        self._openings = 0
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the last attempt failed: then one more is all that is made."""
        return self._openings > 0

    def open(self, now: float) -> None:
        """Leave it alone for a while."""
        self._until = now + min(_LONGEST, _SHORTEST * 2**self._openings)
        self._openings = min(self._openings + 1, 10)

    def close(self) -> None:
        """It works."""
        self._openings = 0

    def pause(self, now: float) -> float:
        """Return the seconds to wait until the next attempt."""
        return max(0.0, self._until - now) if self._openings else 0.0
