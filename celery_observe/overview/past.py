"""The history that the charts show: a point every few seconds, and so many of them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from celery_observe.fact import Outcome
from celery_observe.metrics import observer, queues, tasks, workers
from celery_observe.overview.model import History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_observe.overview.source import Source

STEP = 4.0
"""Seconds between two points."""
POINTS = 150
"""Ten minutes."""
_SHOWN = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRIED)


class _Counts(NamedTuple):
    """What has been counted up to one moment."""

    published: float
    succeeded: float
    failed: float
    retried: float
    other: float


class _Point(NamedTuple):
    at: float
    rates: tuple[float | None, ...]
    running: float | None
    waiting: float | None
    workers: float | None
    lag: float | None


class Past:
    """Points of the last minutes. What cannot be known, since no stream is connected, is a gap and no zero."""

    def __init__(self, started: float) -> None:
        """Take the start of the process, at which all was 0, by a monotonic clock."""
        self._points: deque[_Point] = deque(maxlen=POINTS)
        self._at = started
        self._counts = _Counts(0.0, 0.0, 0.0, 0.0, 0.0)

    def remember(self, now: float, sources: Sequence[Source]) -> None:
        """Add a point, if one is due."""
        seconds = now - self._at
        if seconds < STEP:
            return
        counts = _counted(sources)
        known = any(source.connected for source in sources)
        rates = (round(max(0.0, new - old) / seconds, 3) for new, old in zip(counts, self._counts, strict=True))
        self._points.append(
            _Point(
                now,
                tuple(rates) if known else (None,) * len(counts),
                running(sources) if known else None,
                waiting(sources),
                _workers(sources),
                lag(sources),
            )
        )
        self._at, self._counts = now, counts

    def told(self, now: float) -> History:
        """Return the points as columns."""
        points = list(self._points)
        columns = [[point.rates[place] for point in points] for place in range(len(_Counts._fields))]
        return History(
            ago=[round(now - point.at, 1) for point in points],
            running=[point.running for point in points],
            waiting=[point.waiting for point in points],
            workers=[point.workers for point in points],
            lag=[point.lag for point in points],
            **dict(zip(_Counts._fields, columns, strict=True)),
        )


def running(sources: Sequence[Source]) -> float | None:
    """Return how many attempts execute now, as far as that is known."""
    told = [source.total(tasks.RUNNING) or 0.0 for source in sources if source.live and source.connected]
    return sum(told) if told else None


def waiting(sources: Sequence[Source]) -> float | None:
    """Return how many messages wait now in all queues that could be read; None if none could."""
    told = [total for source in sources if (total := source.total(queues.WAITING)) is not None]
    return sum(told) if told else None


def lag(sources: Sequence[Source]) -> float | None:
    """Return the age of the newest event when it was read, of the source that lags most; None if none knows."""
    told = [seconds for source in sources if (seconds := source.total(observer.EVENT_LAG)) is not None]
    return round(max(told), 3) if told else None


def _workers(sources: Sequence[Source]) -> float | None:
    told = [up for source in sources if (up := source.total(workers.UP)) is not None]
    return sum(told) if told else None


def _counted(sources: Sequence[Source]) -> _Counts:
    published, shown, other = 0.0, dict.fromkeys(_SHOWN, 0.0), 0.0
    for source in sources:
        published += source.total(tasks.PUBLISHED) or 0.0
        for outcome, count in source.by(tasks.OUTCOMES, "outcome").items():
            if outcome in _SHOWN:
                shown[Outcome(outcome)] += count
            else:
                other += count
    succeeded, failed, retried = shown.values()
    return _Counts(published, succeeded, failed, retried, other)
