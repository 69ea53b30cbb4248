"""Samples → metrics of OpenTelemetry: cumulative sums, gauges, and histograms with explicit bounds.

Made of the samples themselves, as the page is: there are no instruments that count beside them. Names, units and labels
are such that whatever makes series for Prometheus of them makes those of the page ("Prometheus and OpenMetrics
Compatibility" of OpenTelemetry's specification: names stay as they are, ``_total`` included).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as Histograms

from celery_observe.metrics.family import Family, Kind
from celery_observe.page import told
from celery_observe.series import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client import Metric as Collected

    from celery_observe.recorder import Recorder
    from celery_observe.series import Labels

    Point = NumberDataPoint | HistogramDataPoint

_UNITS = {"seconds": "s", "bytes": "By", "ratio": "1"}
"""By the last word of a name, in UCUM. What is only counted has none: it would become a part of names elsewhere."""
_NO_SPAN = 0
"""Exemplars name a trace and no span. This is the id of none; without one OpenTelemetry drops the trace too."""
_TRACE = re.compile(r"[0-9a-f]{32}")
_COLLECTED = -1
"""Among the places of recorders, that of what collectors collect."""


class _Line:
    """What is kept of a label set from one reading to the next."""

    __slots__ = ("attributes", "count", "start")

    def __init__(self, attributes: dict[str, str], start: int) -> None:
        self.attributes = attributes
        self.start = start
        """When it had counted 0, in Unix nanoseconds."""
        self.count = 0.0
        """How far it had counted when it was read last."""


class Points:
    """Reads the families of recorders that are wanted; remembers of each label set since when it counts.

    ``started`` is when everything had counted 0, in Unix nanoseconds.
    """

    def __init__(self, started: int, wanted: Callable[[Family], bool] = lambda _family: True) -> None:
        self._wanted = wanted
        self._before = self._now = started
        self._lines: dict[tuple[int, str], dict[Labels, _Line]] = {}

    def read(
        self, recorders: Sequence[Recorder], collected: Iterable[Collected] = (), *, live: Sequence[bool], now: int
    ) -> list[Metric]:
        """Return all metrics as of ``now``, in Unix nanoseconds, each family once, and what collectors have collected.

        ``live`` says for each recorder whether what it tells of this moment can be believed; if not, its live families
        are left out.
        """
        if now < self._before:  # The clock was set back: all counts begin anew, as nothing ends before it begins.
            self._lines.clear()
            self._before = now
        self._now = now
        metrics = []
        for family, tellers in told(recorders, live, self._wanted):
            points = [point for place, each in tellers for point in self._recorded(place, each, family.name)]
            if points:
                metrics.append(_metric(family, points))
        metrics += [self._collected(each) for each in collected if each.samples]
        self._before = now
        return metrics

    def _recorded(self, place: int, recorder: Recorder, name: str) -> Iterator[Point]:
        series = recorder.series[name]
        is_histogram = series.family.kind is Kind.HISTOGRAM
        samples = series.histograms.copy() if is_histogram else series.values
        return self._points(place, series.family, recorder.const_labels, samples)

    def _collected(self, collected: Collected) -> Metric:
        """Return what a collector says: one sample, without labels, that counts since nobody knows when."""
        (sample,) = collected.samples
        kind, text = Kind(collected.type), collected.documentation
        family = Family(name=sample.name, kind=kind, help=text, cumulative=True)
        return _metric(family, list(self._points(_COLLECTED, family, {}, {(): sample.value})))

    def _points(
        self, place: int, family: Family, const_labels: Mapping[str, str], samples: Mapping[Labels, Histogram | float]
    ) -> Iterator[Point]:
        known = self._lines.get((place, family.name), {})
        lines = self._lines[place, family.name] = {}  # anew, without those that are no more
        for labels, sample in samples.items():
            attributes = {**dict(zip(family.labels, labels, strict=True)), **const_labels}
            line = lines[labels] = known.get(labels) or self._begun(family, attributes)
            if isinstance(sample, Histogram):
                yield self._histogram(line, sample)
            elif family.kind is Kind.COUNTER:
                yield NumberDataPoint(line.attributes, self._since(line, sample), self._now, float(sample))
            else:
                yield NumberDataPoint(line.attributes, 0, self._now, float(sample))

    def _begun(self, family: Family, attributes: dict[str, str]) -> _Line:
        """Return a new line: it was not there at the last reading, or counts since longer than we know."""
        return _Line(attributes, self._now if family.cumulative else self._before)

    def _since(self, line: _Line, count: float) -> int:
        """Return since when a label set counts, which has counted so far: less than before is a new beginning."""
        if count < line.count:
            line.start = self._before
        line.count = count
        return line.start

    def _histogram(self, line: _Line, histogram: Histogram) -> HistogramDataPoint:
        exemplars = _exemplars(histogram)
        counts, total = histogram.counts.copy(), histogram.total  # after the exemplars, which are counted first
        count = sum(counts)
        unknown: Any = None  # the least and the greatest, which the exporters leave out then
        return HistogramDataPoint(
            line.attributes,
            self._since(line, count),
            self._now,
            count,
            total,
            counts,
            histogram.bounds,
            unknown,
            unknown,
            exemplars,
        )


def batches(metrics: Iterable[Metric], most: int) -> Iterator[tuple[list[Metric], int]]:
    """Yield the metrics in batches of so many points at the most, with their number; large ones are taken apart."""
    batch: list[Metric] = []
    size = 0
    for metric in metrics:
        data: Any = metric.data  # of whatever kind, its points are those of that kind
        points = data.data_points
        for first in range(0, len(points), most):
            part = points[first : first + most]
            if size + len(part) > most:
                yield batch, size
                batch, size = [], 0
            batch.append(replace(metric, data=replace(data, data_points=part)))
            size += len(part)
    if batch:
        yield batch, size


def _metric(family: Family, points: list[Any]) -> Metric:
    unit = _UNITS.get(family.name.removesuffix("_total").rpartition("_")[2], "")
    data: Sum | Gauge | Histograms = Gauge(points)
    if family.kind is Kind.COUNTER:
        data = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    elif family.kind is Kind.HISTOGRAM:
        data = Histograms(points, AggregationTemporality.CUMULATIVE)
    return Metric(family.name, family.help, unit, data)


def _exemplars(histogram: Histogram) -> list[Exemplar]:
    return [
        Exemplar({}, each.value, round(each.at * 1e9), _NO_SPAN, int(each.trace_id, 16))
        for each in tuple(histogram.exemplars or ())
        if each is not None and _TRACE.fullmatch(each.trace_id)
    ]
