"""Fact → samples: applies the catalogue, keeps one child per label set, caps series, forgets workers.

Samples are plain dictionaries, written by one thread and read by the one that renders them. A family holds at most
``max_series`` label sets. Past that, counters and histograms count under ``__other__`` and gauges, of which a sum of
strangers means nothing, are dropped; both are counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, cast

import msgspec

from celery_observe.fact import Fact, WorkerForgotten
from celery_observe.metrics import CATALOGUE, observer
from celery_observe.metrics.family import Family, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OTHER = "__other__"
"""The label value under which a full family counts."""
_UNBOUNDED = frozenset({"task", "queue", "worker", "exception", "type", "entry", "root"})

Labels = tuple[str, ...]
Rule = Callable[[Labels, Fact], None]
"""Records what a fact says under its label set."""


class Histogram:
    """Observations of one label set: how many fell below or at each bound but above the one before, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Series:
    """The label sets of one family and their values."""

    def __init__(self, family: Family, max_series: int, buckets_of: Callable[[str], tuple[float, ...] | None]) -> None:
        self.family = family
        self.values: dict[Labels, float] = {}
        self.histograms: dict[Labels, Histogram] = {}
        self.prepared: set[Labels] = set()
        """What has been started at 0, less the label that tells the zeros apart."""
        self.overflowed = 0
        """Samples that found the family full."""
        self.max_series = max_series
        self._buckets_of = buckets_of
        self._task = family.labels.index("task") if "task" in family.labels else None

    def increase(self, labels: Labels, amount: float = 1) -> None:
        """Add to a counter or gauge."""
        try:
            self.values[labels] += amount
        except KeyError:
            key = self._admit(labels, self.values)
            if key is not None:
                self.values[key] = self.values.get(key, 0) + amount

    def set(self, labels: Labels, value: float) -> None:
        """Set a gauge, or a counter whose total is counted elsewhere."""
        if labels not in self.values and self._admit(labels, self.values) != labels:
            return
        self.values[labels] = value

    def observe(self, labels: Labels, value: float) -> None:
        """Count one observation of a histogram."""
        child = self.histograms.get(labels)
        if child is None:
            key = self._admit(labels, self.histograms) or labels
            child = self.histograms.get(key)
            if child is None:
                child = self.histograms[key] = Histogram(self._bounds(key))
        child.observe(value)

    def replace(self, samples: Mapping[Labels, float]) -> None:
        """Set the whole family at once, for one that no fact feeds: label sets that are not given are gone."""
        self.overflowed += max(0, len(samples) - self.max_series)
        self.values = dict(islice(samples.items(), self.max_series))

    def remove(self, label: str, value: str) -> None:
        """Drop every label set in which this label has this value."""
        if label not in self.family.labels:
            return
        if len(self.family.labels) == 1:
            self.values.pop((value,), None)
            self.histograms.pop((value,), None)
            return
        place = self.family.labels.index(label)
        self.prepared.clear()
        for labels in [labels for labels in self.values if labels[place] == value]:
            del self.values[labels]
        for labels in [labels for labels in self.histograms if labels[place] == value]:
            del self.histograms[labels]

    def _bounds(self, labels: Labels) -> tuple[float, ...]:
        if not self.family.buckets_settable or self._task is None:
            return self.family.buckets
        return self._buckets_of(labels[self._task]) or self.family.buckets

    def _admit(self, labels: Labels, children: Mapping[Labels, object]) -> Labels | None:
        """Return the label set to record a new one under: itself while there is room; None to drop it."""
        if len(children) < self.max_series:
            return labels
        self.overflowed += 1
        if self.family.kind is Kind.GAUGE or self.family.cumulative:
            return None
        return tuple(
            OTHER if name in _UNBOUNDED else value for name, value in zip(self.family.labels, labels, strict=True)
        )


class Recorder:
    """All series of one broker, fed by facts.

    ``const_labels`` stand on every series, such as the name of the broker where there are several. ``runtime_buckets``
    replaces the default bounds, in seconds, of the families whose bounds are settable; ``buckets_of`` maps a task to
    its own.
    """

    def __init__(
        self,
        *,
        catalogue: Iterable[Family] = CATALOGUE,
        max_series: int = 2000,
        worker_label: bool = False,
        runtime_buckets: tuple[float, ...] = (),
        buckets_of: Callable[[str], tuple[float, ...] | None] = lambda _task: None,
        const_labels: Mapping[str, str] | None = None,
    ) -> None:
        self.const_labels = dict(const_labels or {})
        self.series: dict[str, Series] = {}
        self._rules: dict[type[Fact], Callable[[Fact], None]] = {WorkerForgotten: self._forget}
        wanted: dict[type[Fact], dict[tuple[str, ...], list[Rule]]] = {}
        for family in catalogue:
            declared = _with_worker(family) if worker_label else family
            if runtime_buckets and family.buckets_settable:
                declared = msgspec.structs.replace(declared, buckets=runtime_buckets)
            series = self.series[family.name] = Series(declared, max_series, buckets_of)
            if family.on is not None:
                wanted.setdefault(family.on, {}).setdefault(declared.labels, []).append(_rule(series))
            if family.zero_on is not None:
                known = tuple(label for label in declared.labels if label != family.zero_label)
                wanted.setdefault(family.zero_on, {}).setdefault(known, []).append(_zero_rule(series))
        for fact, rules in wanted.items():
            self._rules[fact] = _combined(rules)

    def start_at_zero(self) -> None:
        """Show the counters that have no labels before they first count."""
        for series in self.series.values():
            if series.family.kind is Kind.COUNTER and not series.family.labels:
                series.increase((), 0)

    def __getitem__(self, family: Family) -> Series:
        """Return the series of a declared family."""
        return self.series[family.name]

    def record(self, fact: Fact) -> None:
        """Count a fact in every family that wants it."""
        rule = self._rules.get(type(fact))
        if rule is not None:
            rule(fact)

    def _forget(self, fact: Fact) -> None:
        """Drop every series that carries this worker's name in its ``worker`` label, and no other."""
        if isinstance(fact, WorkerForgotten):
            for series in self.series.values():
                series.remove("worker", fact.worker)

    def count_overflow(self) -> None:
        """Bring ``celery_observe_series_overflow_total`` up to date."""
        overflow = self[observer.SERIES_OVERFLOW]
        for series in self.series.values():
            if series.overflowed:
                overflow.set((series.family.name,), series.overflowed)


def _with_worker(family: Family) -> Family:
    """Add the worker to what is counted per task."""
    if family.on is None or "worker" in family.labels or "task" not in family.labels:
        return family
    if "worker" not in family.on.__struct_fields__:
        return family
    return msgspec.structs.replace(family, labels=(*family.labels, "worker"))


def _combined(rules: dict[tuple[str, ...], list[Rule]]) -> Callable[[Fact], None]:
    """Make one function of the rules for a fact; families with the same labels share the label set."""
    groups = [(_labels_of(names), tuple(group)) for names, group in rules.items()]

    def apply(fact: Fact) -> None:
        for labels, group in groups:
            key = labels(fact)
            for rule in group:
                rule(key, fact)

    if len(groups) > 1 or len(groups[0][1]) > 1:
        return apply
    ((labels, (rule,)),) = groups
    return lambda fact: rule(labels(fact), fact)


def _labels_of(names: tuple[str, ...]) -> Callable[[Fact], Labels]:
    """Return what reads a label set from a fact; ``attrgetter`` of several names gives a tuple."""
    if len(names) > 1:
        return cast("Callable[[Fact], Labels]", attrgetter(*names))
    if not names:
        return lambda _fact: ()
    only = cast("Callable[[Fact], str]", attrgetter(*names))
    return lambda fact: (only(fact),)


def _rule(series: Series) -> Rule:
    """Compile what a declaration says into a function of a label set and a fact."""
    family = series.family
    if family.value is None:
        return _info_rule(series) if family.kind is Kind.GAUGE else _count_rule(series)
    value = attrgetter(family.value)
    if family.kind is Kind.HISTOGRAM:
        return _histogram_rule(series, value)
    return _value_rule(series.increase if family.kind is Kind.COUNTER and not family.cumulative else series.set, value)


def _count_rule(series: Series) -> Rule:
    values, increase = series.values, series.increase

    def count(labels: Labels, _fact: Fact) -> None:
        try:
            values[labels] += 1
        except KeyError:
            increase(labels)

    return count


def _info_rule(series: Series) -> Rule:
    """Set the one label set that a worker has to 1."""
    place = series.family.labels.index("worker")

    def inform(labels: Labels, _fact: Fact) -> None:
        series.remove("worker", labels[place])
        series.set(labels, 1)

    return inform


def _zero_rule(series: Series) -> Rule:
    """Start counters at 0 as soon as their task is known, so that ``rate()`` does not lose the first one.

    Zeros take no room that what happened may need: they are left out as soon as they would fill the family.
    """
    family, values, prepared = series.family, series.values, series.prepared
    place = family.labels.index(family.zero_label)
    room = series.max_series - len(family.zero_values)

    def prepare(labels: Labels, _fact: Fact) -> None:
        if labels in prepared or len(values) > room:
            return
        prepared.add(labels)
        for value in family.zero_values:
            series.increase((*labels[:place], value, *labels[place:]), 0)

    return prepare


def _value_rule(write: Callable[[Labels, float], None], value: Callable[[Fact], float | None]) -> Rule:
    def record(labels: Labels, fact: Fact) -> None:
        amount = value(fact)
        if amount is not None:
            write(labels, amount)

    return record


def _histogram_rule(series: Series, value: Callable[[Fact], float | None]) -> Rule:
    histograms, observe = series.histograms, series.observe

    def record(labels: Labels, fact: Fact) -> None:
        seconds = value(fact)
        if seconds is None:
            return
        child = histograms.get(labels)
        if child is None:
            observe(labels, seconds)
        else:
            child.counts[bisect_left(child.bounds, seconds)] += 1
            child.total += seconds

    return record
