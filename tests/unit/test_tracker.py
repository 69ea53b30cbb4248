"""What the tracker knows beyond the order of events: queues, snapshots, workers that go, bounds."""

from __future__ import annotations

import pytest

from celery_observe.fact import (
    CustomEvent,
    DuplicateOutcome,
    Ended,
    EventMalformed,
    Failed,
    Published,
    Received,
    Started,
    TaskEvicted,
    WorkerExited,
)
from unit.world import WORKER, World

# -- the queue of a task


def test_the_queue_is_what_the_publisher_says() -> None:
    """task-sent goes before all else."""
    world = World(queue_of=lambda _name: "by-rule").snapshot(queues=("only",)).play("s r st ok", queue="said")

    assert {ended.queue for ended in world.told(Ended)} == {"said"}


def test_the_queue_is_the_only_one_that_the_worker_consumes() -> None:
    """Where publishers do not tell."""
    world = World(queue_of=lambda _name: "by-rule").snapshot(queues=("only",)).play("r st ok")

    assert {fact.queue for kind in (Received, Started, Ended) for fact in world.told(kind)} == {"only"}


def test_the_queue_is_that_of_a_rule_where_the_worker_consumes_several() -> None:
    """A route of the app, or a setting."""
    world = World(queue_of=lambda name: f"queue-of-{name}").snapshot(queues=("one", "two")).play("r st ok")

    assert {ended.queue for ended in world.told(Ended)} == {"queue-of-t"}


def test_a_queue_that_nobody_tells_is_unknown() -> None:
    """Never a guess presented as truth."""
    world = World().snapshot(queues=("one", "two")).play("r st ok").pass_time(3)

    assert {ended.queue for ended in world.told(Ended)} == {"unknown"}


def test_facts_wait_a_moment_for_a_publisher_that_is_late() -> None:
    """Then they go out under its queue."""
    world = World().play("r st ok")
    assert world.count(Received) == world.count(Started) == world.count(Ended) == 0

    world.play("s")

    assert [ended.queue for ended in world.told(Ended)] == ["q"]


def test_facts_do_not_wait_for_ever() -> None:
    """After two ticks they go out as they are."""
    world = World().play("r st ok").pass_time(2)

    assert [ended.queue for ended in world.told(Ended)] == ["unknown"]


def test_facts_do_not_wait_where_publishers_are_silent() -> None:
    """Nobody has sent task-sent for a minute."""
    world = World().pass_time(60).play("r st ok")

    assert [ended.queue for ended in world.told(Ended)] == ["unknown"]


# -- names


def test_a_task_counts_under_its_label() -> None:
    """Rules rename it everywhere."""
    world = World(label_of=str.upper).play("s r st ok")

    assert world.endings == {"T succeeded": 1}


def test_an_unregistered_task_has_the_name_that_its_failure_tells() -> None:
    """The event itself has none."""
    world = World().play("un", exception="NotRegistered('shop.gone')").pass_time(2)

    assert world.endings == {"shop.gone unregistered": 1}
    assert [failed.cause for failed in world.told(Failed)] == ["unregistered"]


def test_a_task_that_nobody_names_is_unknown() -> None:
    """Its publish and its receipt were lost."""
    world = World().play("st ok").pass_time(2)

    assert world.endings == {"unknown succeeded": 1}


def test_a_custom_event_counts_under_its_task() -> None:
    """It may overtake the events that name the task."""
    world = World().play("s r st").say("task-progress", uuid="a")
    early = World().say("task-progress", uuid="a").play("s r st").pass_time(2)
    stray = World().say("task-progress", uuid="a").pass_time(2)

    assert [fact.task for each in (world, early, stray) for fact in each.told(CustomEvent)] == ["t", "t", "unknown"]
    assert len(stray.tracker) == 0


def test_a_custom_event_of_no_task_is_none() -> None:
    """Gossip between workers, for example."""
    world = World().say("worker-elect")

    assert not world.told(CustomEvent)


def test_a_task_event_without_an_id_is_malformed() -> None:
    """It cannot be joined with anything."""
    world = World().say("task-started")

    assert [fact.reason for fact in world.told(EventMalformed)] == ["missing_field"]


def test_events_are_counted_by_type() -> None:
    """Whoever collects the counts clears them."""
    world = World().play("s r st ok").beat().beat()

    assert world.tracker.event_counts["worker-heartbeat"] == 2
    assert sum(world.tracker.event_counts.values()) == 6


# -- failures


def test_a_rejection_is_no_failure_whatever_celery_calls_it() -> None:
    """Celery 5.7 says task-failed, and then task-rejected."""
    text = "reject requeue=False: no"
    world = World().play("s r st").play("f", exception=text, traceback="celery.exceptions.Reject: ('no', False)\n")

    world.play("rj")

    assert world.outcomes == ["rejected"]
    assert not world.told(Failed)


def test_an_exception_of_the_application_may_be_called_reject() -> None:
    """It is a failure."""
    trace = 'Traceback\n  File "app.py", line 1, in run\n    raise Reject("x")\napp.Reject: x\n'
    world = World().play("s r st").play("f", exception="Reject('x')", traceback=trace)

    assert world.outcomes == ["failed"]
    assert world.told(Failed)[0].exception == "Reject"


def test_a_failure_counts_once() -> None:
    """A hard time limit is announced twice."""
    world = World().play("s r st f f")

    assert world.count(Failed) == 1
    assert world.count(DuplicateOutcome) == 1


def test_the_cause_of_a_requeued_kill_is_told() -> None:
    """Celery 5.7 rejects the message first and then names the hard limit."""
    world = World().play("s r st rq f r st ok")

    assert sorted(world.outcomes) == ["rejected", "succeeded"]
    assert world.count(Failed) == 1


# -- times


def test_waits_are_measured() -> None:
    """From publish to start, and from receipt to start."""
    world = World().play("s r st", apart=2.0)

    assert world.told(Started)[0].queue_wait == pytest.approx(4.0)
    assert world.told(Started)[0].worker_wait == pytest.approx(2.0)


def test_the_time_until_an_eta_is_no_wait() -> None:
    """The task was asked to wait."""
    world = World()
    world.play("s r", apart=1.0, eta="2023-11-14T22:13:25+00:00")  # 5 s after the beginning
    world.clock.advance(7.0)

    world.play("st", apart=0.0)

    assert world.told(Started)[0].queue_wait == pytest.approx(4.0)
    assert world.told(Started)[0].worker_wait == pytest.approx(4.0)


def test_the_oldest_running_task_is_known_by_our_clock() -> None:
    """Whatever the clock of its worker says."""
    world = World()
    world.clock.advance(100.0)
    world.beat(ago=30.0)  # a worker whose clock is 30 s slow

    world.say("task-received", uuid="a", name="t", ago=40.0).say("task-started", uuid="a", ago=40.0)

    (entry,) = world.tracker.running().values()
    assert entry.oldest == pytest.approx(world.clock.now.wall - 10.0)
    assert entry.count == 1


# -- snapshots


def test_a_snapshot_names_what_runs_already() -> None:
    """A restart of the observer loses no names; what it did not see start is not counted as started."""
    world = World().snapshot(active=("a",)).play("ok")

    assert world.endings == {"t succeeded": 1}
    assert world.told(Ended)[0].runtime == pytest.approx(5.0, abs=0.1)
    assert not world.told(Started)


def test_the_start_of_a_task_may_arrive_after_the_snapshot_that_shows_it() -> None:
    """It is the same start, not a second execution."""
    world = World().snapshot(active=("a",)).play("st ok").pass_time(2)

    assert world.count(Started) == 1
    assert world.outcomes == ["succeeded"]


def test_the_end_of_a_task_may_arrive_before_the_snapshot_that_shows_it() -> None:
    """The worker answered earlier than that: the task does not run again."""
    world = World().play("s r st ok").snapshot(active=("a",))

    assert world.running == 0
    assert world.outcomes == ["succeeded"]


def test_a_task_that_no_snapshot_shows_any_more_has_ended() -> None:
    """At the next heartbeat that is sure to come after its last event."""
    world = World().beat().play("s r st")
    world.clock.advance(60.0)
    world.snapshot(active=())
    assert world.outcomes == []
    world.clock.advance(2.0)

    world.beat(active=1)

    assert world.outcomes == ["ignored"]


def test_a_task_that_starts_while_the_worker_answers_goes_on() -> None:
    """Its absence from the answer says nothing."""
    world = World().beat().play("s r st").snapshot(active=())
    world.clock.advance(2.0)

    world.beat(active=1)

    assert world.running == 1


def test_a_worker_that_says_less_runs_than_we_believe_is_suspect() -> None:
    """After three heartbeats it should be asked."""
    world = World().beat().play("s r st", uuid="a").play("s r st", uuid="b")
    for _ in range(3):
        assert not world.tracker.suspects()
        world.clock.advance(2.0)
        world.beat(active=1)

    assert world.tracker.suspects() == [WORKER]


# -- silence


def idle(world: World) -> World:
    """Two heartbeats say that nothing runs."""
    world.clock.advance(2.0)
    world.beat(active=0)
    world.clock.advance(2.0)
    return world.beat(active=0)


def test_a_task_that_ended_without_a_word_was_ignored() -> None:
    """Celery 5.7 announces every other end."""
    world = World().beat(active=0).play("s r st")

    assert idle(world).outcomes == ["ignored"]


def test_a_task_that_ended_without_a_word_in_an_older_celery_has_vanished() -> None:
    """It may have ended by sys.exit."""
    world = World().beat(active=0, sw_ver="5.6.3").play("s r st")
    world.clock.advance(2.0)
    world.beat(active=0, sw_ver="5.6.3")
    world.clock.advance(2.0)

    world.beat(active=0, sw_ver="5.6.3")

    assert world.outcomes == ["vanished"]


def test_a_task_that_ran_while_the_stream_was_lost_has_vanished() -> None:
    """Its last event may have been sent then."""
    world = World().beat(active=0).play("s r st")
    world.tracker.connected(world.clock.now)

    assert idle(world).outcomes == ["vanished"]


def test_a_task_that_ran_while_events_were_lost_has_vanished() -> None:
    """The worker has accepted more tasks than it told us of; its end may be among what is missing."""
    world = World().beat(active=0, processed=0).play("s r st")
    for processed in (2, 2):
        world.clock.advance(2.0)
        world.beat(active=0, processed=processed)

    assert world.outcomes == ["vanished"]


def test_a_loss_long_ago_makes_no_task_vanish() -> None:
    """It has been counted, and later tasks are all seen."""
    world = World().beat(active=0, processed=0)
    for _ in range(5):
        world.clock.advance(2.0)
        world.beat(active=0, processed=3)
    world.play("s r st")
    for _ in range(2):
        world.clock.advance(2.0)
        world.beat(active=0, processed=4)

    assert world.outcomes == ["ignored"]


def test_a_task_of_a_worker_that_is_idle_but_started_since_goes_on() -> None:
    """One heartbeat says that nothing ran before it, not that nothing will."""
    world = World().beat(active=0).play("s r st")
    world.clock.advance(2.0)

    world.beat(active=1)

    assert world.running == 1


# -- workers that go


def test_the_last_events_of_a_worker_may_come_after_its_goodbye() -> None:
    """A warm shutdown ends the task first."""
    world = World().beat().play("s r st").say("worker-offline").pass_time(5).play("ok")

    assert world.outcomes == ["succeeded"]


def test_what_ran_on_a_worker_that_said_goodbye_vanishes_after_a_while() -> None:
    """Ten seconds of grace."""
    world = World().beat().play("s r st").say("worker-offline").pass_time(12)

    assert world.outcomes == ["vanished"]
    assert world.running == 0


def test_what_ran_on_a_worker_that_is_silent_vanishes_with_it() -> None:
    """When the worker is forgotten, not before: it may come back."""
    world = World(worker_timeout=60.0).beat().play("s r st").pass_time(59)
    assert world.outcomes == []

    world.pass_time(3)

    assert world.outcomes == ["vanished"]


def test_what_ran_in_the_process_before_vanishes_when_another_takes_its_name() -> None:
    """Another pid, or a count of accepted tasks that falls."""
    other_pid = World().beat(processed=0).play("s r st").beat(pid=2, processed=0)
    fallen = World().beat(processed=7).play("s r st").beat(processed=0)

    for world in (other_pid, fallen):
        assert world.outcomes == ["vanished"]
        assert [fact.kind for fact in world.told(WorkerExited)] == ["restarted"]


def test_a_task_that_vanished_with_its_worker_runs_again_elsewhere() -> None:
    """Its message was not acknowledged: a new run with an outcome of its own, on the same queue."""
    world = World().beat().play("s r st").beat(pid=2).play("r st ok", hostname="other@host", pid=3)

    assert world.outcomes == ["vanished", "succeeded"]
    assert {ended.queue for ended in world.told(Ended)} == {"q"}


def test_two_workers_of_one_name_do_not_end_each_others_tasks() -> None:
    """Celery warns of it, and it happens where containers share a host name."""
    world = World().beat(processed=5, active=0).beat(pid=2, processed=9, active=0)
    for _ in range(5):
        world.clock.advance(2.0)
        world.beat(processed=5, active=0).beat(pid=2, processed=10, active=1)
        world.play("s r st", pid=2, uuid=str(world.clock()))
        world.play("ok", pid=2, uuid=str(world.clock() - 0.03))

    assert set(world.outcomes) == {"succeeded"}
    assert [fact.kind for fact in world.told(WorkerExited)] == ["restarted"]


def test_a_process_takes_its_name_back_when_the_other_has_gone() -> None:
    """Pids are used again."""
    world = World().beat(processed=5).beat(pid=2, processed=0).pass_time(20)

    world.beat(processed=6).play("s r st").pass_time(1)

    worker = world.fleet.get(WORKER)
    assert worker is not None
    assert worker.ledger.pid == 1
    assert world.running == 1


# -- bounds


def test_ended_attempts_go_first_and_are_no_loss() -> None:
    """Their outcome has been told."""
    world = World(max_tasks=100)
    for number in range(300):
        world.play("s r st ok", uuid=str(number))

    assert len(world.tracker) <= 100
    assert not world.told(TaskEvicted)


def test_what_waits_goes_before_what_runs() -> None:
    """And each that goes is counted."""
    world = World(max_tasks=100).play("s r st")
    for number in range(300):
        world.play("s", uuid=str(number))

    assert len(world.tracker) <= 100
    assert sum(fact.count for fact in world.told(TaskEvicted)) == 301 - len(world.tracker)
    assert world.running == 1


def test_what_runs_goes_last() -> None:
    """It does not stay in the gauge of its worker."""
    world = World(max_tasks=100)
    for number in range(300):
        world.play("s r st", uuid=str(number))

    assert len(world.tracker) <= 100
    assert world.running == len(world.tracker)


def test_the_publish_of_a_task_is_counted_though_it_is_let_go() -> None:
    """Only what would join it with later events is lost."""
    world = World(max_tasks=10)
    for number in range(100):
        world.play("s", uuid=str(number))

    assert world.count(Published) == 100
