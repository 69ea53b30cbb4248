"""Samples → text: the Prometheus text format 0.0.4 and OpenMetrics 1.0.

The same text that ``prometheus_client.generate_latest`` makes of the same samples, a test holds it, without an object
per sample: label sets are escaped once and then kept as text.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.utils import floatToGoString

from celery_observe.metrics.family import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from celery_observe.metrics.family import Family
    from celery_observe.recorder import Recorder
    from celery_observe.series import Exemplar, Histogram

_PLAIN_BELOW = 1e6
"""From here on Go writes numbers with an exponent."""


def told(
    recorders: Sequence[Recorder], live: Sequence[bool], wanted: Callable[[Family], bool]
) -> Iterator[tuple[Family, list[tuple[int, Recorder]]]]:
    """Yield the families that are wanted, each with the recorders, and their places, that can be believed of it.

    ``live`` says of each recorder whether what it tells of this moment can be.
    """
    for series in recorders[0].series.values():
        family = series.family
        if wanted(family):
            yield family, [each for each in enumerate(recorders) if live[each[0]] or not family.live]


class Page:
    """Renders the families of recorders that are wanted; keeps the start of each line for the next rendering."""

    def __init__(self, wanted: Callable[[Family], bool] = lambda _family: True) -> None:
        self._wanted = wanted
        self._starts: dict[tuple[int, str], _Starts] = {}

    def render(self, recorders: Sequence[Recorder], *, live: Sequence[bool], openmetrics: bool = False) -> bytes:
        """Render the families of all recorders, each family once.

        ``live`` says for each recorder whether what it tells of this moment can be believed; if not, its live families
        are left out. The text lacks the ``# EOF`` of OpenMetrics, since more may follow.
        """
        lines: list[str] = []
        for family, tellers in told(recorders, live, self._wanted):
            samples = [
                sample
                for place, recorder in tellers
                for sample in self._samples(place, recorder, family.name, exemplars=openmetrics)
            ]
            if samples:
                lines += _header(family, openmetrics=openmetrics)
                lines += samples
        return "".join(lines).encode()

    def _samples(self, place: int, recorder: Recorder, name: str, *, exemplars: bool) -> Iterator[str]:
        series = recorder.series[name]
        starts = self._starts.get((place, name))
        if starts is None:
            starts = self._starts[place, name] = _Starts(series.family, recorder.const_labels)
        if series.family.kind is Kind.HISTOGRAM:
            histograms = series.histograms.copy()
            starts.keep(histograms)
            return (_histogram(starts[labels], child, exemplars=exemplars) for labels, child in histograms.items())
        children = series.children.copy()
        starts.keep(children)
        return (f"{starts[labels][0]}{_number(child.value)}\n" for labels, child in children.items())


class _Starts(dict[tuple[str, ...], tuple[str, ...]]):
    """The lines of each label set without their values, made when first asked for.

    One start for a counter or gauge; for a histogram what stands before and after the bound of a bucket, and the
    starts of the count and of the sum. Labels are in the order of their names, ``le`` among them.
    """

    def __init__(self, family: Family, const_labels: dict[str, str]) -> None:
        super().__init__()
        self._family = family
        self._const = const_labels

    def __missing__(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        name = self._family.name
        pairs = sorted({**dict(zip(self._family.labels, labels, strict=True)), **self._const}.items())
        texts = [(label, f'{label}="{_escaped(value)}"') for label, value in pairs]
        braces = f"{{{','.join(text for _, text in texts)}}}" if texts else ""
        start: tuple[str, ...] = (f"{name}{braces} ",)
        if self._family.kind is Kind.HISTOGRAM:
            before = "".join(f"{text}," for label, text in texts if label < "le")
            after = "".join(f",{text}" for label, text in texts if label > "le")
            start = f'{name}_bucket{{{before}le="', f'"{after}}} ', f"{name}_count{braces} ", f"{name}_sum{braces} "
        self[labels] = start
        return start

    def keep(self, alive: Mapping[tuple[str, ...], object]) -> None:
        """Let go of label sets that are no more, once they outnumber those that are."""
        if len(self) > 2 * len(alive) + 100:
            for labels in self.keys() - alive.keys():
                del self[labels]


def _header(family: Family, *, openmetrics: bool) -> tuple[str, str]:
    name, text = family.name, family.help.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        text = text.replace('"', r"\"")
        name = name.removesuffix("_total") if family.kind is Kind.COUNTER else name
    return f"# HELP {name} {text}\n", f"# TYPE {name} {family.kind}\n"


def _histogram(starts: tuple[str, ...], histogram: Histogram, *, exemplars: bool) -> str:
    before, after, count, total = starts
    named = histogram.exemplars.copy() if exemplars and histogram.exemplars is not None else None
    counts, seconds = histogram.counts.copy(), histogram.total  # read after the exemplars, which are counted first
    lines = [
        f"{before}{bound}{after}{_number(below)}\n"
        for bound, below in zip(_bound_texts(histogram.bounds), accumulate(counts), strict=True)
    ]
    if named is not None:
        lines = [_named(line, exemplar) for line, exemplar in zip(lines, named, strict=True)]
    return f"{''.join(lines)}{count}{_number(sum(counts))}\n{total}{_number(seconds)}\n"


def _named(line: str, exemplar: Exemplar | None) -> str:
    """Return the line of a bucket with its exemplar, if it has one."""
    if exemplar is None:
        return line
    trace = _escaped(exemplar.trace_id)
    return f'{line[:-1]} # {{trace_id="{trace}"}} {_number(exemplar.value)} {exemplar.at}\n'


@cache
def _bound_texts(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*(_number(bound) for bound in bounds), "+Inf")


def _number(value: float) -> str:
    return repr(float(value)) if -_PLAIN_BELOW < value < _PLAIN_BELOW else str(floatToGoString(value))  # type: ignore[no-untyped-call]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
