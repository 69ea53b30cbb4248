"""What is written once a second from the state of the tracker."""

from __future__ import annotations

import pytest

from celery_observe import gauges
from celery_observe.metrics import observer, progress, tasks
from celery_observe.recorder import Recorder
from celery_observe.report import Progress, Running
from celery_observe.testing import make_event
from unit.world import WORKER, World


def test_what_runs_is_counted_by_task_and_queue() -> None:
    """And falls to 0 when it has ended, rather than to nothing."""
    world, recorder = World(), Recorder()
    world.play("s r st", uuid="a").play("s r st", uuid="b").play("s r st", uuid="c", queue="p")
    gauges.write(recorder, world.tracker, world.clock.now.wall)
    assert recorder[tasks.RUNNING].values == {("t", "q"): 2, ("t", "p"): 1}

    world.play("ok", uuid="c")
    gauges.write(recorder, world.tracker, world.clock.now.wall)

    assert recorder[tasks.RUNNING].values == {("t", "q"): 2, ("t", "p"): 0}


def test_the_oldest_that_runs_is_told_while_there_is_one() -> None:
    """Of no task, there is no age."""
    world, recorder = World(), Recorder()
    world.play("s r st", uuid="a", queue="p")
    world.clock.advance(10.0)
    world.play("s r st", uuid="b")
    gauges.write(recorder, world.tracker, world.clock.now.wall)
    assert recorder[tasks.OLDEST_RUNNING].values == {("t",): pytest.approx(10.0, abs=0.1)}

    world.play("ok", uuid="a").play("ok", uuid="b")
    gauges.write(recorder, world.tracker, world.clock.now.wall)

    assert recorder[tasks.OLDEST_RUNNING].values == {}


def test_what_those_that_run_have_told_is_summed_up_by_task() -> None:
    """The mean of what is done, the longest silence; counts fall to 0, what nobody tells any more is absent."""
    recorder = Recorder()
    attempt = Running("a", "t", 0.0)
    told = [
        ("t", Progress(90.0, WORKER, attempt, state="CHARGING", ratio=0.2)),
        ("t", Progress(95.0, WORKER, attempt, state="CHARGING", ratio=0.6)),
        ("t", Progress(10.0, WORKER, attempt, waiting=10.0)),
    ]

    gauges.write_progress(recorder, told, 100.0)

    assert recorder[progress.IN_STATE].values == {("t", "CHARGING"): 2}
    assert recorder[progress.BLOCKED].values == {("t",): 1}
    assert recorder[progress.RATIO].values == {("t",): pytest.approx(0.4)}
    assert recorder[progress.AGE].values == {("t",): 10.0}

    gauges.write_progress(recorder, [], 101.0)

    assert recorder[progress.IN_STATE].values == {("t", "CHARGING"): 0}
    assert recorder[progress.BLOCKED].values == {("t",): 0}
    assert recorder[progress.RATIO].values == recorder[progress.AGE].values == {}


def test_events_are_counted_once() -> None:
    """Those since the last time are added."""
    world, recorder = World(), Recorder()
    for _ in range(2):
        world.play("s r st")
        gauges.write(recorder, world.tracker, world.clock.now.wall)

    assert recorder[observer.EVENTS].values == {("task-sent",): 2, ("task-received",): 2, ("task-started",): 2}
    assert recorder[observer.TRACKER_TASKS].values == {(): len(world.tracker)}


def test_the_lag_is_the_age_of_an_event_by_our_clock() -> None:
    """The skew of its sender is known from heartbeats; of a stranger none is known, and no lag is negative."""
    world, recorder = World().beat(ago=60.0), Recorder()
    now = world.clock.now.wall

    lags = []
    for sent, sender in ((now - 62.0, world.fleet.get(WORKER)), (now - 1.5, None), (now + 5.0, None)):
        gauges.write_lag(recorder, make_event("task-sent", timestamp=sent), sender, now)
        lags.append(recorder[observer.EVENT_LAG].values[()])

    assert lags == [pytest.approx(2.0), pytest.approx(1.5), 0.0]
