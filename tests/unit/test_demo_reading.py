"""A reading of /metrics answers with sums, and with quantiles as PromQL would."""

from __future__ import annotations

import math

import pytest

from celery_observe.demo.reading import Reading
from celery_observe.metrics import observer, tasks
from celery_observe.overview.quantile import quantile

TEXT = """\
# TYPE celery_task_outcomes_total counter
celery_task_outcomes_total{task="a",queue="q",outcome="succeeded"} 7
celery_task_outcomes_total{task="a",queue="r",outcome="succeeded"} 2
celery_task_outcomes_total{task="a",queue="q",outcome="failed"} 1
celery_task_outcomes_total{task="b",queue="q",outcome="failed"} 5
# TYPE celery_task_runtime_seconds histogram
celery_task_runtime_seconds_bucket{task="a",queue="q",outcome="succeeded",le="1.0"} 2
celery_task_runtime_seconds_bucket{task="a",queue="q",outcome="succeeded",le="2.0"} 4
celery_task_runtime_seconds_bucket{task="a",queue="q",outcome="succeeded",le="+Inf"} 4
celery_task_runtime_seconds_bucket{task="a",queue="q",outcome="failed",le="1.0"} 0
celery_task_runtime_seconds_bucket{task="a",queue="q",outcome="failed",le="2.0"} 4
celery_task_runtime_seconds_bucket{task="a",queue="q",outcome="failed",le="+Inf"} 4
"""


def test_samples_are_summed_over_the_labels_that_are_not_given() -> None:
    """A total takes every sample that has the labels asked for."""
    reading = Reading(TEXT)

    assert reading.total(tasks.OUTCOMES) == 15
    assert reading.total(tasks.OUTCOMES, task="a", outcome="succeeded") == 9
    assert reading.by(tasks.OUTCOMES, "outcome", task="a") == {"succeeded": 9, "failed": 1}


def test_what_is_relabelled_alike_is_summed() -> None:
    """As with Prometheus' relabelling, series fall together."""
    reading = Reading(TEXT, {"task": lambda _: "any", "worker": str.upper})

    assert reading.by(tasks.OUTCOMES, "task") == {"any": 15}


def test_a_histogram_is_counted() -> None:
    """By its number of observations."""
    reading = Reading('celery_task_runtime_seconds_count{task="a"} 4\ncelery_task_runtime_seconds_count{task="b"} 3\n')

    assert (reading.count(tasks.RUNTIME), reading.count(tasks.RUNTIME, task="b")) == (7, 3)


def test_what_is_absent_sums_to_nothing_and_has_no_largest() -> None:
    """A family that is not there reads as an empty sum, but not as a value of 0."""
    reading = Reading("")

    assert reading.total(tasks.OUTCOMES) == 0
    assert reading.by(tasks.OUTCOMES, "task") == {}
    assert math.isnan(reading.largest(observer.EVENT_LAG))
    assert math.isnan(reading.quantile(0.5, tasks.RUNTIME))


def test_a_quantile_is_taken_over_all_series_together() -> None:
    """Buckets of several series are added before a quantile is estimated."""
    reading = Reading(TEXT)

    assert reading.quantile(0.5, tasks.RUNTIME, task="a", outcome="succeeded") == pytest.approx(1.0)
    assert reading.quantile(0.5, tasks.RUNTIME, task="a") == pytest.approx(1.0 + 2 / 6)


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        (0.5, [(1.0, 10), (math.inf, 10)], 0.5),
        (0.95, [(1.0, 0), (2.0, 100), (math.inf, 100)], 1.95),
        (0.5, [(1.0, 5), (2.0, 5), (4.0, 10), (math.inf, 10)], 1.0),
        (0.99, [(1.0, 5), (2.0, 5), (math.inf, 10)], 2.0),
        (0.5, [(1.0, 0), (math.inf, 3)], 1.0),
    ],
    ids=["first bucket", "within a bucket", "at a bound", "above the last bound", "all above"],
)
def test_a_quantile_is_linear_within_its_bucket(q: float, buckets: list[tuple[float, int]], expected: float) -> None:
    """The estimate is that of histogram_quantile."""
    assert quantile(q, buckets) == pytest.approx(expected)


def test_a_histogram_without_observations_has_no_quantile() -> None:
    """Nothing observed is not zero seconds."""
    assert math.isnan(quantile(0.5, []))
    assert math.isnan(quantile(0.5, [(1.0, 0), (math.inf, 0)]))
