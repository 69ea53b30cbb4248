"""Samples of one family: a value or a histogram for each label set, and no more of them than may be.

Plain dictionaries, written by one thread and read by the one that renders them. A family holds at most ``max_series``
label sets. Past that, counters and histograms count under ``__other__`` and gauges, of which a sum of strangers means
nothing, are dropped; both are counted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from celery_observe.metrics.family import Family, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

OTHER = "__other__"
"""The label value under which a full family counts."""
_BOUNDED = frozenset(
    {
        *("outcome", "cause", "priority", "kind", "version", "pool", "reason", "plugin", "family", "stage"),
        *("rule", "sink"),
    }
)
"""Labels of few values, which we, Celery or the settings choose: a full family counts under these still."""

Labels = tuple[str, ...]


class Value:
    """The value of one label set of a counter or gauge."""

    __slots__ = ("value",)

    def __init__(self, value: float = 0) -> None:
        self.value = value


class Exemplar(NamedTuple):
    """The last observation in a bucket of which there is a trace, in 32 hexadecimal digits; ``at`` in Unix seconds."""

    trace_id: str
    value: float
    at: float


class Histogram:
    """Observations of one label set: how many fell below or at each bound but above the one before, and their sum."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self.exemplars: list[Exemplar | None] | None = None
        """One of each bucket; None until there is any."""

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_each(self, values: Iterable[float]) -> None:
        """Count many observations: sorted, those of a bucket stand together."""
        ordered = sorted(values)
        bounds, below = self.bounds, 0
        while below < len(ordered):
            place = bisect_left(bounds, ordered[below])
            upto = bisect_right(ordered, bounds[place], below) if place < len(bounds) else len(ordered)
            self.counts[place] += upto - below
            below = upto
        self.total += sum(ordered)

    def exemplify(self, exemplar: Exemplar) -> None:
        """Remember an observation in its bucket."""
        if self.exemplars is None:
            self.exemplars = [None] * len(self.counts)
        self.exemplars[bisect_left(self.bounds, exemplar.value)] = exemplar


class Series:
    """The label sets of one family and their values."""

    def __init__(self, family: Family, max_series: int, buckets_of: Callable[[str], tuple[float, ...] | None]) -> None:
        self.family = family
        self.children: dict[Labels, Value] = {}
        self.histograms: dict[Labels, Histogram] = {}
        self.overflowed = 0
        """Samples that found the family full."""
        self.max_series = max_series
        self._buckets_of = buckets_of
        self._task = family.labels.index("task") if "task" in family.labels else None

    @property
    def values(self) -> dict[Labels, float]:
        """What a counter or gauge says now, by label set."""
        return {labels: child.value for labels, child in self.children.copy().items()}

    def child(self, labels: Labels, times: int = 1) -> Value | None:
        """Return where a label set counts: under ``__other__`` when the family is full, nowhere if it is a gauge.

        ``times`` is how many samples are to be counted there.
        """
        child = self.children.get(labels)
        if child is None and (key := self._admit(labels, self.children, times)) is not None:
            child = self.children.get(key)
            if child is None:
                child = self.children[key] = Value()
        return child

    def histogram(self, labels: Labels, times: int = 1) -> Histogram:
        """Return where a label set is observed, so many times: under ``__other__`` when the family is full."""
        child = self.histograms.get(labels)
        if child is None:
            key = self._admit(labels, self.histograms, times) or labels
            child = self.histograms.get(key)
            if child is None:
                child = self.histograms[key] = Histogram(self._bounds(key))
        return child

    def has_room(self, labels: Labels) -> bool:
        """Say whether a label set is, or would be, observed under its own name."""
        return labels in self.histograms or len(self.histograms) < self.max_series

    def increase(self, labels: Labels, amount: float = 1) -> None:
        """Add to a counter or gauge."""
        child = self.child(labels)
        if child is not None:
            child.value += amount

    def set(self, labels: Labels, value: float) -> None:
        """Set a gauge, or a counter whose total is counted elsewhere."""
        child = self.child(labels)
        if child is not None:
            child.value = value

    def observe(self, labels: Labels, value: float) -> None:
        """Count one observation of a histogram."""
        self.histogram(labels).observe(value)

    def replace(self, samples: Mapping[Labels, float]) -> None:
        """Set the whole family at once, for one that no fact feeds: label sets that are not given are gone."""
        self.overflowed += max(0, len(samples) - self.max_series)
        self.children = {labels: Value(value) for labels, value in islice(samples.items(), self.max_series)}

    def remove(self, label: str, value: str) -> None:
        """Drop every label set in which this label has this value."""
        if label not in self.family.labels:
            return
        if len(self.family.labels) == 1:
            self.children.pop((value,), None)
            self.histograms.pop((value,), None)
            return
        place = self.family.labels.index(label)
        for labels in [labels for labels in self.children if labels[place] == value]:
            del self.children[labels]
        for labels in [labels for labels in self.histograms if labels[place] == value]:
            del self.histograms[labels]

    def _bounds(self, labels: Labels) -> tuple[float, ...]:
        if not self.family.buckets_settable or self._task is None:
            return self.family.buckets
        return self._buckets_of(labels[self._task]) or self.family.buckets

    def _admit(self, labels: Labels, children: Mapping[Labels, object], times: int) -> Labels | None:
        """Return the label set to record a new one under: itself while there is room; None to drop it."""
        if len(children) < self.max_series:
            return labels
        self.overflowed += times
        if self.family.kind is Kind.GAUGE or self.family.cumulative:
            return None
        return tuple(
            value if name in _BOUNDED else OTHER for name, value in zip(self.family.labels, labels, strict=True)
        )
