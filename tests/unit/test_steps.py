"""What belongs to a workflow is told step by step, from events and from reports; what is alone is not."""

from __future__ import annotations

from typing import Any

from celery_observe.fact import Canvas, ChordBroken, Ended, Fact, Mapped, Outcome, Polled, Stall, Step
from celery_observe.fleet import Fleet, Instant
from celery_observe.journal import Journal
from celery_observe.report import (
    AnyReport,
    ChordFailure,
    Execution,
    Listing,
    Placement,
    Publication,
    Running,
)
from celery_observe.testing import EPOCH
from unit.world import World

NODE = "w@h"


def chained(world: World) -> World:
    """Have `a` publish `b`."""
    world.play("s r st", root_id="a")
    return world.play("s r st ok", uuid="b", name="u", root_id="a", parent_id="a").play("ok")


# -- from events


def test_a_task_that_is_alone_is_no_step() -> None:
    """Whatever becomes of it."""
    world = World().play("s r st s1 r1 rt st ok", root_id="a")

    assert world.count(Ended) == 2
    assert world.count(Step) == 0


def test_the_second_task_makes_the_first_one_a_step() -> None:
    """With all that was known of it before."""
    first, second, *_ = chained(World()).told(Step)

    assert (first.uuid, first.task, first.root, first.parent) == ("a", "t", "a", None)
    assert None not in {first.published, first.received, first.started}
    assert (second.uuid, second.task, second.root, second.parent) == ("b", "u", "a", "a")
    assert second.received is None


def test_each_change_of_a_step_is_told() -> None:
    """Published, received, started, ended."""
    steps = [step for step in chained(World()).told(Step) if step.uuid == "b"]

    assert [(step.received is None, step.started is None, step.outcome) for step in steps] == [
        (True, True, None),
        (False, True, None),
        (False, False, None),
        (False, False, Outcome.SUCCEEDED),
    ]
    assert [step.open for step in steps] == [True, True, True, False]


def test_a_root_that_has_ended_is_still_known() -> None:
    """The events of its child may come late."""
    world = World().play("s r st ok", root_id="a")

    world.play("s", uuid="b", name="u", root_id="a", parent_id="a")

    first = world.told(Step)[0]
    assert (first.uuid, first.outcome, first.open) == ("a", Outcome.SUCCEEDED, False)
    assert first.ended is not None


def test_a_retry_is_the_next_turn_of_a_step() -> None:
    """Celery says that its parent is itself."""
    world = World().play("s r st s1 rt r1 st ok", root_id="r", parent_id="p")

    steps = world.told(Step)
    assert {step.parent for step in steps} == {"p"}
    assert (steps[-1].turn, steps[-1].retries, steps[-1].open) == (1, 1, False)
    ended = [step.turn for step in steps if step.outcome is Outcome.RETRIED]
    assert ended == [0]
    assert all(step.open for step in steps if step.outcome is Outcome.RETRIED)


def test_a_step_that_goes_back_to_its_queue_is_open() -> None:
    """It is to be delivered again."""
    world = World().play("s r st rq", root_id="r", parent_id="p")

    assert (world.told(Step)[-1].outcome, world.told(Step)[-1].open) == (Outcome.REJECTED, True)


def test_publishers_that_name_no_root_make_no_steps() -> None:
    """Message protocol 1."""
    assert World().play("s r st ok").count(Step) == 0


def test_polling_is_told_and_its_end_too() -> None:
    """Of a task that is its own root, too."""
    names: dict[str, Any] = {"name": "celery.chord_unlock", "root_id": "a"}
    world = World().play("s r st", **names)

    world.play("s1 r1 rt st ok", **names)

    assert world.told(Polled) == [Polled("a", "a", None, 1)]
    assert [(step.uuid, step.open) for step in world.told(Step)][-1] == ("a", False)


# -- from reports


class Desk:
    """A journal and what it has told."""

    def __init__(self, *followed: str) -> None:
        self.facts: list[Fact] = []
        self.journal = Journal(self.facts.append, Fleet(self.facts.append), followed=frozenset(followed))

    def tell(self, *reports: AnyReport) -> Desk:
        """Hand reports in."""
        for report in reports:
            self.journal.handle([report], Instant(EPOCH, 0.0))
        return self

    def told(self, kind: type[Fact]) -> list[Any]:
        """The facts of one kind."""
        return [fact for fact in self.facts if type(fact) is kind]


def execution(**fields: Any) -> Execution:
    """Report a success."""
    given: dict[str, Any] = {"outcome": Outcome.SUCCEEDED, "started": 10.0, "received": 9.0, "published": 8.0} | fields
    return Execution(11.0, NODE, "b", "u", **given)


def test_a_report_without_a_place_is_no_step() -> None:
    """Unless others came of its task."""
    assert Desk().tell(execution()).told(Step) == []

    (step,) = Desk("b").tell(execution()).told(Step)

    assert (step.uuid, step.root, step.parent, step.canvas) == ("b", "b", None, None)


def test_a_place_makes_a_step_of_each_report() -> None:
    """Published, taken, executing, ended."""
    canvas = Canvas("a", "a", group="g", index=0)
    desk = Desk().tell(
        Publication(8.0, NODE, "u", seconds=0.5, uuid="b", canvas=canvas),
        Placement(9.0, NODE, "b", "u", canvas, published=7.5),
        execution(canvas=canvas, published=7.5),
    )

    published, placed, ended = desk.told(Step)
    assert (published.published, published.worker) == (7.5, "")
    assert (placed.received, placed.worker) == (9.0, NODE)
    assert (ended.started, ended.ended, ended.outcome, ended.open) == (10.0, 11.0, Outcome.SUCCEEDED, False)
    assert {step.root for step in (published, placed, ended)} == {"a"}


def test_a_retry_and_a_replacement_are_later_turns() -> None:
    """Neither is its own parent."""
    first = execution(canvas=Canvas("a", "p"), outcome=Outcome.RETRIED)
    second = execution(canvas=Canvas("a", "b", nesting=1), retries=1)

    steps = Desk().tell(first, second).told(Step)

    assert [(step.turn, step.parent, step.open) for step in steps] == [(0, "p", True), (2, None, False)]


def test_what_is_listed_has_started() -> None:
    """Long before it ends, and if it vanishes."""
    running = Running("b", "u", 10.0, canvas=Canvas("a", "a"))
    desk = Desk()
    desk.journal._meet(running, Instant(EPOCH, 0.0), NODE)  # noqa: SLF001 - what a complete listing does
    desk.journal._vanish(NODE)  # noqa: SLF001 - what the silence of a worker does

    started, vanished = desk.told(Step)

    assert (started.started, started.outcome) == (10.0, None)
    assert (vanished.outcome, vanished.open) == (Outcome.VANISHED, False)
    assert Desk().tell(Listing(1.0, NODE, [running])).told(Step) == []


def test_items_are_told_of_the_task_that_was_mapped() -> None:
    """However the task around it is called."""
    assert Desk().tell(execution(mapped="resize", items=3)).told(Mapped) == [Mapped("resize", "unknown", NODE, 3)]


def test_polling_names_its_group() -> None:
    """And is no step of its own workflow."""
    desk = Desk().tell(execution(canvas=Canvas("b", polls="g"), outcome=Outcome.RETRIED, retries=4))

    assert desk.told(Polled) == [Polled("b", "b", "g", 5)]
    assert desk.told(Step) == []


def test_a_chord_that_cannot_be_completed_is_told() -> None:
    """As the worker says."""
    desk = Desk().tell(ChordFailure(1.0, NODE, Stall.BACKEND, "a", "g", ["z"]))

    assert desk.told(ChordBroken) == [ChordBroken("backend", "a", "g", ["z"])]
