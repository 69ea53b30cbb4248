"""The demo's load is steady, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from celery import signature

from celery_observe.demo.load import MIX, Call, Load, plan
from celery_observe.demo.shop import app

ROUND = sum(copies for copies, _ in MIX)


class Till:
    """A counterpart that writes down what it is asked for."""

    def __init__(self) -> None:
        self.published: list[str] = []
        self.revoked: list[tuple[str, bool]] = []

    def publish(self, call: Call) -> str:
        """Write down the task; its id is its number."""
        self.published.append(call.signature.task)
        return str(len(self.published))

    def revoke(self, uuid: str, *, terminate: bool) -> None:
        """Write down the revocation."""
        self.revoked.append((uuid, terminate))


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Return seconds."""
        return self.now


def load_of(calls: Iterator[Call], till: Till, clock: Clock) -> Load:
    """Return a load of two calls a second."""
    return Load(till, calls, rate=2, clock=clock)


def test_the_same_seed_makes_the_same_plan() -> None:
    """A plan depends on nothing but its seed."""
    assert list(islice(plan(7), 200)) == list(islice(plan(7), 200))
    assert list(islice(plan(7), 200)) != list(islice(plan(8), 200))


def test_whatever_can_happen_happens_in_every_round() -> None:
    """Each round of the plan has all calls of the mix, in another order."""
    calls = [(call.signature.task, call.countdown, call.revoke_after) for call in islice(plan(1), 2 * ROUND)]
    first, second = calls[:ROUND], calls[ROUND:]

    assert first != second
    assert sorted(first, key=str) == sorted(second, key=str)


def tasks_of(canvas: Any) -> Iterator[str]:
    """The names of all tasks in a canvas, which is made of dictionaries and lists."""
    if isinstance(canvas, dict):
        if isinstance(name := canvas.get("task"), str):
            yield name
        canvas = list(canvas.values())
    if isinstance(canvas, list | tuple):
        for part in canvas:
            yield from tasks_of(part)


def test_one_task_of_the_load_is_known_to_no_worker() -> None:
    """All others are registered."""
    named = {name for call in islice(plan(1), ROUND) for name in tasks_of(call.signature)}

    assert named - app.tasks.keys() == {"legacy.sync"}


def test_calls_are_published_at_a_steady_rate() -> None:
    """However seldom the load is ticked, it publishes what was due."""
    till, clock = Till(), Clock()
    load = load_of((Call(signature(name)) for name in "abac"), till, clock)

    load.tick()
    clock.now = 1.2
    load.tick()

    assert till.published == ["a", "b", "a"]


def test_a_call_is_revoked_when_its_time_has_come() -> None:
    """Revocations come in the order of their time, not of their publication."""
    till, clock = Till(), Clock()
    late, early = Call(signature("late"), revoke_after=3.0, terminate=True), Call(signature("early"), revoke_after=1.0)
    load = load_of(iter([late, early]), till, clock)

    load.tick()
    clock.now = 0.5
    load.tick()
    for clock.now in (1.4, 1.5, 2.9, 3.0):
        load.tick(publish=False)

    assert till.revoked == [("2", False), ("1", True)]


def test_after_the_end_nothing_is_published_but_revocations_go_on() -> None:
    """A load that is not to publish still ends what it has promised to end."""
    till, clock = Till(), Clock()
    load = load_of(iter([Call(signature("a"), revoke_after=1.0), Call(signature("b"))]), till, clock)

    load.tick()
    clock.now = 5.0
    load.tick(publish=False)

    assert (till.published, till.revoked) == (["a"], [("1", False)])
