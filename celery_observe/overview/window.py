"""What was counted within the last minutes: running totals, kept once a minute, less those before the window."""

from __future__ import annotations

from collections import Counter, deque
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from celery_observe.metrics import observer, tasks, workers
from celery_observe.overview.quantile import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from celery_observe.overview.source import Source

WINDOW = 600.0
"""Seconds that tables look back."""
_STEP = 60.0
"""Seconds between two totals that are kept."""

Key = tuple[str, ...]
"""The name of the broker, and values of labels."""


class Runs(NamedTuple):
    """The runtimes of one task: how many fell below each bound, but not below the one before, and their sum."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    seconds: float

    def __sub__(self, earlier: object) -> Runs:
        """Return what came since an earlier moment; bounds do not change while the process runs."""
        if not isinstance(earlier, Runs):
            return NotImplemented
        counts = tuple(now - then for now, then in zip(self.counts, earlier.counts, strict=True))
        return Runs(self.bounds, counts, self.seconds - earlier.seconds)

    @property
    def number(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """Estimate a quantile in seconds."""
        return quantile(q, zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True))


class Totals(NamedTuple):
    """What has been counted up to one moment, by broker and labels."""

    runs: Mapping[Key, Runs] = {}
    outcomes: Mapping[Key, float] = {}
    """By task and outcome."""
    failures: Mapping[Key, float] = {}
    """By task, exception and cause."""
    accepted: Mapping[Key, float] = {}
    """By worker, since that started."""
    unobserved: float = 0.0

    def since(self, earlier: Totals) -> Totals:
        """Return what came since an earlier moment."""
        return Totals(
            {key: now - earlier.runs[key] if key in earlier.runs else now for key, now in self.runs.items()},
            _grown(self.outcomes, earlier.outcomes),
            _grown(self.failures, earlier.failures),
            _grown(self.accepted, earlier.accepted),
            max(0.0, self.unobserved - earlier.unobserved),
        )


def totals(sources: Iterable[Source]) -> Totals:
    """Return what all sources have counted so far."""
    found = Totals({}, {}, {}, {})
    for source in sources:
        found = Totals(
            {**found.runs, **_runs(source)},
            {**found.outcomes, **_named(source, source.sums(tasks.OUTCOMES, "task", "outcome"))},
            {**found.failures, **_named(source, source.sums(tasks.FAILURES, "task", "exception", "cause"))},
            {**found.accepted, **_named(source, source.sums(workers.PROCESSED, "worker"))},
            found.unobserved + (source.total(observer.TASKS_UNOBSERVED) or 0.0),
        )
    return found


class Window:
    """Totals of the last minutes; bounded by the series that there may be, and by ``WINDOW / _STEP``."""

    def __init__(self, started: float) -> None:
        """Take the start of the process, at which all was 0; by a monotonic clock, as all times here."""
        self._kept: deque[tuple[float, Totals]] = deque([(started, Totals())])

    def lately(self, now: float, current: Totals) -> tuple[float, Totals]:
        """Return how many seconds it looks back, and what came in them."""
        if now - self._kept[-1][0] >= _STEP:
            self._kept.append((now, current))
        while len(self._kept) > 1 and now - self._kept[1][0] >= WINDOW:
            self._kept.popleft()
        at, earlier = self._kept[0]
        return now - at, current.since(earlier)


def _grown(now: Mapping[Key, float], then: Mapping[Key, float]) -> dict[Key, float]:
    """Return by how much each has grown; one that fell has begun anew, such as what a worker says that restarted."""
    return {
        key: value - then[key] if value >= then.get(key, 0.0) and key in then else value for key, value in now.items()
    }


def _named(source: Source, values: Counter[Key]) -> dict[Key, float]:
    broker = source.broker
    return {(broker, *key): value for key, value in values.items()}


def _runs(source: Source) -> dict[Key, Runs]:
    series = source.recorder[tasks.RUNTIME]
    place = series.family.labels.index("task")
    found: dict[Key, Runs] = {}
    for labels, histogram in series.histograms.copy().items():
        key = (source.broker, labels[place])
        counts, seconds = histogram.counts.copy(), histogram.total
        known = found.get(key)
        if known is not None:
            counts = [one + other for one, other in zip(known.counts, counts, strict=True)]
            seconds += known.seconds
        found[key] = Runs(histogram.bounds, tuple(counts), seconds)
    return found
