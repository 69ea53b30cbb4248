"""Points of metrics say what the page says of the same samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from hypothesis import given, settings
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.utils import floatToGoString

from celery_observe.metrics.family import Family, Kind
from celery_observe.otlp.points import Points, batches
from celery_observe.page import Page
from celery_observe.recorder import Recorder
from celery_observe.series import Exemplar
from services.exporter import Samples
from unit.test_page import BARE, CATALOGUE, COUNTER, GAUGE, PLAIN, recorders

TOTAL = Family(name="celery_o_total", kind=Kind.COUNTER, help="Counted by others.", labels=("worker",), cumulative=True)
START, SOON, LATER, LATEST = (second * 10**9 for second in (1000, 1010, 1020, 1030))
TRACE = "0af7651916cd43dd8448eb211c80319c"


def points(metrics: list[Metric], name: str) -> list[Any]:
    """The points of one metric."""
    return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


def starts(metrics: list[Metric], name: str) -> list[int]:
    """Since when each point of a metric counts."""
    return [point.start_time_unix_nano for point in points(metrics, name)]


def lines(metrics: list[Metric]) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    """The lines of a page that says the same."""
    for metric in metrics:
        for point in points([metric], metric.name):
            labels = frozenset(point.attributes.items())
            if not hasattr(point, "bucket_counts"):
                yield (metric.name, labels), point.value
                continue
            bounds = [*map(floatToGoString, point.explicit_bounds), "+Inf"]
            for bound, below in zip(bounds, accumulate(point.bucket_counts), strict=True):
                yield (f"{metric.name}_bucket", labels | {("le", bound)}), below
            yield (f"{metric.name}_count", labels), point.count
            yield (f"{metric.name}_sum", labels), point.sum


def comparable(samples: dict[Any, float]) -> dict[Any, Any]:
    """Samples that can be compared, NaN included."""
    return {sample: "NaN" if math.isnan(value) else value for sample, value in samples.items()}


@settings(deadline=None)
@given(recorder=recorders({"broker": "one"}))
def test_points_say_what_the_page_says(recorder: Recorder) -> None:
    """Whatever the labels and the numbers."""
    for live in (True, False):
        page = Page().render([recorder], live=[live]).decode()
        metrics = Points(START).read([recorder], live=[live], now=SOON)

        assert comparable(dict(lines(metrics))) == comparable(Samples.parse(page))


def test_a_metric_has_the_name_text_and_unit_of_its_family() -> None:
    """Counters keep `_total`; what is counted has no unit, which would become a part of its name."""
    recorder = Recorder(catalogue=(*CATALOGUE, TOTAL))
    recorder[COUNTER].increase(("t", "q"))
    recorder[BARE].observe((), 0.5)
    metrics = {metric.name: metric for metric in Points(START).read([recorder], live=[True], now=SOON)}

    assert metrics.keys() == {"celery_c_total", "celery_b_seconds"}
    assert (metrics["celery_c_total"].description, metrics["celery_c_total"].unit) == (COUNTER.help, "")
    assert metrics["celery_b_seconds"].unit == "s"


def test_what_is_not_wanted_is_left_out() -> None:
    """As it is on the page."""
    recorder = Recorder(catalogue=CATALOGUE)
    recorder[COUNTER].increase(("t", "q"))
    recorder[PLAIN].increase(())

    metrics = Points(START, lambda family: family is PLAIN).read([recorder], live=[True], now=SOON)

    assert [metric.name for metric in metrics] == [PLAIN.name]


def test_a_series_counts_since_it_was_not_there() -> None:
    """That is the start, or the last reading without it; from then on it stays."""
    recorder, made = Recorder(catalogue=CATALOGUE), Points(START)
    recorder[COUNTER].increase(("early", "q"))
    first = made.read([recorder], live=[True], now=SOON)
    recorder[COUNTER].increase(("late", "q"))
    recorder[BARE].observe((), 1)
    second = made.read([recorder], live=[True], now=LATER)
    third = made.read([recorder], live=[True], now=LATEST)

    assert starts(first, COUNTER.name) == [START]
    assert starts(second, COUNTER.name) == starts(third, COUNTER.name) == [START, SOON]
    assert starts(third, BARE.name) == [SOON]
    assert {point.time_unix_nano for point in points(third, COUNTER.name)} == {LATEST}


def test_a_count_that_falls_or_comes_back_begins_anew() -> None:
    """Of a worker that has started anew, or was forgotten and is seen again."""
    recorder, made = Recorder(catalogue=CATALOGUE), Points(START)
    recorder[PLAIN].set((), 5)
    recorder[COUNTER].increase(("t", "q"))
    made.read([recorder], live=[True], now=SOON)
    recorder[PLAIN].set((), 3)
    recorder[COUNTER].remove("task", "t")
    fallen = made.read([recorder], live=[True], now=LATER)
    recorder[COUNTER].increase(("t", "q"), 7)
    back = made.read([recorder], live=[True], now=LATEST)

    assert starts(fallen, PLAIN.name) == starts(back, PLAIN.name) == [SOON]
    assert starts(fallen, COUNTER.name) == []
    assert starts(back, COUNTER.name) == [LATER]


def test_a_total_of_others_counts_since_it_is_known() -> None:
    """A worker had counted before we came: since when, nobody says."""
    recorder, made = Recorder(catalogue=(TOTAL,)), Points(START)
    recorder[TOTAL].set(("w",), 1000)
    first = made.read([recorder], live=[True], now=SOON)
    second = made.read([recorder], live=[True], now=LATER)

    assert starts(first, TOTAL.name) == starts(second, TOTAL.name) == [SOON]


def test_a_clock_that_is_set_back_ends_no_point_before_its_beginning() -> None:
    """What counts begins anew then."""
    recorder, made = Recorder(catalogue=CATALOGUE), Points(LATER)
    recorder[PLAIN].increase(())
    made.read([recorder], live=[True], now=LATEST)

    (point,) = points(made.read([recorder], live=[True], now=SOON), PLAIN.name)

    assert (point.start_time_unix_nano, point.time_unix_nano) == (SOON, SOON)


def test_exemplars_name_their_trace_through_the_encoder() -> None:
    """Which drops a trace without a span; what is no trace, whoever said it is, is left out."""
    recorder = Recorder(catalogue=CATALOGUE)
    for value, trace in ((0.5, TRACE), (3.0, "no trace")):
        recorder[BARE].observe((), value)
        recorder[BARE].histograms[()].exemplify(Exemplar(trace, value, 1700000000.25))
    metrics = Points(START).read([recorder], live=[True], now=SOON)

    scope = ScopeMetrics(InstrumentationScope("s"), metrics, "")
    request = encode_metrics(MetricsData([ResourceMetrics(Resource({}), [scope], "")]))

    (metric,) = request.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.histogram.data_points
    (exemplar,) = point.exemplars
    assert (exemplar.trace_id.hex(), exemplar.as_double) == (TRACE, 0.5)
    assert exemplar.time_unix_nano // 1000 in {1700000000_249999, 1700000000_250000}
    assert not int.from_bytes(exemplar.span_id)
    assert not point.HasField("min")
    assert not point.HasField("max")


def test_what_collectors_say_is_told_too() -> None:
    """Such as of our process, under the names of the page."""
    collected = [
        GaugeMetricFamily("process_open_fds", "Open.", value=7),
        CounterMetricFamily("process_cpu_seconds_total", "CPU.", value=1.5),
        GaugeMetricFamily("process_nothing", "Of which nothing is known here."),
    ]

    metrics = Points(START).read([Recorder(catalogue=())], collected, live=[True], now=SOON)

    assert [(metric.name, metric.unit) for metric in metrics] == [
        ("process_open_fds", ""),
        ("process_cpu_seconds_total", "s"),
    ]
    assert points(metrics, "process_cpu_seconds_total")[0].value == 1.5
    assert starts(metrics, "process_cpu_seconds_total") == [SOON]


def test_nothing_is_kept_of_what_is_no_more() -> None:
    """Workers come and go."""
    recorder, made = Recorder(catalogue=CATALOGUE), Points(START)
    for number in range(100):
        recorder[GAUGE].set((str(number),), 1)
        made.read([recorder], live=[True], now=SOON + number)
        recorder[GAUGE].remove("worker", str(number))

    assert sum(map(len, made._lines.values())) == 1  # noqa: SLF001 - its bound


def test_batches_hold_each_point_once() -> None:
    """However the sizes of metrics and batches are to each other."""
    recorder = Recorder(catalogue=CATALOGUE)
    for number in range(7):
        recorder[COUNTER].increase((str(number), "q"))
        recorder[GAUGE].set((str(number),), 1)
    metrics = Points(START).read([recorder], live=[True], now=SOON)

    for most in range(1, 16):
        found = list(batches(metrics, most))
        held = [point for batch, _ in found for metric in batch for point in metric.data.data_points]
        assert held == [point for metric in metrics for point in metric.data.data_points]
        assert [sum(len(metric.data.data_points) for metric in batch) for batch, _ in found] == [n for _, n in found]
        assert all(0 < size <= most for _, size in found)
