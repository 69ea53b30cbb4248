"""Which traces are kept: a ratio of all, chosen by their ids, and those in which something failed or was slow.

What an attempt says may decide for a whole trace, at its end. So attempts of traces that are not in the ratio are held
until one does, or room is needed.

Pure. Bounded: ``most`` attempts are held, and as many traces remembered that are kept although not in the ratio.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from celery_observe.fact import Outcome, Replayed
from celery_observe.tracing.conventions import trace_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_observe.fact import Traced

_LOWER = (1 << 64) - 1
_WELL = frozenset({Outcome.SUCCEEDED, Outcome.RETRIED, Outcome.IGNORED, Outcome.REPLACED})
"""Outcomes that are no reason to keep a trace; if a task fails after its last retry, that is."""


class Sampling(NamedTuple):
    """``ratio`` is from 0 to 1, ``slow`` seconds: an attempt that ran or waited for so long is slow."""

    ratio: float = 1.0
    slow: float = 10.0

    def has(self, trace: int) -> bool:
        """Say whether a trace is in the ratio, as ``TraceIdRatioBased`` of the OpenTelemetry SDK does."""
        return (trace & _LOWER) < self.ratio * (1 << 64)

    def is_notable(self, outcome: Outcome, seconds: float) -> bool:
        """Say whether an attempt is reason enough to keep its trace."""
        return seconds >= self.slow or outcome not in _WELL

    def trace_of(self, root: str, outcome: Outcome, seconds: float) -> str | None:
        """Return the trace of an attempt in hexadecimal digits, if it is certain to be kept."""
        trace = trace_id_of(root)
        return f"{trace:032x}" if self.has(trace) or self.is_notable(outcome, seconds) else None


class _Held(msgspec.Struct):
    """The attempts of a trace of which nothing was notable yet."""

    changed: float
    attempts: list[Traced] = []


class Sampler:
    """Lets attempts through whose trace is kept, at once or later; ``lose`` is told how many others there were.

    A trace that did not change for ``quiet`` seconds before it was let go of is taken to have ended.
    """

    def __init__(
        self, sampling: Sampling, lose: Callable[[Replayed, int], None], *, most: int = 40_000, quiet: float = 10.0
    ) -> None:
        self._sampling = sampling
        self._lose = lose
        self._most = most
        self._quiet = quiet
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._size = 0
        self._kept: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        """Return how many attempts are held."""
        return self._size

    def take(self, traced: Traced, now: float) -> Sequence[Traced]:
        """Take in an attempt at a time of our monotonic clock, and return those whose spans are wanted with it."""
        trace = trace_id_of(traced.root)
        if self._sampling.has(trace):
            return (traced,)
        if trace in self._kept:
            self._kept.move_to_end(trace)
            return (traced,)
        if self._sampling.is_notable(traced.outcome, seconds_of(traced)):
            return (*self._keep(trace), traced)
        self._hold(trace, traced, now)
        return ()

    def forget(self) -> None:
        """Let go of all that is held: nothing more will come."""
        self._lose(Replayed.SAMPLED_OUT, self._size)
        self._held.clear()
        self._size = 0

    def _keep(self, trace: int) -> list[Traced]:
        """Keep a trace from now on, and return what was held of it."""
        self._kept[trace] = None
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        held = self._held.pop(trace, None)
        if held is None:
            return []
        self._size -= len(held.attempts)
        return held.attempts

    def _hold(self, trace: int, traced: Traced, now: float) -> None:
        held = self._held.setdefault(trace, _Held(now))
        held.attempts.append(traced)
        held.changed = now
        self._held.move_to_end(trace)
        self._size += 1
        while self._size > self._most:
            _, oldest = self._held.popitem(last=False)
            self._size -= len(oldest.attempts)
            over = now - oldest.changed >= self._quiet
            self._lose(Replayed.SAMPLED_OUT if over else Replayed.HELD_FULL, len(oldest.attempts))


def seconds_of(traced: Traced) -> float:
    """Return the longest of an attempt's times that may be slow."""
    return max(traced.runtime or 0.0, traced.queue_wait or 0.0)
