"""The page is byte for byte what prometheus_client makes of the same samples."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client import samples as prometheus
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString

from celery_observe.metrics.family import Family, Kind
from celery_observe.page import Page
from celery_observe.recorder import Recorder
from celery_observe.series import Exemplar, Series
from golden.replay import RECORDINGS, Replay

COUNTER = Family(name="celery_c_total", kind=Kind.COUNTER, help='Counts "things"\\others.', labels=("task", "queue"))
PLAIN = Family(name="celery_p_total", kind=Kind.COUNTER, help="Counts\nlines.")
GAUGE = Family(name="celery_g", kind=Kind.GAUGE, help="A gauge.", labels=("worker",), live=True)
HISTOGRAM = Family(
    name="celery_h_seconds", kind=Kind.HISTOGRAM, help="Times.", labels=("task", "a"), buckets=(0.5, 1e7)
)
BARE = Family(name="celery_b_seconds", kind=Kind.HISTOGRAM, help="Bare times.", buckets=(0.001, 1.0))
CATALOGUE = (COUNTER, PLAIN, GAUGE, HISTOGRAM, BARE)


class Same(Collector):
    """The samples of recorders, told in the words of prometheus_client."""

    def __init__(self, recorders: Sequence[Recorder], live: Sequence[bool]) -> None:
        self._recorders = recorders
        self._live = live

    def collect(self) -> Iterator[Metric]:
        """Yield each family once."""
        for family in CATALOGUE:
            metric = self._family(family)
            if metric.samples:
                yield metric

    def _family(self, family: Family) -> Metric:
        kinds = {
            Kind.COUNTER: CounterMetricFamily,
            Kind.GAUGE: GaugeMetricFamily,
            Kind.HISTOGRAM: HistogramMetricFamily,
        }
        constant = tuple(self._recorders[0].const_labels)
        metric: Metric = kinds[family.kind](family.name, family.help, labels=(*family.labels, *constant))
        for recorder, live in zip(self._recorders, self._live, strict=True):
            if live or not family.live:
                self._fill(metric, recorder.series[family.name], tuple(recorder.const_labels.values()))
        return metric

    @staticmethod
    def _fill(metric: Metric, series: Series, constant: tuple[str, ...]) -> None:
        for labels, value in series.values.items():
            assert isinstance(metric, CounterMetricFamily | GaugeMetricFamily)
            metric.add_metric((*labels, *constant), value)
        for labels, child in series.histograms.items():
            assert isinstance(metric, HistogramMetricFamily)
            bounds = [*map(floatToGoString, child.bounds), "+Inf"]
            sums = [sum(child.counts[: place + 1]) for place in range(len(bounds))]
            named = child.exemplars or [None] * len(bounds)
            buckets = [
                (bound, total, _theirs(exemplar)) for bound, total, exemplar in zip(bounds, sums, named, strict=True)
            ]
            metric.add_metric((*labels, *constant), buckets, sum_value=child.total)  # type: ignore[arg-type]  # None is none


def _theirs(exemplar: Exemplar | None) -> prometheus.Exemplar | None:
    if exemplar is None:
        return None
    return prometheus.Exemplar({"trace_id": exemplar.trace_id}, exemplar.value, exemplar.at)


def both(recorders: Sequence[Recorder], live: Sequence[bool], *, openmetrics: bool) -> tuple[bytes, bytes]:
    """Our page, and theirs."""
    registry = CollectorRegistry()
    registry.register(Same(recorders, live))
    ours = Page().render(recorders, live=live, openmetrics=openmetrics)
    generate: Callable[[CollectorRegistry], bytes] = generate_openmetrics if openmetrics else generate_latest
    return ours + b"# EOF\n" * openmetrics, generate(registry)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["\\", '"', "\n", "\\n", "é", ""]
)
NUMBER = st.integers(0, 2**53) | st.floats(allow_nan=False) | st.sampled_from([float("nan"), 1e6, 999999.5, -1e6, 1e21])


@st.composite
def recorders(draw: st.DrawFn, constant: dict[str, str] | None = None) -> Recorder:
    """Some samples of each family."""
    recorder = Recorder(catalogue=CATALOGUE, const_labels=constant)
    for task, queue, value in draw(st.lists(st.tuples(TEXT, TEXT, NUMBER), max_size=4)):
        recorder[COUNTER].set((task, queue), value)
        recorder[GAUGE].set((task,), value)
        recorder[HISTOGRAM].observe((task, queue), abs(value))
        recorder[BARE].observe((), value)
        if draw(st.booleans()):
            exemplar = Exemplar(draw(TEXT), abs(value), draw(st.floats(0, 4e9)))
            recorder[HISTOGRAM].histograms[task, queue].exemplify(exemplar)
        recorder[PLAIN].set((), value)
    return recorder


@settings(deadline=None)
@given(recorder=recorders(), live=st.booleans(), openmetrics=st.booleans())
def test_the_page_is_that_of_prometheus_client(recorder: Recorder, *, live: bool, openmetrics: bool) -> None:
    """Whatever the labels and the numbers, in both formats."""
    ours, theirs = both([recorder], [live], openmetrics=openmetrics)

    assert ours == theirs


@settings(deadline=None)
@given(
    one=recorders({"broker": "one"}),
    other=recorders({"broker": 'o"ther'}),
    live=st.tuples(st.booleans(), st.booleans()),
    openmetrics=st.booleans(),
)
def test_several_brokers_share_a_page(
    one: Recorder, other: Recorder, live: tuple[bool, bool], *, openmetrics: bool
) -> None:
    """Each family stands there once, each sample with its broker; what is not live lacks its gauges."""
    ours, theirs = both([one, other], live, openmetrics=openmetrics)

    assert ours == theirs


def test_a_bucket_names_a_trace_in_openmetrics_alone() -> None:
    """The text format has no exemplars."""
    recorder = Recorder(catalogue=CATALOGUE)
    recorder[BARE].observe((), 0.5)
    recorder[BARE].histograms[()].exemplify(Exemplar("0af7651916cd43dd8448eb211c80319c", 0.5, 1700000000.25))

    named = Page().render([recorder], live=[True], openmetrics=True).decode()
    plain = Page().render([recorder], live=[True]).decode()

    assert named.splitlines()[2:5] == [
        'celery_b_seconds_bucket{le="0.001"} 0.0',
        'celery_b_seconds_bucket{le="1.0"} 1.0 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.5 1700000000.25',
        'celery_b_seconds_bucket{le="+Inf"} 1.0',
    ]
    assert "#" not in "".join(line for line in plain.splitlines() if not line.startswith("#"))


def test_a_page_that_is_rendered_again_tells_what_has_changed() -> None:
    """The starts of lines are kept, values are not; and what is gone is gone."""
    recorder, page = Recorder(catalogue=CATALOGUE), Page()
    recorder[GAUGE].set(("w",), 1)
    recorder[GAUGE].set(("v",), 2)
    first = page.render([recorder], live=[True])

    recorder[GAUGE].set(("w",), 3)
    recorder[GAUGE].remove("worker", "v")
    second = page.render([recorder], live=[True])

    assert b'celery_g{worker="w"} 1.0\ncelery_g{worker="v"} 2.0\n' in first
    assert second.endswith(b'celery_g{worker="w"} 3.0\n')


def test_a_page_keeps_no_more_than_twice_what_it_shows() -> None:
    """Workers come and go."""
    recorder, page = Recorder(catalogue=CATALOGUE), Page()
    for number in range(1000):
        recorder[GAUGE].set((str(number),), 1)
        page.render([recorder], live=[True])
        recorder[GAUGE].remove("worker", str(number))

    (starts,) = (kept for (_, name), kept in page._starts.items() if name == GAUGE.name)  # noqa: SLF001 - its bound
    assert len(starts) <= 102


def test_a_family_without_samples_is_not_on_the_page() -> None:
    """Absent is not zero."""
    assert Page().render([Recorder(catalogue=CATALOGUE)], live=[True]) == b""


def test_promtool_finds_nothing_to_improve(promtool: str) -> None:
    """On the page of a hard time limit, help and types included."""
    page = Replay().play(RECORDINGS / "5.7" / "prefork" / "hard_limit.jsonl").page()

    check = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)

    assert (check.returncode, check.stdout + check.stderr) == (0, "")
