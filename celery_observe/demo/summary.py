"""What the demo shows: the exporter's numbers by area, and whether they add up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import msgspec

from celery_observe.demo.reading import Reading
from celery_observe.demo.shop.routing import DEAD_LETTERS
from celery_observe.fact import Outcome
from celery_observe.metrics import observer, tasks, workers

AREAS = (
    "orders",
    "payments",
    "inventory",
    "shipping",
    "mail",
    "sms",
    "carts",
    "catalogue",
    "images",
    "reports",
    "customers",
    "legacy",
    "celery",
)
"""What the names of the shop's tasks begin with; Celery's own are `map` and `starmap`, whatever they are made of."""

_COLUMNS = (
    "area",
    "published",
    "running",
    "succeeded",
    "failed",
    "retried",
    "other",
    "p50",
    "p95",
    "wait p95",
)
_WIDTHS = (17, 9, 7, 9, 6, 7, 5, 7, 7, 8)
_SHOWN = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.RETRIED)


class Row(msgspec.Struct, frozen=True):
    """What is known of the tasks of one area, or of all. Times are in seconds, NaN when nothing was measured."""

    area: str
    published: int
    running: int
    outcomes: Counter[str]
    runtime_p50: float
    runtime_p95: float
    queue_wait_p95: float

    @property
    def others(self) -> Counter[str]:
        """The outcomes that have no column."""
        return Counter({outcome: count for outcome, count in self.outcomes.items() if outcome not in _SHOWN})

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the table's columns."""
        shown = [self.outcomes[outcome] for outcome in _SHOWN]
        counts = (self.published, self.running, *shown, self.others.total())
        times = (self.runtime_p50, self.runtime_p95, self.queue_wait_p95)
        return (self.area, *(str(count) if count else "·" for count in counts), *map(duration, times))


class Summary(msgspec.Struct, frozen=True):
    """What the exporter read from events, beside the number of messages that all publishers say they have sent."""

    sent: int
    rows: tuple[Row, ...]
    total: Row
    dead: int
    """Messages in the dead-letter queue, which nobody consumes."""
    causes: Counter[str]
    workers_up: int
    workers: int
    unobserved: int
    lag: float

    @property
    def in_flight(self) -> int:
        """Messages published, for the first time or a retry, whose attempt has no outcome yet."""
        return self.total.published - self.dead - self.total.outcomes.total()

    @property
    def unaccounted(self) -> int:
        """Messages that are missing from the exporter's numbers; negative when it has too many."""
        return self.sent - self.total.published

    @property
    def settled(self) -> bool:
        """Whether all that was published has ended, and is counted."""
        return self.unaccounted == self.in_flight == self.total.running == 0


def summarise(events: str, reports: str, load: int) -> Summary:
    """Take all that is shown from the pages of the exporter and the sidecar, and from what the load has published.

    Tasks that are not the shop's are left out.
    """
    reading = Reading(events, {"task": _area})
    up = reading.by(workers.UP, "worker")
    rows = tuple(_row(reading, area) for area in AREAS)
    return Summary(
        sent=load + int(Reading(reports).count(tasks.PUBLISH)),
        rows=rows,
        total=_total(reading, rows),
        dead=int(reading.total(tasks.PUBLISHED, queue=DEAD_LETTERS)),
        causes=sum((reading.by(tasks.FAILURES, "cause", task=area) for area in AREAS), Counter()),
        workers_up=up.total(),
        workers=len(up),
        unobserved=int(reading.total(observer.TASKS_UNOBSERVED)),
        lag=reading.largest(observer.EVENT_LAG),
    )


def _area(task: str) -> str:
    return task.partition(".")[0]


def _row(reading: Reading, area: str) -> Row:
    return Row(
        area=area,
        published=int(reading.total(tasks.PUBLISHED, task=area)),
        running=int(reading.total(tasks.RUNNING, task=area)),
        outcomes=reading.by(tasks.OUTCOMES, "outcome", task=area),
        runtime_p50=reading.quantile(0.5, tasks.RUNTIME, task=area),
        runtime_p95=reading.quantile(0.95, tasks.RUNTIME, task=area),
        queue_wait_p95=reading.quantile(0.95, tasks.QUEUE_WAIT, task=area),
    )


def _total(reading: Reading, rows: Iterable[Row]) -> Row:
    return Row(
        area="all",
        published=sum(row.published for row in rows),
        running=sum(row.running for row in rows),
        outcomes=sum((row.outcomes for row in rows), Counter()),
        runtime_p50=reading.quantile(0.5, tasks.RUNTIME),
        runtime_p95=reading.quantile(0.95, tasks.RUNTIME),
        queue_wait_p95=reading.quantile(0.95, tasks.QUEUE_WAIT),
    )


def duration(seconds: float) -> str:
    """Write a time with two significant digits or so: 4 ms, 1.2 s, 3 min; nothing for NaN."""
    if math.isnan(seconds):
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - see the docstring


def status(summary: Summary) -> str:
    """Return the summary in a line: for logs, where a table each second would be noise."""
    counts = f"published {summary.total.published}, running {summary.total.running}"
    return f"{counts}; {_counts(summary.total.outcomes)}; {_workers(summary)}; {_belief(summary)}"


def table(summary: Summary) -> list[str]:
    """Return the summary in lines: one screen, at most 24 lines of 96 columns."""
    return [
        _line(_COLUMNS),
        *(_line(row.cells()) for row in summary.rows),
        _line(summary.total.cells()),
        "",
        f"other       {_counts(summary.total.others)}",
        f"causes      {_counts(summary.causes)}",
        f"workers     {_workers(summary)}",
        f"belief      {_belief(summary)}",
        f"self-check  {check(summary)}",
    ]


def check(summary: Summary) -> str:
    """Say whether every message that publishers say they sent is in the exporter's numbers, which are from events."""
    equal, verdict = ("=", "all accounted for") if not summary.unaccounted else ("≠", "not all accounted for")
    ends = f"{summary.total.outcomes.total()} outcomes + {summary.in_flight} in flight + {summary.dead} dead letters"
    return f"publishers sent {summary.sent} {equal} {ends}: {verdict}"


def _workers(summary: Summary) -> str:
    return f"{summary.workers_up} of {summary.workers} workers up"


def _belief(summary: Summary) -> str:
    return f"{summary.unobserved} tasks unobserved, event lag {duration(summary.lag) or 'unknown'}"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none yet"


def _line(cells: Iterable[str]) -> str:
    task, *numbers = (
        f"{cell:{align}{width}}"
        for cell, width, align in zip(cells, _WIDTHS, "<" + ">" * (len(_WIDTHS) - 1), strict=True)
    )
    return " ".join((task, *numbers))
