"""Facts become samples: by declaration, within bounds, and gone when their worker is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_observe.fact import (
    Cause,
    CustomEvent,
    Ended,
    Fact,
    Failed,
    Finished,
    Labelled,
    Outcome,
    Received,
    Started,
    Unobserved,
    Waited,
    WorkerExited,
    WorkerForgotten,
    WorkerIdentified,
    WorkerSeen,
    WorkerUp,
)
from celery_observe.fact import Exit as How
from celery_observe.metrics import CATALOGUE, RUNTIME_BUCKETS, observer, tasks, workers
from celery_observe.recorder import Recorder
from celery_observe.series import OTHER, Exemplar


def ended(task: str = "t", *, worker: str = "w@h", runtime: float | None = 1.0) -> Ended:
    """A task that succeeded."""
    return Ended(task, "q", worker, Outcome.SUCCEEDED, runtime)


def seen(worker: str, *, processed: int | None = 3) -> WorkerSeen:
    """A heartbeat."""
    return WorkerSeen(worker, 1.0, 0.0, processed, 1, 0.5)


def test_a_fact_counts_in_every_family_that_wants_it() -> None:
    """One end is one outcome and one runtime."""
    recorder = Recorder()

    recorder.record(ended())

    assert recorder[tasks.OUTCOMES].values == {("t", "q", "succeeded"): 1}
    assert recorder[tasks.RUNTIME].histograms["t", "q", "succeeded"].total == 1.0


def test_a_fact_that_comes_to_pass_so_many_times_counts_as_often() -> None:
    """However its families look, whoever listens, and whether there is room or not."""
    recorder = Recorder(max_series=2)
    heard: list[Fact] = []
    recorder.also(Waited, heard.append)

    for task, times in (("a", 2), ("b", 3), ("c", 4), ("a", 5)):
        recorder.record_alike(Received(task, "q", "w@h"), times, {})
    recorder.record_alike(ended("a"), 3, {})
    recorder.record_alike(Waited("a", "q", "w@h", 1.0), 2, {})
    recorder.record_alike(Labelled("a", "q", "w@h", Outcome.SUCCEEDED, 1.0), 2, {})  # which no family wants
    recorder.count_overflow()

    received = recorder[tasks.RECEIVED].values
    assert received == {("a", "q"): 7, ("b", "q"): 3, (OTHER, OTHER): 4}
    assert recorder[tasks.OUTCOMES].values["a", "q", "succeeded"] == 3
    assert recorder[tasks.RUNTIME].histograms["a", "q", "succeeded"].total == 3.0
    assert len(heard) == 2
    assert recorder[observer.SERIES_OVERFLOW].values["celery_task_received_total",] == 4


seconds = st.none() | st.sampled_from([0.0, 0.1, 0.11, 5.0, 1e9]) | st.floats(0, 1e6)
starts = st.builds(Started, task=st.sampled_from("ab"), queue=st.just("q"), worker=st.just("w@h"), worker_wait=seconds)


@given(st.lists(st.tuples(starts, st.lists(seconds, min_size=1)), max_size=8), st.sampled_from([1, 2, 2000]))
def test_facts_that_are_alike_count_as_one_by_one(runs: list[tuple[Started, list[float | None]]], room: int) -> None:
    """Whether there is room for their series or not, and whatever is known of each."""
    together, one_by_one = Recorder(max_series=room), Recorder(max_series=room)

    for fact, waits in runs:
        together.record_alike(fact, len(waits), {"queue_wait": waits})
        for wait in waits:
            one_by_one.record(msgspec.structs.replace(fact, queue_wait=wait))

    for name, series in together.series.items():
        other = one_by_one.series[name]
        assert (series.values, series.overflowed) == (other.values, other.overflowed)
        assert series.histograms.keys() == other.histograms.keys()
        for labels, histogram in series.histograms.items():
            assert histogram.counts == other.histograms[labels].counts
            assert histogram.total == pytest.approx(other.histograms[labels].total)


def test_a_value_that_is_not_known_is_not_counted() -> None:
    """None is not zero."""
    recorder = Recorder()

    recorder.record(ended(runtime=None))
    recorder.record(Waited("t", "q", "w@h", None))
    recorder.record(seen("w@h", processed=None))

    assert not recorder[tasks.RUNTIME].histograms
    assert not recorder[tasks.QUEUE_WAIT].histograms
    assert not recorder[workers.PROCESSED].values


def test_a_cumulative_counter_takes_the_total_as_it_is_told() -> None:
    """A worker counts what it processed by itself, and begins anew when it restarts."""
    recorder = Recorder()

    for processed in (5, 9, 2):
        recorder.record(seen("w@h", processed=processed))

    assert recorder[workers.PROCESSED].values == {("w@h",): 2}


def test_a_counter_of_amounts_adds_them() -> None:
    """Three and then two more are five."""
    recorder = Recorder()

    recorder.record(Unobserved("w@h", 3))
    recorder.record(Unobserved("w@h", 2))

    assert recorder[observer.TASKS_UNOBSERVED].values == {("w@h",): 5}


def test_outcomes_start_at_zero_when_their_task_starts() -> None:
    """Else rate() would lose the first failure."""
    recorder = Recorder()

    recorder.record(Started("t", "q", "w@h", None))
    recorder.record(Failed("t", "q", "w@h", "ValueError", Cause.EXCEPTION))

    assert recorder[tasks.OUTCOMES].values == {
        ("t", "q", "succeeded"): 0,
        ("t", "q", "failed"): 0,
        ("t", "q", "retried"): 0,
    }


def test_outcomes_start_at_zero_though_one_was_told_before() -> None:
    """The start of the attempt before was lost."""
    recorder = Recorder()

    recorder.record(Ended("t", "q", "w@h", Outcome.RETRIED, None))
    recorder.record(Started("t", "q", "w@h", None))

    assert set(recorder[tasks.OUTCOMES].values.values()) == {0, 1}
    assert len(recorder[tasks.OUTCOMES].values) == 3


TRACE, OTHER_TRACE = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_bucket_remembers_the_trace_of_its_last_observation() -> None:
    """And when that was read."""
    recorder = Recorder(runtime_buckets=(1.0, 5.0))
    recorder.exemplify()
    for at, runtime, trace in ((1.0, 0.5, TRACE), (2.0, 0.7, OTHER_TRACE), (3.0, 9.0, TRACE), (4.0, 0.6, None)):
        recorder.now = at
        recorder.record(Ended("t", "q", "w@h", Outcome.SUCCEEDED, runtime, trace_id=trace))

    histogram = recorder[tasks.RUNTIME].histograms["t", "q", "succeeded"]

    assert histogram.exemplars == [Exemplar(OTHER_TRACE, 0.7, 2.0), None, Exemplar(TRACE, 9.0, 3.0)]
    assert histogram.counts == [3, 0, 1]
    assert recorder[tasks.TOTAL].histograms == {}


def test_traces_are_named_only_if_asked_for() -> None:
    """It costs nothing otherwise."""
    recorder = Recorder()
    recorder.record(Ended("t", "q", "w@h", Outcome.SUCCEEDED, 1.0, trace_id=TRACE))

    assert recorder[tasks.RUNTIME].histograms["t", "q", "succeeded"].exemplars is None


def test_what_is_counted_as_other_names_no_trace() -> None:
    """It would be that of any task, and each would count as one more that found no room."""
    recorder = Recorder(max_series=1)
    recorder.exemplify()
    for task in ("a", "b"):
        recorder.record(Ended(task, "q", "w@h", Outcome.SUCCEEDED, 1.0, trace_id=TRACE))

    series = recorder[tasks.RUNTIME]
    assert [histogram.exemplars is not None for histogram in series.histograms.values()] == [True, False]
    assert series.overflowed == 1


def test_counters_without_labels_start_at_zero() -> None:
    """Those with labels are not there until something happened."""
    recorder = Recorder()

    recorder.start_at_zero()

    assert recorder[observer.DUPLICATE_OUTCOMES].values == {(): 0}
    assert not recorder[tasks.OUTCOMES].values
    assert not recorder[observer.STREAM_UP].values


def test_a_worker_has_one_version() -> None:
    """The one that it runs now."""
    recorder = Recorder()

    for worker, version in (("a@h", "5.6.3"), ("b@h", "5.6.3"), ("a@h", "5.7.0")):
        recorder.record(WorkerIdentified(worker, version, "prefork"))

    assert recorder[workers.INFO].values == {("b@h", "5.6.3", "prefork"): 1, ("a@h", "5.7.0", "prefork"): 1}


# -- buckets


def test_an_observation_falls_into_its_bucket() -> None:
    """The one whose bound it does not exceed."""
    recorder = Recorder(runtime_buckets=(1.0, 2.0))

    for runtime in (0.5, 1.0, 1.5, 99.0):
        recorder.record(ended(runtime=runtime))

    child = recorder[tasks.RUNTIME].histograms["t", "q", "succeeded"]
    assert (child.bounds, child.counts, child.total) == ((1.0, 2.0), [2, 1, 1], 102.0)


def test_buckets_may_be_chosen_for_a_task() -> None:
    """Others keep those of the catalogue."""
    recorder = Recorder(buckets_of=lambda task: (60.0,) if task == "slow" else None)

    recorder.record(ended("slow"))
    recorder.record(ended("t"))

    bounds = {labels[0]: child.bounds for labels, child in recorder[tasks.RUNTIME].histograms.items()}
    assert bounds == {"slow": (60.0,), "t": RUNTIME_BUCKETS}


def test_buckets_of_waits_are_those_of_the_catalogue() -> None:
    """What is set is the runtime's."""
    recorder = Recorder(runtime_buckets=(1.0,), buckets_of=lambda _task: (2.0,))

    recorder.record(Waited("t", "q", "w@h", 1.0))

    assert recorder[tasks.QUEUE_WAIT].histograms["t", "q"].bounds == tasks.QUEUE_WAIT.buckets


# -- bounds


def test_a_full_family_counts_under_other() -> None:
    """What is bounded by nature, such as the outcome, keeps its value."""
    recorder = Recorder(max_series=2)

    for task in ("a", "b", "c", "d", "a"):
        recorder.record(ended(task))

    assert recorder[tasks.OUTCOMES].values == {
        ("a", "q", "succeeded"): 2,
        ("b", "q", "succeeded"): 1,
        (OTHER, OTHER, "succeeded"): 2,
    }
    assert recorder[tasks.RUNTIME].histograms[OTHER, OTHER, "succeeded"].total == 2.0


def test_a_full_family_of_gauges_drops_what_is_new() -> None:
    """A sum over strangers means nothing."""
    recorder = Recorder(max_series=2)

    for worker in ("a@h", "b@h", "c@h"):
        recorder.record(WorkerUp(worker, 1))
    recorder.record(WorkerUp("a@h", 0))

    assert recorder[workers.UP].values == {("a@h",): 0, ("b@h",): 1}


def test_a_full_family_of_totals_drops_what_is_new() -> None:
    """Totals that others count cannot be added up as if they were ours."""
    recorder = Recorder(max_series=1)

    recorder.record(seen("a@h"))
    recorder.record(seen("b@h"))

    assert recorder[workers.PROCESSED].values == {("a@h",): 3}


def test_what_found_a_family_full_is_counted() -> None:
    """By family, and only where it happened."""
    recorder = Recorder(max_series=2)
    for task in ("a", "b", "c", "d"):
        recorder.record(CustomEvent(task, "q", "w@h", "task-x"))

    recorder.count_overflow()

    assert recorder[observer.SERIES_OVERFLOW].values == {(tasks.CUSTOM_EVENTS.name,): 2}


def test_zeros_fill_no_family() -> None:
    """They are a courtesy: they leave the room to what happened, and overflow nothing."""
    recorder = Recorder(max_series=4)
    for task in ("a", "b", "c"):
        recorder.record(Started(task, "q", "w@h", None))

    recorder.count_overflow()

    assert len(recorder[tasks.OUTCOMES].values) == 3
    assert (tasks.OUTCOMES.name,) not in recorder[observer.SERIES_OVERFLOW].values


# -- workers that are forgotten


def test_a_forgotten_worker_leaves_every_family() -> None:
    """By the label `worker`."""
    recorder = Recorder()
    for fact in (
        seen("w@h"),
        WorkerUp("w@h", 0),
        WorkerIdentified("w@h", "5.7.0"),
        WorkerExited("w@h", How.LOST),
        Unobserved("w@h", 1),
    ):
        recorder.record(fact)

    recorder.record(WorkerForgotten("w@h"))

    assert not [series.family.name for series in recorder.series.values() if series.values or series.histograms]


def test_a_forgotten_worker_takes_nobody_with_it() -> None:
    """A task or a queue may have its name, and other workers its host."""
    recorder = Recorder()
    recorder.record(seen("w@h"))
    recorder.record(seen("v@h"))
    recorder.record(Ended("w@h", "w@h", "w@h", Outcome.SUCCEEDED, 1.0))
    recorder.record(CustomEvent("w@h", "q", "w@h", "w@h"))

    recorder.record(WorkerForgotten("w@h"))

    assert recorder[workers.PROCESSED].values == {("v@h",): 3}
    assert recorder[tasks.OUTCOMES].values == {("w@h", "w@h", "succeeded"): 1}
    assert recorder[tasks.RUNTIME].histograms.keys() == {("w@h", "w@h", "succeeded")}
    assert recorder[tasks.CUSTOM_EVENTS].values == {("w@h", "w@h"): 1}


def test_a_forgotten_worker_leaves_tasks_that_carry_its_label() -> None:
    """With the setting that adds it; histograms too, and zeros come anew when it comes back."""
    recorder = Recorder(worker_label=True)
    for worker in ("w@h", "v@h"):
        recorder.record(Started("t", "q", worker, 0.1))
        recorder.record(ended(worker=worker))

    recorder.record(WorkerForgotten("w@h"))
    left = {labels[-1] for labels in recorder[tasks.OUTCOMES].values}
    recorder.record(Started("t", "q", "w@h", 0.1))

    assert left == {labels[-1] for labels in recorder[tasks.RUNTIME].histograms} == {"v@h"}
    assert recorder[tasks.OUTCOMES].values["t", "q", "failed", "w@h"] == 0


def test_the_worker_label_is_added_to_what_facts_of_a_task_feed() -> None:
    """And to nothing else."""
    plain = {family.name: family.labels for family in CATALOGUE}
    labelled = {name: series.family.labels for name, series in Recorder(worker_label=True).series.items()}

    added = {name for name in plain if labelled[name] == (*plain[name], "worker")}
    assert all(labelled[name] == plain[name] for name in plain.keys() - added)
    assert {family.name for family in (tasks.OUTCOMES, tasks.STARTED, tasks.RUNTIME, tasks.FAILURES)} <= added
    assert tasks.RUNNING.name not in added


def test_who_also_wants_a_kind_of_fact_gets_it_once_it_is_counted() -> None:
    """One by one or many at once; of other kinds nothing."""
    recorder, got = Recorder(), list[tuple[Fact, float]]()
    outcomes = recorder[tasks.OUTCOMES]
    recorder.also(Ended, lambda fact: got.append((fact, sum(outcomes.values.values()))))
    recorder.also(Finished, lambda fact: got.append((fact, 0)))
    end, other = ended(), Finished("t", "q", "w@h", Outcome.SUCCEEDED, None)

    recorder.record(end)
    recorder.record_all([end, Started("t", "q", "w@h", None), other])

    assert got == [(end, 1), (end, 2), (other, 0)]
