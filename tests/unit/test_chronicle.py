"""What traces are rebuilt from: whole attempts, in whatever order events come."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from celery_observe.chronicle import Chronicle
from celery_observe.fact import AttemptId, AttemptsReplayed, Cause, Ended, Failed, Outcome, Replayed, Traced
from celery_observe.tracing.conventions import trace_id_of
from celery_observe.tracing.replay_sampling import Sampling
from unit.world import SHORT, World

TRACEBACK = """Traceback (most recent call last):
  File "/app/shop.py", line 7, in pay
    raise ValueError("card 4111")
ValueError: card 4111
"""


def world(**options: Any) -> World:
    """A world of which traces are rebuilt."""
    return World(sampling=Sampling(), **options)


def traced(told: World) -> list[Traced]:
    """All that is told of attempts, now that nothing more comes."""
    told.tracker.finish()
    return told.told(Traced)


def test_an_attempt_is_told_as_a_whole() -> None:
    """Its times as they were sent, its place and its outcome."""
    told = world()
    sent = told.clock.now.wall

    (attempt,) = traced(told.play("s r st ok", apart=1.0, root_id="r", parent_id="p"))

    assert attempt == Traced(
        task="t",
        queue="q",
        worker="celery@host",
        attempt=AttemptId("a"),
        root="r",
        outcome=Outcome.SUCCEEDED,
        published=sent + 1.0,
        eta=None,
        received=sent + 2.0,
        started=sent + 3.0,
        ended=sent + 4.0,
        estimated=False,
        runtime=1.0,
        queue_wait=2.0,
        worker_wait=1.0,
        redelivered=False,
        first=True,
        parent=AttemptId("p"),
        previous=None,
        exception=None,
        cause=None,
        frames=None,
    )


def test_an_attempt_is_told_a_moment_after_its_end() -> None:
    """Word of its publish may come late."""
    told = world().play("r st ok")
    assert told.pass_time(1).count(Traced) == 0

    told.play("s").pass_time(1)

    assert [each.published is not None for each in told.told(Traced)] == [True]


@pytest.mark.parametrize("order", list(permutations(("s", "r", "st", "ok"))))
def test_the_order_of_events_changes_no_attempt(order: tuple[str, ...]) -> None:
    """Publishers race with workers, and a solo worker tells late."""
    times = {"s": 4.0, "r": 3.0, "st": 2.0, "ok": 1.0}
    told = world()

    for word in order:
        type_, fields = SHORT[word]
        told.say(type_, ago=times[word], uuid="a", **fields)

    (attempt,) = traced(told)
    now = told.clock.now.wall
    assert (attempt.published, attempt.outcome) == (now - 4.0, Outcome.SUCCEEDED)
    assert (attempt.attempt, attempt.root, attempt.ended) == (AttemptId("a"), "a", now - 1.0)


@pytest.mark.parametrize(
    "script", ["s r st s1 rt r1 st ok", "s r st s1 r1 rt st ok", "s r st s1 r1 st rt ok", "r s st r1 s1 rt st ok"]
)
def test_a_retry_comes_after_the_attempt_before(script: str) -> None:
    """Both below whatever published the task."""
    first, second = traced(world().play(script, root_id="r", parent_id="p"))

    assert (first.attempt, first.previous, first.outcome) == (AttemptId("a"), None, Outcome.RETRIED)
    assert (second.attempt, second.previous, second.outcome) == (AttemptId("a", 1), AttemptId("a"), Outcome.SUCCEEDED)
    assert first.parent == second.parent == AttemptId("p")
    assert first.exception == "ValueError"


def test_a_message_that_was_put_back_gives_an_attempt_of_its_own() -> None:
    """Told from the first by when it was received, which all who read its events know."""
    first, second, third = traced(world().play("s r st rq r st rq r st ok"))

    assert first.attempt == AttemptId("a")
    assert second.attempt == AttemptId("a", 0, second.received)
    assert third.attempt == AttemptId("a", 0, third.received)
    assert (second.previous, third.previous) == (first.attempt, second.attempt)
    assert len({first.attempt, second.attempt, third.attempt}) == 3


def child(told: World, *, received: bool = False) -> None:
    """A task is published, or received, now, by `a`."""
    word = "r" if received else "s"
    told.play(word, uuid="child", root_id="a", parent_id="a")


def parent_of_child(told: World) -> AttemptId | None:
    """The attempt that is told to have published it."""
    told.play("r st ok", uuid="child", root_id="a", parent_id="a")
    return next(each.parent for each in traced(told) if each.attempt.uuid == "child")


@pytest.mark.parametrize("received", [False, True])
@pytest.mark.parametrize(
    ("before", "after", "parent"),
    [
        ("s r st", "ok", AttemptId("a")),
        ("s r st s1 r1 rt st", "ok", AttemptId("a", 1)),
        ("s r st", "s1 r1 rt st ok", AttemptId("a")),
        ("s r st s1 r1 rt", "st ok", AttemptId("a", 1)),
        ("s r st s1 r1 st", "rt ok", AttemptId("a", 1)),
        ("s r st ok", "", AttemptId("a")),
        ("", "s r st ok", AttemptId("a")),
        ("s r st s1 r1 rt st1 s2 r2 rt st", "ok", AttemptId("a", 2)),
    ],
)
def test_a_task_is_below_the_attempt_that_published_it(
    before: str, after: str, parent: AttemptId, *, received: bool
) -> None:
    """Of those of its parent it is the latest that was there, whether its start was told or not."""
    told = world().play(before)
    child(told, received=received)
    told.play(after)

    assert parent_of_child(told) == parent


def test_a_task_may_be_heard_of_before_the_start_of_the_attempt_that_published_it() -> None:
    """Workers keep their events for a moment, publishers do not."""
    told = world().play("s r st s1 r1 rt")
    now = told.clock.advance(2.0).wall
    told.play("s", uuid="child", root_id="a", parent_id="a", timestamp=now)

    told.play("st", timestamp=now - 1.0).play("ok")

    assert parent_of_child(told) == AttemptId("a", 1)


def test_a_task_is_below_the_delivery_that_published_it() -> None:
    """The second of one message."""
    told = world().play("s r st rq r st")
    child(told)
    told.play("ok")

    assert parent_of_child(told) == next(each.attempt for each in told.told(Traced) if each.attempt.again is not None)


def test_a_failure_is_told_without_its_text() -> None:
    """The class, the cause and the frames."""
    told = world().play("s r st").play("f", exception="ValueError('card 4111')", traceback=TRACEBACK)

    (attempt,) = traced(told)

    assert (attempt.exception, attempt.cause) == ("ValueError", Cause.EXCEPTION)
    assert attempt.frames is not None
    assert "/app/shop.py" in attempt.frames
    assert "card 4111" not in str(attempt).replace('raise ValueError("card 4111")', "")


def test_the_cause_of_a_kill_is_known_though_its_outcome_was_told_before() -> None:
    """A hard limit with late acknowledgement announces both."""
    told = world().play("s r st rj").play("f", exception="TimeLimitExceeded(1)", traceback="")

    (attempt,) = traced(told)

    assert (attempt.outcome, attempt.exception, attempt.cause) == (
        Outcome.REJECTED,
        "TimeLimitExceeded",
        Cause.HARD_TIME_LIMIT,
    )


def test_an_end_of_which_nobody_told_is_the_last_that_is_known() -> None:
    """The last heartbeat of a worker that is gone."""
    told = world(worker_timeout=5.0).beat(active=0, processed=0).play("s r st").beat(active=1, processed=1)
    last = told.clock.now.wall

    (attempt,) = traced(told.pass_time(20))

    assert (attempt.outcome, attempt.ended, attempt.estimated) == (Outcome.VANISHED, last, True)


def test_ends_and_failures_name_their_trace() -> None:
    """Those of attempts that will be seen."""
    told = world().play("s r st f", root_id="r")

    (end,), (failure,) = told.told(Ended), told.told(Failed)

    assert end.trace_id == failure.trace_id == f"{trace_id_of('r'):032x}"


def test_what_is_not_in_the_sample_names_no_trace() -> None:
    """Unless it is a reason to keep the trace."""
    told = World(sampling=Sampling(ratio=0.0, slow=5.0)).play("s r st ok").play("s r st f", uuid="b")
    told.play("s r", uuid="c").clock.advance(6.0)
    told.play("st ok", uuid="c")

    assert [end.trace_id is not None for end in told.told(Ended)] == [False, True, True]


def test_workers_that_trace_are_left_alone() -> None:
    """As their heartbeats say; what they do is counted."""
    told = (
        world().beat(active=0, processed=0, celery_observe_tracing="live").play("s r st ok").play("s r st f", uuid="b")
    )

    assert traced(told) == []
    assert [end.trace_id for end in told.told(Ended)] == [None, None]
    assert [(each.outcome, each.count) for each in told.told(AttemptsReplayed)] == [(Replayed.LIVE, 1)] * 2


def test_a_worker_is_left_alone_though_its_heartbeat_comes_after_its_first_end() -> None:
    """An observer that starts later than the worker."""
    told = world().play("s r st ok").beat(active=0, processed=1, celery_observe_tracing="live")

    assert traced(told) == []


def test_a_worker_that_traces_no_more_is_replayed() -> None:
    """It was restarted without."""
    told = world().beat(active=0, processed=5, celery_observe_tracing="live").beat(active=0, processed=0, pid=2)

    assert len(traced(told.play("s r st ok", pid=2))) == 1


def test_an_attempt_of_which_no_event_names_the_root_is_not_told() -> None:
    """It would have to be guessed in which trace it is."""
    told = world().snapshot(active=("a",)).play("ok")

    assert traced(told) == []
    assert [each.outcome for each in told.told(AttemptsReplayed)] == [Replayed.ROOT_UNKNOWN]


@pytest.mark.parametrize(("script", "late"), [("s r st rt", "rt"), ("s r st rj", "f")])
def test_what_comes_after_an_attempt_was_told_is_not_kept(script: str, late: str) -> None:
    """Tracebacks that are sent again and again would fill the memory."""
    told = world().play(script).pass_time(3)
    memory = told.tracker._ended["a"].memory  # noqa: SLF001 - its bound

    told.play(late, exception="KeyError()", traceback=TRACEBACK).pass_time(3)

    assert told.count(Traced) == 1
    assert memory is not None
    assert memory is told.tracker._ended["a"].memory  # noqa: SLF001 - the same
    assert memory.told
    assert memory.frames is None


def test_attempts_that_are_evicted_can_be_freed() -> None:
    """Though the next was announced, which knows the one before: nobody looks for circles."""
    told = World(sampling=Sampling(), max_tasks=20).play("s r st s1 r1", uuid="evicted")
    evicted = told.tracker._open["evicted"]  # noqa: SLF001 - nothing else tells
    assert evicted.upcoming is not None

    for number in range(40):
        told.play("s r st", uuid=str(number))

    assert "evicted" not in told.tracker._open  # noqa: SLF001 - the same
    assert evicted.upcoming is None


def test_a_flood_of_publishes_is_placed_at_once() -> None:
    """Whatever a publisher says, what waits has a bound."""
    told = World()
    chronicle = Chronicle(told.facts.append, most=10)
    told.tracker._chronicle = chronicle  # noqa: SLF001 - with a bound that a test can reach

    for number in range(100):
        told.play("s", uuid=str(number), root_id="a", parent_id="p")

    assert len(chronicle._published) + len(chronicle._published_before) <= 20  # noqa: SLF001 - its bound


def test_a_flood_is_told_at_once() -> None:
    """What is kept for a moment has a bound."""
    told = World()
    chronicle = Chronicle(told.facts.append, most=10)
    told.tracker._chronicle = chronicle  # noqa: SLF001 - with a bound that a test can reach

    for number in range(25):
        told.play("s r st ok", uuid=str(number))

    assert told.count(Traced) == 20
    assert len(traced(told)) == 25
