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
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import msgspec

from celery_observe.fact import Fact, WorkerForgotten
from celery_observe.metrics import CATALOGUE, observer
from celery_observe.metrics.family import Family, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
F = TypeVar("F", bound=Fact)
T = TypeVar("T")


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

    def child(self, labels: Labels) -> Value | None:
        """Return where a label set counts: under ``__other__`` when the family is full, nowhere if it is a gauge."""
        child = self.children.get(labels)
        if child is None and (key := self._admit(labels, self.children)) is not None:
            child = self.children.get(key)
            if child is None:
                child = self.children[key] = Value()
        return child

    def histogram(self, labels: Labels) -> Histogram:
        """Return where a label set is observed: under ``__other__`` when the family is full."""
        child = self.histograms.get(labels)
        if child is None:
            key = self._admit(labels, self.histograms) or labels
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

    def _admit(self, labels: Labels, children: Mapping[Labels, object]) -> Labels | None:
        """Return the label set to record a new one under: itself while there is room; None to drop it."""
        if len(children) < self.max_series:
            return labels
        self.overflowed += 1
        if self.family.kind is Kind.GAUGE or self.family.cumulative:
            return None
        return tuple(
            value if name in _BOUNDED else OTHER for name, value in zip(self.family.labels, labels, strict=True)
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
        self.now = 0.0
        """When what is recorded was read, in Unix seconds; only exemplars have it."""
        self.series: dict[str, Series] = {}
        rules: dict[type[Fact], dict[_View, _Rule]] = {}
        for family in catalogue:
            declared = _with_worker(family) if worker_label else family
            if runtime_buckets and family.buckets_settable:
                declared = msgspec.structs.replace(declared, buckets=runtime_buckets)
            series = self.series[family.name] = Series(declared, max_series, buckets_of)
            view = _View(_readings(declared), declared.where)
            for fact in filter(None, (family.on, family.late, *family.also_on)):
                rules.setdefault(fact, {}).setdefault(view, _Rule(view)).feed(series)
            if family.zero_on is not None:
                view = _View(_readings(declared, but=family.zero_label))
                rules.setdefault(family.zero_on, {}).setdefault(view, _Rule(view)).zero(series)
        self._rules = [rule for of_fact in rules.values() for rule in of_fact.values()]
        self._record = {fact: _compiled(tuple(of_fact.values())) for fact, of_fact in rules.items()}
        self._record[WorkerForgotten] = self._forget

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
        record = self._record.get(type(fact))
        if record is not None:
            record(fact)

    def also(self, kind: type[F], call: Callable[[F], None]) -> None:
        """Have facts of this kind handed to ``call`` too, once they are counted; others cost nothing more."""
        record, other = self._record.get(kind), cast("Callable[[Fact], None]", call)
        self._record[kind] = other if record is None else _in_turn((record, other))

    def exemplify(self) -> None:
        """Have buckets name traces from now on, of the facts that have one; without this they cost nothing."""
        for series in self.series.values():
            if series.family.exemplars and series.family.on is not None:
                self.also(series.family.on, self._exemplifies(series))

    def _exemplifies(self, series: Series) -> Callable[[Any], None]:
        labels, value = _labels_of(_readings(series.family)), _reader(series.family.value or "")

        def exemplify(fact: Any) -> None:
            if fact.trace_id is None:
                return
            seconds, histogram = value(fact), series.histograms.get(labels(fact))
            if seconds is not None and histogram is not None:
                histogram.exemplify(Exemplar(fact.trace_id, seconds, self.now))

        return exemplify

    def record_all(self, facts: list[Fact]) -> None:
        """Count facts in their order, and empty the list."""
        records = self._record
        for fact in facts:
            record = records.get(type(fact))
            if record is not None:
                record(fact)
        facts.clear()

    def _forget(self, fact: Fact) -> None:
        """Drop every series that carries this worker's name in its ``worker`` label, and no other."""
        if isinstance(fact, WorkerForgotten):
            self.drop("worker", fact.worker)

    def drop(self, label: str, value: str) -> None:
        """Drop every series in which this label has this value."""
        for series in self.series.values():
            series.remove(label, value)
        for rule in self._rules:
            rule.bound.clear()

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


_Reading = str | Callable[[Any], str]
"""How a label is read from a fact: the name of an attribute, or a function."""


class _View(NamedTuple):
    """Which facts of a kind are looked at, and what is read from them: families that agree in it share a rule."""

    readings: tuple[_Reading, ...]
    where: Callable[[Any], bool] | None = None


def _readings(family: Family, but: str | None = None) -> tuple[_Reading, ...]:
    read = dict(family.read)
    return tuple(read.get(name, name) for name in family.labels if name != but)


class _Bound:
    """Where the families of a rule count one label set; None where nothing has been observed."""

    __slots__ = ("counter", "histograms")

    def __init__(self, counter: Value | None, histograms: int) -> None:
        self.counter = counter
        self.histograms: list[Histogram | None] = [None] * histograms


class _Rule:
    """How one kind of fact is recorded in the families that have the same labels: the label set is read once."""

    def __init__(self, view: _View) -> None:
        self.bound: dict[Labels, _Bound] = {}
        """By label set, for those that found room; to be cleared when a label set is dropped."""
        self._view = view
        self._zeros: list[Series] = []
        self._counters: list[Series] = []
        self._histograms: list[Series] = []
        self._others: list[Series] = []

    def feed(self, series: Series) -> None:
        """Record the fact in this family."""
        family = series.family
        if family.kind is Kind.HISTOGRAM:
            self._histograms.append(series)
        elif family.kind is Kind.COUNTER and family.value is None:
            self._counters.append(series)
        else:
            self._others.append(series)

    def zero(self, series: Series) -> None:
        """Start the counters of this family at 0 when the fact is seen first, lest ``rate()`` lose the first one."""
        self._zeros.append(series)

    def compiled(self) -> Callable[[Fact], None]:
        """Return the function that records a fact."""
        record, where = self._unconditional(), self._view.where
        if where is None:
            return record
        return lambda fact: record(fact) if where(fact) else None

    def _unconditional(self) -> Callable[[Fact], None]:
        """At most one counter, and histograms: the fast and common case."""
        if self._others or len(self._counters) > 1:
            return self._any_shape()
        labels, bound, bind = _labels_of(self._view.readings), self.bound, self._bind
        if not self._histograms:

            def count(fact: Fact) -> None:
                key = labels(fact)
                child = (bound.get(key) or bind(key)).counter
                if child is not None:
                    child.value += 1

            return count
        observed = tuple(
            (place, _reader(series.family.value or ""), series) for place, series in enumerate(self._histograms)
        )

        def count_and_observe(fact: Fact) -> None:
            key = labels(fact)
            children = bound.get(key) or bind(key)
            if children.counter is not None:
                children.counter.value += 1
            for place, value, series in observed:
                seconds = value(fact)
                if seconds is not None:
                    histogram = children.histograms[place]
                    if histogram is None:
                        histogram = children.histograms[place] = series.histogram(key)
                    histogram.counts[bisect_left(histogram.bounds, seconds)] += 1
                    histogram.total += seconds

        return count_and_observe

    def _bind(self, labels: Labels) -> _Bound:
        """Find where a label set counts, for good if it has room of its own."""
        for series in self._zeros:
            _start_at_zero(series, labels)
        counter = self._counters[0] if self._counters else None
        found = _Bound(counter.child(labels) if counter else None, len(self._histograms))
        counted = all(labels in series.children for series in self._counters)
        if counted and all(series.has_room(labels) for series in self._histograms) and len(self.bound) < self._most():
            self.bound[labels] = found
        return found

    def _most(self) -> int:
        """Return how many label sets are kept: those of zeros alone have no counter that says that it is full."""
        return max(series.max_series for series in (*self._zeros, *self._counters, *self._histograms))

    def _any_shape(self) -> Callable[[Fact], None]:
        labels = _labels_of(self._view.readings)
        steps = [_step(series) for series in (*self._counters, *self._histograms, *self._others)]
        zeros = self._zeros

        def record(fact: Fact) -> None:
            key = labels(fact)
            for series in zeros:
                _start_at_zero(series, key)
            for step in steps:
                step(key, fact)

        return record


def _compiled(rules: tuple[_Rule, ...]) -> Callable[[Fact], None]:
    """Make one function of the rules for a fact."""
    if len(rules) == 1:
        return rules[0].compiled()
    return _in_turn(tuple(rule.compiled() for rule in rules))


def _in_turn(calls: tuple[Callable[[Fact], None], ...]) -> Callable[[Fact], None]:
    def record_all(fact: Fact) -> None:
        for call in calls:
            call(fact)

    return record_all


def _labels_of(readings: tuple[_Reading, ...]) -> Callable[[Fact], Labels]:
    """Return what reads a label set from a fact; ``attrgetter`` of several names gives a tuple."""
    names = [reading for reading in readings if isinstance(reading, str)]
    if len(names) < max(2, len(readings)):
        readers = tuple(map(_reader, readings))
        return lambda fact: tuple([read(fact) for read in readers])
    return cast("Callable[[Fact], Labels]", attrgetter(*names))


def _reader(reading: str | Callable[[Any], T]) -> Callable[[Any], T]:
    return attrgetter(reading) if isinstance(reading, str) else reading


def _step(series: Series) -> Callable[[Labels, Fact], None]:
    """Return what records a fact in one family."""
    family = series.family
    if family.value is None:
        if family.kind is Kind.COUNTER:
            return lambda labels, _fact: series.increase(labels)
        return lambda labels, _fact: _inform(series, labels)
    adds = family.kind is Kind.COUNTER and not family.cumulative
    write: Callable[[Labels, float], None] = series.increase if adds else series.set
    if family.kind is Kind.HISTOGRAM:
        write = series.observe
    value = _reader(family.value)

    def record(labels: Labels, fact: Fact) -> None:
        amount = value(fact)
        if amount is not None:
            write(labels, amount)

    return record


def _inform(series: Series, labels: Labels) -> None:
    """Set the one label set that a worker has to 1."""
    series.remove("worker", labels[series.family.labels.index("worker")])
    series.set(labels, 1)


def _start_at_zero(series: Series, labels: Labels) -> None:
    """Zeros take no room that what happened may need: they are left out as soon as they would fill the family."""
    family = series.family
    if len(series.children) > series.max_series - max(1, len(family.zero_values)):
        return
    if not family.zero_label:
        series.increase(labels, 0)
        return
    place = family.labels.index(family.zero_label)
    for value in family.zero_values:
        series.increase((*labels[:place], value, *labels[place:]), 0)
