"""Fact → samples: applies the catalogue, counts each fact in all families that want it, forgets workers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import msgspec

from celery_observe.fact import Fact, WorkerForgotten, alike
from celery_observe.metrics import CATALOGUE, observer
from celery_observe.metrics.family import Family, Kind
from celery_observe.series import Exemplar, Histogram, Labels, Series, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from celery_observe.fact import Each

F = TypeVar("F", bound=Fact)
T = TypeVar("T")


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
        self._record_alike = {
            fact: record_alike
            for fact, of_fact in rules.items()
            if len(of_fact) == 1 and (record_alike := next(iter(of_fact.values())).compiled_for_many())
        }
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

    def record_alike(self, fact: Fact, times: int, each: Each) -> None:
        """Count so many facts that are alike but for what is given of each; they have no trace."""
        record_alike = self._record_alike.get(type(fact))
        if record_alike is not None:
            record_alike(fact, times, each)
        else:
            for one in alike(fact, times, each):
                self.record(one)

    def also(self, kind: type[F], call: Callable[[F], None]) -> None:
        """Have facts of this kind handed to ``call`` too, once they are counted; others cost nothing more."""
        record, other = self._record.get(kind), cast("Callable[[Fact], None]", call)
        self._record[kind] = other if record is None else _in_turn((record, other))
        self._record_alike.pop(kind, None)

    def exemplify(self) -> None:
        """Have buckets name traces from now on, of the facts that have one; without this they cost nothing."""
        for series in self.series.values():
            if series.family.exemplars and series.family.on is not None:
                self._record[series.family.on] = self._exemplifies(series, self._record[series.family.on])

    def _exemplifies(self, series: Series, record: Callable[[Fact], None]) -> Callable[[Any], None]:
        """Return what records a fact and then has its bucket name its trace, if it has one."""
        labels, value = _all_of(_readings(series.family)), _reader(series.family.value or "")

        def record_and_exemplify(fact: Any) -> None:
            record(fact)
            if fact.trace_id is not None:
                seconds, histogram = value(fact), series.histograms.get(labels(fact))
                if seconds is not None and histogram is not None:
                    histogram.exemplify(Exemplar(fact.trace_id, seconds, self.now))

        return record_and_exemplify

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


_Reading = str | Callable[[Any], Any]
"""How something is read from a fact, such as a label: the name of an attribute, or a function."""


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
        labels, bound, bind, begin = _all_of(self._view.readings), self.bound, self._bind, self._begin
        if not self._histograms:

            def count(fact: Fact) -> None:
                key = labels(fact)
                child = (bound.get(key) or bind(key)).counter
                if child is not None:
                    child.value += 1

            return count
        values = _all_of(tuple(series.family.value or "" for series in self._histograms))

        def count_and_observe(fact: Fact) -> None:
            key = labels(fact)
            children = bound.get(key) or bind(key)
            if children.counter is not None:
                children.counter.value += 1
            histograms = children.histograms
            for place, seconds in enumerate(values(fact)):
                if seconds is not None:
                    histogram = histograms[place] or begin(histograms, place, key)
                    histogram.counts[bisect_left(histogram.bounds, seconds)] += 1
                    histogram.total += seconds

        return count_and_observe

    def compiled_for_many(self) -> Callable[[Fact, int, Each], None] | None:
        """Return the function that records many facts that are alike; None if they must be told one by one."""
        values = [series.family.value for series in self._histograms]
        names = [value for value in values if isinstance(value, str)]
        if self._view.where or self._others or len(self._counters) > 1 or names != values:
            return None
        labels, bound, readers = _all_of(self._view.readings), self.bound, [(name, attrgetter(name)) for name in names]

        def count_and_observe_each(fact: Fact, times: int, each: Each) -> None:
            key = labels(fact)
            children = bound.get(key) or self._bind(key, times)
            if children.counter is not None:
                children.counter.value += times
            for place, (name, read) in enumerate(readers):
                found = each[name] if name in each else [read(fact)] * times
                known = [seconds for seconds in found if seconds is not None]
                if known:
                    histogram = children.histograms[place] or self._begin(children.histograms, place, key, len(known))
                    histogram.observe_each(known)

        return count_and_observe_each

    def _begin(self, histograms: list[Histogram | None], place: int, labels: Labels, times: int = 1) -> Histogram:
        """Find where a label set is observed so many times: for good if it has room of its own."""
        series = self._histograms[place]
        found = series.histogram(labels, times)
        if labels in series.histograms:
            histograms[place] = found
        return found

    def _bind(self, labels: Labels, times: int = 1) -> _Bound:
        """Find where a label set counts so many times: for good if it has room of its own."""
        for series in self._zeros:
            _start_at_zero(series, labels)
        counter = self._counters[0] if self._counters else None
        found = _Bound(counter.child(labels, times) if counter else None, len(self._histograms))
        counted = all(labels in series.children for series in self._counters)
        if counted and all(series.has_room(labels) for series in self._histograms) and len(self.bound) < self._most():
            self.bound[labels] = found
        return found

    def _most(self) -> int:
        """Return how many label sets are kept: those of zeros alone have no counter that says that it is full."""
        return max(series.max_series for series in (*self._zeros, *self._counters, *self._histograms))

    def _any_shape(self) -> Callable[[Fact], None]:
        labels = _all_of(self._view.readings)
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


def _all_of(readings: tuple[_Reading, ...]) -> Callable[[Fact], tuple[Any, ...]]:
    """Return what reads something of a fact each; ``attrgetter`` of several names gives a tuple."""
    names = [reading for reading in readings if isinstance(reading, str)]
    if len(names) == len(readings) > 1:
        return cast("Callable[[Fact], tuple[Any, ...]]", attrgetter(*names))
    readers = tuple(map(_reader, readings))
    if len(readers) == 1:
        return lambda fact: (readers[0](fact),)
    return lambda fact: tuple([read(fact) for read in readers])


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
