"""The families of other exporters: declared as ours are, fed by the same facts, beside ours without a clash."""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from pathlib import Path

import pytest

from celery_observe import gauges
from celery_observe.compat import PEERS, Compat, celery_exporter, flower
from celery_observe.compat.peer import ANNOUNCED, host_of
from celery_observe.fact import (
    Cause,
    CustomEvent,
    Ended,
    Fact,
    Failed,
    Outcome,
    Published,
    Received,
    Started,
    WorkerForgotten,
    WorkerSeen,
    WorkerUp,
)
from celery_observe.metrics import CATALOGUE, Family, Kind, queues, tasks, workers
from celery_observe.page import Page
from celery_observe.recorder import Recorder
from celery_observe.series import OTHER
from unit.world import WORKER, World

ROOT = Path(__file__).parents[2]
WHERE = ("t", "q", "w@h")
FAMILIES = [family for peer in PEERS.values() for family in peer.families]
OURS = {family.name: family for family in CATALOGUE}
KEY = ("t", "h", "q")


def recorder(*peers: str, prefix: str = "celery_", worker_label: bool = False, max_series: int = 100) -> Recorder:
    """A recorder of our families and theirs."""
    compat = Compat(peers or PEERS, prefix)
    found = Recorder(catalogue=compat.extend(CATALOGUE), worker_label=worker_label, max_series=max_series)
    compat.watch(found)
    return found


def told(found: Recorder, *facts: Fact) -> Recorder:
    """The recorder, which was told these."""
    found.record_all(list(facts))
    return found


every_family = pytest.mark.parametrize("family", FAMILIES, ids=attrgetter("name"))


@every_family
def test_what_a_declaration_names_can_be_read(family: Family) -> None:
    """Labels and value are attributes of each fact that feeds the family, or have a function of their own."""
    read = {*family.labels, *([family.value] if isinstance(family.value, str) else [])} - dict(family.read).keys()
    feeds = [kind for kind in (family.on, *family.also_on) if kind is not None]

    assert all(read <= set(kind.__struct_fields__) for kind in feeds)
    assert family.zero_on is None or read - {family.zero_label} <= set(family.zero_on.__struct_fields__)


@pytest.mark.parametrize("peer", PEERS)
def test_what_no_fact_feeds_follows_from_ours(peer: str) -> None:
    """Each gauge of a peer has its source; the only other one is counted by the tracker."""
    unfed = {family.name for family in PEERS[peer].families if family.on is None}

    assert unfed - {flower.PREFETCHED.name} == {each.family.name for each in PEERS[peer].derived}


@every_family
def test_a_name_that_is_ours_too_is_one_family_with_the_labels_of_both(family: Family) -> None:
    """Of one type, fed by one fact, so that the sums over the labels of either are right."""
    both = [each for each in Compat(PEERS).extend(CATALOGUE) if each.name == family.name]

    assert len(both) == 1
    ours = OURS.get(family.name)
    if ours is not None:
        assert both[0].labels == (*ours.labels, *family.labels)
        assert (ours.kind, ours.on, ours.value) == (family.kind, family.on, family.value)


def test_these_names_are_those_of_both() -> None:
    """As docs/compatibility.md says."""
    assert sorted(family.name for family in FAMILIES if family.name in OURS) == [
        "celery_task_received_total",
        "celery_task_started_total",
        "celery_worker_up",
    ]


def test_nothing_is_served_that_was_not_asked_for() -> None:
    """The catalogue is ours."""
    assert Compat().extend(CATALOGUE) == CATALOGUE


def test_no_page_has_two_families_of_one_name() -> None:
    """Prometheus would refuse it."""
    found = told(
        recorder(), Received(*WHERE), Started(*WHERE, 0.1), WorkerUp("w@h", 1), WorkerSeen("w@h", 1, 0, 1, 1, 1)
    )

    types = [line for line in Page().render([found], live=[True]).decode().splitlines() if line.startswith("# TYPE")]

    assert len(set(types)) == len(types)
    assert "# TYPE celery_task_received_total counter" in types


def test_an_attempt_counts_in_the_families_of_both() -> None:
    """By name, host and queue with celery-exporter."""
    found = told(recorder(), Published("t", "q", "gen7@web"), Received(*WHERE), Started(*WHERE, 0.1))
    told(found, Ended(*WHERE, Outcome.SUCCEEDED, 2.0))

    assert found[celery_exporter.SENT].values == {("t", "generic", "q"): 1}
    assert found[celery_exporter.RECEIVED].values == {("t", "q", *KEY): 1}
    assert found[celery_exporter.STARTED].values == {("t", "q", *KEY): 1}
    assert found[celery_exporter.SUCCEEDED].values == {KEY: 1}
    assert found[celery_exporter.RUNTIME].histograms[KEY].total == 2.0
    assert found[tasks.OUTCOMES].values["t", "q", "succeeded"] == 1


def test_the_counters_of_a_task_start_at_zero_with_its_first_message() -> None:
    """As with celery-exporter: else rate() would lose the first failure."""
    found = told(recorder(), Received(*WHERE))

    assert found[celery_exporter.RETRIED].values == {KEY: 0}
    assert found[celery_exporter.FAILED].values == {("t", "h", "", "q"): 0}


def test_zeros_leave_room_for_what_happens() -> None:
    """A full family has none."""
    found = told(recorder(max_series=1), Received("a", "q", "w@h"), Received("b", "q", "w@h"))

    told(found, Ended("b", "q", "w@h", Outcome.RETRIED, None))

    assert found[celery_exporter.RETRIED].values == {("a", "h", "q"): 0, (OTHER, OTHER, OTHER): 1}


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_counts_as_the_event_that_announces_it(outcome: Outcome) -> None:
    """And nowhere if Celery says nothing of it; failures are counted with their exception."""
    found = told(recorder(), Ended(*WHERE, outcome, None))

    by_event = {
        f"task-{name}": getattr(celery_exporter, name.upper())
        for name in ("succeeded", "rejected", "revoked", "retried")
    }
    event = ANNOUNCED.get(outcome)
    assert [each for each, family in by_event.items() if found[family].values] == [event] * (event in by_event)
    assert found[flower.EVENTS].values == ({("w@h", event, "t"): 1} if event else {})


def test_a_failure_counts_once_under_the_name_of_its_exception() -> None:
    """Not once more for each announcement."""
    found = told(recorder(), Failed(*WHERE, "TimeLimitExceeded", Cause.HARD_TIME_LIMIT))

    assert found[celery_exporter.FAILED].values == {("t", "h", "TimeLimitExceeded", "q"): 1}


def test_only_successes_have_a_runtime() -> None:
    """With ours, all attempts have."""
    found = told(recorder(), Ended(*WHERE, Outcome.FAILED, 2.0))

    assert not found[celery_exporter.RUNTIME].histograms
    assert not found[flower.RUNTIME].histograms
    assert found[tasks.RUNTIME].histograms


def test_bounds_that_are_set_are_those_of_theirs_too() -> None:
    """As `--buckets` and `--task_runtime_metric_buckets` were."""
    found = Recorder(catalogue=Compat(PEERS).extend(CATALOGUE), runtime_buckets=(1.0, 2.0))

    assert found[celery_exporter.RUNTIME].family.buckets == found[flower.RUNTIME].family.buckets == (1.0, 2.0)


def test_families_that_are_shared_have_the_worker_too_where_that_is_asked_for() -> None:
    """`--worker-label` goes on to mean the same."""
    found = told(recorder(worker_label=True), Received(*WHERE))

    assert found[tasks.RECEIVED].values == {("t", "q", *KEY, "w@h"): 1}
    assert found[celery_exporter.RETRIED].family.labels == celery_exporter.RETRIED.labels


def test_a_prefix_is_that_of_all_names_of_celery_exporter() -> None:
    """Then nothing is shared; Flower has a prefix of its own."""
    compat = Compat(PEERS, "shop_")
    names = {family.name for family in compat.families}

    assert {name.partition("_")[0] for name in names} == {"shop", "flower"}
    assert not names & OURS.keys()
    assert {each.family.name for each in compat.derived} <= names


def test_a_host_is_forgotten_with_the_last_worker_on_it() -> None:
    """Its name may never come again; but what another worker there has counted stays."""
    found = told(recorder("celery-exporter"), WorkerUp("a@h", 1), WorkerUp("b@h", 1), WorkerUp("c@other", 1))
    told(found, Received("t", "q", "a@h"), Received("t", "q", "c@other"), Published("t", "q", "gen1@h"))

    told(found, WorkerForgotten("a@h"))
    assert found[celery_exporter.RETRIED].values == {KEY: 0, ("t", "other", "q"): 0}

    told(found, WorkerForgotten("b@h"))
    assert found[celery_exporter.RETRIED].values == {("t", "other", "q"): 0}
    assert found[celery_exporter.SENT].values == {("t", "generic", "q"): 1}
    assert found[workers.UP].values == {("c@other", "other"): 1}

    told(found, Received("t", "q", "a@h"))
    assert found[celery_exporter.RETRIED].values == {KEY: 0, ("t", "other", "q"): 0}


def test_gauges_follow_from_ours() -> None:
    """All priorities of a queue, all workers of a host; a queue without workers has none, which is no absence."""
    compat = Compat(PEERS)
    found = told(recorder(), *(WorkerSeen(name, 1, 0, 1, 2, 1) for name in ("a@h", "b@h")))
    told(found, WorkerUp("a@h", 1), WorkerUp("b@h", 0))
    found[queues.WAITING].replace({("q", "0"): 2, ("q", "9"): 3, ("idle", ""): 1})
    found[queues.SLOTS].replace({("q",): 4, ("idle",): 0})
    found[workers.CONSUMES].replace({("a@h", "q"): 1, ("b@h", "q"): 1})

    compat.derive(found)

    assert found[celery_exporter.WORKER_TASKS_ACTIVE].values == {("h",): 4}
    assert found[celery_exporter.QUEUE_LENGTH].values == {("q",): 5, ("idle",): 1}
    assert found[celery_exporter.ACTIVE_WORKERS].values == {("q",): 1, ("idle",): 0}
    assert found[celery_exporter.ACTIVE_PROCESSES].values == {("q",): 4, ("idle",): 0}
    assert found[celery_exporter.ACTIVE_CONSUMERS].values == {}


def test_flower_counts_events_and_takes_waits_back() -> None:
    """Custom events too; publishers, of which there is no end, are one."""
    found = told(recorder("flower"), Published("t", "q", "gen7@web"), Received(*WHERE), Started(*WHERE, 1.5))
    told(found, CustomEvent(*WHERE, "task-progress"), WorkerSeen("w@h", 1, 0, 1, 2, 1), WorkerUp("w@h", 1))
    assert found[flower.PREFETCH_TIME].values == {("w@h", "t"): 1.5}

    told(found, Ended(*WHERE, Outcome.SUCCEEDED, 2.0))

    assert found[flower.EVENTS].values == {
        ("generic", "task-sent", "t"): 1,
        ("w@h", "task-received", "t"): 1,
        ("w@h", "task-started", "t"): 1,
        ("w@h", "task-progress", "t"): 1,
        ("w@h", "task-succeeded", "t"): 1,
    }
    assert found[flower.PREFETCH_TIME].values == {("w@h", "t"): 0}
    assert found[flower.RUNTIME].histograms["w@h", "t"].total == 2.0
    assert found[flower.EXECUTING].values == {("w@h",): 2}
    assert found[flower.ONLINE].values == {("w@h",): 1}


def test_what_a_worker_holds_is_counted_until_it_starts() -> None:
    """But not what waits for its ETA, nor what a worker held that is gone."""
    world, found = World(), recorder("flower")
    world.play("r", uuid="a").play("r", uuid="b").play("r", uuid="c", eta="2030-01-01T00:00:00").say("worker-heartbeat")
    gauges.write_prefetched(found, world.tracker.prefetched)
    assert found[flower.PREFETCHED].values == {(WORKER, "t"): 2}

    world.play("st", uuid="a")
    gauges.write_prefetched(found, world.tracker.prefetched)
    assert found[flower.PREFETCHED].values == {(WORKER, "t"): 1}

    world.say("worker-offline")
    gauges.write_prefetched(found, world.tracker.prefetched)
    assert found[flower.PREFETCHED].values == {(WORKER, "t"): 0}


def test_of_what_started_at_once_nothing_is_held() -> None:
    """That is known, so it is 0 and not absent."""
    world, found = World(), told(recorder("flower"), Started("t", "q", WORKER, 0.0))

    gauges.write_prefetched(found, world.tracker.prefetched)

    assert found[flower.PREFETCHED].values == {(WORKER, "t"): 0}


def test_nobody_counts_what_is_held_unless_flower_is_asked_for() -> None:
    """It takes a look at each task."""

    def count() -> Counter[tuple[str, ...]]:
        raise AssertionError

    gauges.write_prefetched(Recorder(), count)


@pytest.mark.parametrize(("worker", "host"), [("celery@h", "h"), ("a@h@i", "h@i"), ("h", "h"), ("@h", "h")])
def test_a_host_is_what_stands_after_the_first_at(worker: str, host: str) -> None:
    """As with Celery's `nodesplit`."""
    assert host_of(worker) == host


@every_family
def test_the_page_of_compatibility_tells_of_each_family(family: Family) -> None:
    """docs/compatibility.md says what it is fed by, and where it differs."""
    assert f"| `{family.name}` |" in (ROOT / "docs" / "compatibility.md").read_text()


def test_histograms_of_theirs_are_no_gauges() -> None:
    """Kinds are those of the peers; a test with the peers holds the rest."""
    assert {family.name for family in FAMILIES if family.kind is Kind.HISTOGRAM} == {
        "celery_task_runtime",
        "flower_task_runtime_seconds",
    }
