"""Whatever the order in which Celery speaks, an attempt has one start and one outcome."""

from __future__ import annotations

import pytest

from celery_observe.fact import (
    DuplicateExecution,
    DuplicateOutcome,
    Ended,
    Finished,
    Published,
    Received,
    Redelivered,
    Started,
    Waited,
)
from unit.world import World

ORDERS = [
    ("s r st ok", "succeeded"),
    ("r s st ok", "succeeded"),
    ("r st s ok", "succeeded"),
    ("r st ok s", "succeeded"),
    ("st ok r s", "succeeded"),
    ("s r st f", "failed"),
    ("r st f s", "failed"),
    ("s rv", "revoked"),
    ("rv s", "revoked"),
    ("ex s", "expired"),
    ("s r st tm", "terminated"),
    ("s r st tm ok", "terminated"),
    ("s r st rj", "rejected"),
    ("s un", "unregistered"),
    ("un s", "unregistered"),
    ("s r st f f", "failed"),
    ("s r st cn ok", "cancelled"),
    ("s r st s1 r1 rt st ok", "retried succeeded"),
    ("s r st s1 rt r1 st ok", "retried succeeded"),
    ("s r st rt s1 r1 st ok", "retried succeeded"),
    ("s s1 r st rt r1 st ok", "retried succeeded"),
    ("s r st r1 s1 rt st ok", "retried succeeded"),
    ("s r st r1 rt st s1 ok", "retried succeeded"),
    ("r st s1 s r1 rt st ok", "retried succeeded"),
    ("s r st s1 r1 st rt ok", "retried succeeded"),
    ("s r st s1 r1 st ok rt", "succeeded retried"),
    ("s r st r1 st ok rt s1", "succeeded retried"),
    ("s r st s1 r1 st f rt", "failed retried"),
    ("s r st s1 r1 st rt s2 r2 st rt f", "retried retried failed"),
    ("s r st s1 r1 st s2 r2 rt rt st ok", "retried retried succeeded"),
    ("s r st s1 r1 st r2 s2 rt st rt ok", "retried retried succeeded"),
    ("s r st s1 r1 st s2 r2 st rt rt ok", "retried retried succeeded"),
    ("s r st s1 r1 st s2 r2 rt s3 r3 rt st rt st ok", "retried retried retried succeeded"),
    ("s r st rq r st ok", "rejected succeeded"),
    ("s r st rj f r st ok", "rejected succeeded"),
    ("s r st rq f r st ok", "rejected succeeded"),
    ("s r st f rq r st ok", "failed succeeded"),
    ("s r st cn r st ok", "cancelled succeeded"),
    ("s r st r st ok", "succeeded"),
    ("s r st r st ok ok", "succeeded"),
    ("s r st ok r st ok", "succeeded"),
    ("s r st ok s r st ok", "succeeded succeeded"),
    ("s r st ok s r st f", "succeeded failed"),
    ("r st ok", "succeeded"),
    ("st ok", "succeeded"),
    ("ok", "succeeded"),
    ("f", "failed"),
    ("st ok r", "succeeded"),
]


@pytest.mark.parametrize(("script", "outcomes"), ORDERS, ids=[script for script, _ in ORDERS])
def test_each_attempt_ends_once(script: str, outcomes: str) -> None:
    """However its events are ordered, repeated or late."""
    world = World().play(script).pass_time(3)

    assert sorted(world.outcomes) == sorted(outcomes.split())
    assert world.running == 0


@pytest.mark.parametrize("script", [script for script, _ in ORDERS])
def test_nothing_is_left_waiting(script: str) -> None:
    """What has ended is kept as ended; late word opens no attempt that never ends."""
    world = World().play(script).pass_time(3)

    words = [word.rstrip("0123456789") for word in script.split()]
    assert world.count(Published) == words.count("s")
    assert world.count(Started) == words.count("st")
    assert len(world.tracker) == 1


@pytest.mark.parametrize("script", [script for script, _ in ORDERS if "s " in f"{script} "])
def test_every_fact_has_the_name_and_the_queue_of_the_task(script: str) -> None:
    """Also those that were told before anyone had named them."""
    world = World().play(script).pass_time(3)

    for kind in (Published, Received, Started, Ended):
        assert {(fact.task, fact.queue) for fact in world.told(kind)} <= {("t", "q")}


@pytest.mark.parametrize("script", ["s r st ok", "r s st ok", "r st s ok", "r st ok s"])
def test_the_wait_and_the_total_are_known_in_any_order(script: str) -> None:
    """Once both ends have been told, whichever comes first."""
    world = World().play(script).pass_time(3)

    waits = [started.queue_wait for started in world.told(Started)] + [late.queue_wait for late in world.told(Waited)]
    totals = [ended.total for ended in world.told(Ended)] + [late.total for late in world.told(Finished)]
    assert sum(wait is not None for wait in waits) == 1
    assert sum(total is not None for total in totals) == 1


def test_a_publish_that_is_told_after_the_retry_began_opens_nothing() -> None:
    """It is counted, and the attempt that is under way stays as it is."""
    world = World().play("r st s1 r1 rt s st ok").pass_time(3)

    assert sorted(world.outcomes) == ["retried", "succeeded"]
    assert world.count(Published) == 2
    assert len(world.tracker) == 1


def test_the_total_runs_from_the_first_publish_to_the_final_outcome() -> None:
    """Retries are part of it, and it is told once."""
    world = World().play("s r st s1 r1 rt st ok", apart=1.0)

    assert [ended.total for ended in world.told(Ended)] == [None, pytest.approx(7.0)]


def test_a_task_that_goes_on_has_no_total() -> None:
    """Retried, requeued and cancelled tasks are not finished."""
    for script in ("s r st rt", "s r st rq", "s r st cn"):
        (ended,) = World().play(script).told(Ended)
        assert ended.total is None


def test_the_runtime_of_a_failure_and_a_retry_is_from_start_to_end() -> None:
    """Celery says it of successes only."""
    world = World().play("s r st s1 r1 rt st f", apart=1.0)

    assert [ended.runtime for ended in world.told(Ended)] == [pytest.approx(3.0), pytest.approx(1.0)]


def test_the_runtime_that_celery_measured_goes_before_ours() -> None:
    """It excludes what the worker did before and after the task."""
    world = World().play("s r st").play("ok", runtime=0.25)

    assert world.told(Ended)[0].runtime == 0.25


def test_an_outcome_from_another_worker_has_no_runtime() -> None:
    """Times of two clocks do not make one."""
    world = World().play("s r st").play("f", hostname="other@host", apart=5.0)

    assert world.told(Ended)[0].runtime is None


def test_an_outcome_told_twice_is_a_duplicate() -> None:
    """A hard time limit is announced twice."""
    world = World().play("s r st f f")

    assert world.count(DuplicateOutcome) == 1


def test_a_requeued_message_is_redelivered() -> None:
    """It is received twice, published once, and both runs count."""
    world = World().play("s r st rq r st ok")

    assert world.count(Redelivered) == 1
    assert world.count(DuplicateExecution) == 0
    waits = [started.queue_wait for started in world.told(Started)]
    assert sum(wait is not None for wait in waits) == 1, "the second run did not wait since the publish"


def test_a_message_redelivered_while_it_runs_is_executed_twice() -> None:
    """A visibility timeout has passed: two starts, one outcome."""
    world = (
        World().play("s r st").play("r st", hostname="other@host", pid=2).play("ok").play("ok", hostname="other@host")
    )

    assert (world.count(Redelivered), world.count(DuplicateExecution), world.count(DuplicateOutcome)) == (1, 1, 1)
    assert world.outcomes == ["succeeded"]


def test_of_two_executions_the_latest_is_the_one_that_runs() -> None:
    """The first worker may have lost it: its idleness says nothing about the second."""
    world = World().beat(active=0).play("s r st")
    world.play("r st", hostname="other@host", pid=2)

    world.clock.advance(2.0)
    world.beat(active=0)
    world.clock.advance(2.0)
    world.beat(active=0)

    assert world.running == 1
    assert world.outcomes == []


def test_a_message_redelivered_after_its_end_is_no_new_attempt() -> None:
    """It had been published once, and its outcome has been told."""
    world = World().play("s r st ok").pass_time(10).play("r st ok")

    assert world.outcomes == ["succeeded"]
    assert (world.count(Redelivered), world.count(DuplicateExecution), world.count(DuplicateOutcome)) == (1, 1, 1)


def test_an_id_that_is_used_again_is_a_new_attempt() -> None:
    """Some applications choose the ids of their tasks; their publishers may or may not say so."""
    announced = World().play("s r st ok").pass_time(60).play("s r st ok")
    silent = World().play("r st ok").pass_time(60).play("r st ok")

    for world in (announced, silent):
        assert world.outcomes == ["succeeded", "succeeded"]
        assert (world.count(Redelivered), world.count(DuplicateExecution)) == (0, 0)


def test_a_replaced_task_is_ignored_and_its_replacement_goes_on_under_the_same_id() -> None:
    """The replacement has a name and a queue of its own."""
    world = World().play("s r st").play("s r", name="other", queue="q2").play("st ok").pass_time(3)

    assert [(ended.task, ended.queue, str(ended.outcome)) for ended in world.told(Ended)] == [
        ("t", "q", "ignored"),
        ("other", "q2", "succeeded"),
    ]


def test_a_replacement_may_be_published_before_its_predecessor_is_received() -> None:
    """A solo worker speaks after the task."""
    world = World().play("s").play("s", name="other", queue="q2").play("r st").play("r", name="other").play("st ok")

    assert world.endings == {"t ignored": 1, "other succeeded": 1}
    assert [(fact.task, fact.queue) for fact in world.told(Published)] == [("t", "q"), ("other", "q2")]


def test_a_task_that_replaces_itself_is_ignored_and_goes_on() -> None:
    """Same name, same id, no retry."""
    world = World().play("s r st s r st ok")

    assert world.outcomes == ["ignored", "succeeded"]
    assert world.count(Redelivered) == 0


def test_a_replacement_is_seen_though_the_start_before_it_was_lost() -> None:
    """Threads lose events before 5.7."""
    world = World().play("s r").play("s r", name="other").play("st ok")

    assert world.endings == {"t ignored": 1, "other succeeded": 1}


def test_a_hidden_name_is_the_name_that_workers_give() -> None:
    """`shadow` is meant for monitoring; publishers do not tell it. A redelivery is not taken for a replacement."""
    world = World().play("s").play("r", name="hidden").play("st").play("r", name="hidden").play("ok")

    assert world.endings == {"hidden succeeded": 1}
    assert world.count(Redelivered) == 1


def test_a_retry_whose_end_was_lost_is_told_when_the_worker_is_idle() -> None:
    """The next attempt says that this one was retried."""
    world = World().play("s r st s1 r1 st ok").beat(active=0)
    world.clock.advance(2.0)

    world.beat(active=0)

    assert world.outcomes == ["succeeded", "retried"]
    assert len(world.tracker) == 1


def test_of_three_attempts_at_once_one_whose_end_was_lost_is_told_when_the_worker_is_idle() -> None:
    """Word of one of two retries is taken for that of the first, whichever it was of."""
    world = World().play("s r st s1 r1 st s2 r2 rt st ok").beat(active=0)
    world.clock.advance(2.0)

    world.beat(active=0)

    assert sorted(world.outcomes) == ["retried", "retried", "succeeded"]


def test_what_a_worker_listed_before_its_task_was_retried_is_not_the_retry() -> None:
    """Its answer may come in when another worker has already taken the retry; or nobody has."""
    for taken in ("", "r1"):
        world = World().beat().beat(hostname="other@host", pid=2)
        world.play("s r st s1 rt").play(taken, hostname="other@host", pid=2)

        world.snapshot(active=("a",))
        running = world.running
        world.beat(active=0).pass_time(3).beat(active=0)
        world.play("st ok", hostname="other@host", pid=2).pass_time(3).beat(active=0)

        assert (running, world.outcomes, world.running) == (0, ["retried", "succeeded"], 0)


def test_what_another_worker_starts_has_one_end_though_one_had_listed_it() -> None:
    """However often the first says that it executes nothing."""
    world = World().beat().snapshot(active=("a",)).play("st ok", hostname="other@host", pid=2)

    for _ in range(3):
        world.pass_time(2).beat(active=0)

    assert (world.outcomes, world.running) == (["succeeded"], 0)
