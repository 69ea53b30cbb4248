"""Plain successes are told together, and count as if each had been told alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_observe.fact import Ended, Fact, Outcome, Started
from celery_observe.fleet import Fleet, Instant
from celery_observe.journal import Journal
from celery_observe.recorder import Recorder
from celery_observe.report import AnyReport, Beat, Execution, Progress, Running, Success
from celery_observe.successes import MANY

AT = Instant(1000.0, 1000.0)

times = st.sampled_from([None, 990.0, 998.5, 999.0, 999.9, 1000.0, 1000.5, 1001.5, 4e9, -1.0])
said: dict[str, Any] = {
    "timestamp": st.sampled_from([998.0, 1000.0, 1001.0, 1002.0]),
    "hostname": st.sampled_from(["a@h", "b@h"]),
    "uuid": st.integers(0, 99).map(str),
    "name": st.sampled_from("ttu"),
    "queue": st.just("q"),
    "started": times,
    "published": times,
    "received": times,
}
success = {
    **said,
    "started": st.sampled_from([990.0, 999.9, 1000.0, 1000.5, 4e9, -1.0]),
    "runtime": st.sampled_from([0.001, 3.0, 1e5]),
}
few = st.lists(st.builds(Success, **success), min_size=2, max_size=6)
alike = st.builds(Success, **success | {"hostname": st.just("a@h"), "name": st.just("t")})
many = st.lists(alike, min_size=2 * MANY, max_size=3 * MANY)
executions = st.builds(
    Execution,
    outcome=st.sampled_from([Outcome.SUCCEEDED, Outcome.RETRIED, Outcome.FAILED]),
    retries=st.sampled_from([0, 1]),
    runtime=st.sampled_from([0.01, None]),
    cpu=st.sampled_from([None, 0.5]),
    trace_id=st.sampled_from([None, "0" * 32]),
    **said,
)
running = st.builds(
    Running, uuid=said["uuid"], name=said["name"], started=st.sampled_from([990.0, 999.0]), received=times
)
progress = st.builds(Progress, timestamp=said["timestamp"], hostname=said["hostname"], attempt=running)
beats = st.builds(
    Beat,
    timestamp=st.sampled_from([999.0, 1000.0, 1001.0, 1003.0]),
    hostname=st.sampled_from(["a@h", "b@h"]),
    pid=st.just(1),
    active=st.just(0),
    processed=st.integers(0, 20),
    slots=st.just(2),
    leaving=st.sampled_from([False, False, True]),
)


class Books:
    """What a journal has counted in the end."""

    def __init__(self, *, together: bool) -> None:
        self.recorder = Recorder()
        self.recorder.exemplify()
        self.fleet = Fleet(self.recorder.record, whole=False)
        alone: dict[str, Any] = {} if together else {"divide": lambda *_: None}
        emit_alike = self.recorder.record_alike
        self.journal = Journal(self.recorder.record, self.fleet, emit_alike=emit_alike, max_tasks=8, **alone)

    def take(self, reports: list[AnyReport]) -> None:
        """Take in what has come, all at once."""
        self.journal.handle(reports, AT)
        self.journal.tick(AT)

    @property
    def values(self) -> dict[tuple[str, ...], Any]:
        """All that a page would show, but for the differences of sums."""
        found: dict[tuple[str, ...], Any] = {}
        for name, series in self.recorder.series.items():
            found |= {(name, *labels): value for labels, value in series.values.items()}
            for labels, each in series.histograms.items():
                assert math.isfinite(each.total)
                found[name, *labels] = each.counts, pytest.approx(each.total), each.exemplars
        return found


@given(st.lists(st.tuples(few | many, executions | progress | beats), min_size=2, max_size=8))
def test_what_is_told_together_counts_as_what_is_told_alone(batches: list[tuple[list[AnyReport], AnyReport]]) -> None:
    """Whatever the times say, and whatever comes between."""
    reports = [report for run, other in batches for report in (*run, other)]
    together, alone = Books(together=True), Books(together=False)

    together.take(reports)
    for report in reports:
        alone.take([report])

    assert together.values == alone.values
    assert together.fleet.ledgers() == alone.fleet.ledgers()
    assert len(together.journal) == len(alone.journal)


def test_successes_are_told_with_those_next_to_them_if_they_are_many() -> None:
    """By task, queue and worker, before what comes after them, and with the times of each."""
    told: list[tuple[Fact, int, dict[str, list[float | None]]]] = []
    others: list[Fact] = []

    def emit_alike(fact: Fact, times: int, each: Any) -> None:
        told.append((fact, times, {name: list(values) for name, values in each.items()}))

    def success(uuid: str, name: str, published: float) -> Success:
        return Success(100.0, "w@h", uuid, name, "q", 99.0, 1.0, published, 98.0)

    many = [success(f"t{place}", "t", 90.0 + place) for place in range(MANY)]
    failure = Execution(100.0, "w@h", "f", "t", Outcome.FAILED, "q", started=99.0)
    last = success("l", "t", 97.0)
    journal = Journal(others.append, Fleet(others.append), emit_alike=emit_alike)
    journal.handle([*many[:3], success("u", "u", 97.5), *many[3:], failure, last], AT)

    waits, totals = [9.0 - place for place in range(MANY)], [10.0 - place for place in range(MANY)]
    assert told == [
        (Started("t", "q", "w@h", None), MANY, {"worker_wait": [1.0] * MANY, "queue_wait": waits}),
        (Ended("t", "q", "w@h", Outcome.SUCCEEDED, None), MANY, {"runtime": [1.0] * MANY, "total": totals}),
    ]
    assert others == [
        Started("u", "q", "w@h", 1.0, 1.5),
        Ended("u", "q", "w@h", Outcome.SUCCEEDED, 1.0, 2.5),
        Started("t", "q", "w@h", None, None),
        Ended("t", "q", "w@h", Outcome.FAILED, 1.0),
        Started("t", "q", "w@h", 1.0, 2.0),
        Ended("t", "q", "w@h", Outcome.SUCCEEDED, 1.0, 3.0),
    ]
