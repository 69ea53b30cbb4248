"""How many slots a queue should have, by what waits and how long tasks take. Pure; see docs/autoscaling.md."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

RECENT = 300.0
"""Seconds over which runtimes are averaged."""


class Load(NamedTuple):
    """What there is to do in one queue, and who does it."""

    waiting: float
    in_flight: float
    """Messages that workers hold; 0 where the broker does not tell."""
    running: float
    """Tasks that execute."""
    slots: float
    """Of the workers that consume it; 0 where that is not known."""
    mean_runtime: float | None
    """Seconds; None before the first attempt has ended."""


class Target(NamedTuple):
    """What the user wants: a backlog gone within `drain` seconds, with at `least` and at `most` so many slots."""

    drain: float
    least: int
    most: int


def desired_slots(load: Load, target: Target) -> int:
    """Return the slots that would finish all there is within the target, never fewer than tasks run."""
    return min(max(_needed(load, target.drain), target.least), target.most)


def _needed(load: Load, drain: float) -> int:
    tasks = load.waiting + load.in_flight
    if not tasks:
        return math.ceil(load.running)
    if load.mean_runtime is None:
        return math.ceil(max(load.slots, load.running, 1))
    return math.ceil(max(tasks * load.mean_runtime / drain, load.running, 1))


class _Total(NamedTuple):
    """All attempts of a queue so far: the sum of their runtimes in seconds, and their number."""

    seconds: float
    number: float


class MeanRuntimes:
    """The mean runtime of each queue's recent attempts, out of totals that only grow."""

    def __init__(self, recent: float = RECENT) -> None:
        self._recent = recent
        self._looks: deque[tuple[float, Mapping[str, tuple[float, float]]]] = deque()
        self._means: dict[str, float] = {}

    def take(self, now: float, totals: Mapping[str, tuple[float, float]]) -> None:
        """Take in the runtimes, their sum and number by queue, as they are at `now`, in seconds that never jump."""
        self._looks.append((now, totals))
        while len(self._looks) > 1 and self._looks[1][0] <= now - self._recent:
            self._looks.popleft()
        before = self._looks[0][1] if now - self._looks[0][0] >= self._recent else {}
        self._means = {queue: self._mean(queue, _Total(*total), before) for queue, total in totals.items() if total[1]}

    def _mean(self, queue: str, total: _Total, before: Mapping[str, tuple[float, float]]) -> float:
        """Return the mean of those that ended lately; if none did, what it was."""
        seconds, count = before.get(queue, (0.0, 0.0))
        if total.number > count:
            return (total.seconds - seconds) / (total.number - count)
        return self._means.get(queue, total.seconds / total.number)

    def of(self, queue: str) -> float | None:
        """Return the mean in seconds; None if no attempt has ended yet."""
        return self._means.get(queue)
