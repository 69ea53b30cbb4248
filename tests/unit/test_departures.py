"""What became of the place of a worker that said goodbye."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from celery_observe.departures import Departures, Queues
from celery_observe.event import Snapshot
from celery_observe.fact import Departure, Fact, WorkerDeparted, WorkerExited
from unit.world import World

WINDOW = 100.0
MAIL = ("mail",)
BOTH = ("mail", "pay")


class Told(Departures):
    """Departures, seen from the beginning, and what they have told."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        super().__init__(self.facts.append, WINDOW)

    def goodbye(self, worker: str, at: float = 1000.0, queues: Queues = MAIL) -> Told:
        """Note that a worker said goodbye."""
        self.leave(worker, queues, at, farewell=True)
        return self

    def came(self, worker: str, at: float) -> Told:
        """Note that a new worker came."""
        self.arrive(worker, at)
        return self

    def end(self, up: Mapping[str, Queues], at: float = 2000.0) -> dict[str, str]:
        """Let the windows pass, and return what was told of each worker."""
        self.settle(at, up)
        found = [fact for fact in self.facts if isinstance(fact, WorkerDeparted)]
        assert len({fact.worker for fact in found}) == len(found)
        return {fact.worker: str(fact.kind) for fact in found}


def test_one_of_several_that_nobody_follows_is_scaled_down() -> None:
    """The others consume its queues."""
    assert Told().goodbye("a").end({"b": MAIL, "c": MAIL}) == {"a": "scaled_down"}


def test_the_last_one_is_stopped() -> None:
    """Scaled to zero, or stopped: who is left consumes something else."""
    assert Told().goodbye("a").end({}) == {"a": "stopped"}
    assert Told().goodbye("a").end({"b": ("pay",)}) == {"a": "stopped"}
    assert Told().goodbye("a", queues=BOTH).end({"b": MAIL}) == {"a": "stopped"}


@pytest.mark.parametrize("at", [901.0, 990.0, 1001.0, 1099.0])
def test_one_that_another_follows_is_replaced(at: float) -> None:
    """A rolling update starts the new one first, a recreating one later."""
    assert Told().came("b", at).goodbye("a").end({"b": MAIL}) == {"a": "replaced"}


@pytest.mark.parametrize("at", [899.0, 1101.0])
def test_who_comes_long_before_or_after_is_no_replacement(at: float) -> None:
    """Outside the window."""
    assert Told().came("b", at).goodbye("a").end({"b": MAIL}) == {"a": "scaled_down"}


def test_who_consumes_less_is_no_replacement() -> None:
    """More it may consume."""
    assert Told().came("c", 1001.0).goodbye("a", queues=BOTH).end({"b": BOTH, "c": MAIL}) == {"a": "scaled_down"}
    assert Told().came("c", 1001.0).goodbye("a", queues=MAIL).end({"b": MAIL, "c": BOTH}) == {"a": "replaced"}


def test_who_comes_takes_one_place() -> None:
    """Of a fleet of three that goes on with two, two were replaced: those that left first."""
    told = Told().came("d", 1001.0).came("e", 1011.0)
    for number, worker in enumerate("abc"):
        told.goodbye(worker, 1000.0 + 10 * number)

    assert told.end({"d": MAIL, "e": MAIL}) == {"a": "replaced", "b": "replaced", "c": "scaled_down"}


def test_each_takes_the_place_that_is_most_like_it() -> None:
    """Whatever the order in which they came."""
    told = Told().came("wide", 1001.0).came("narrow", 1002.0).goodbye("a", queues=MAIL).goodbye("b", 1003.0, BOTH)

    assert told.end({"wide": BOTH, "narrow": MAIL}) == {"a": "replaced", "b": "replaced"}


def test_one_that_comes_back_under_its_name_is_replaced_at_once() -> None:
    """A StatefulSet, a machine of one's own: whatever it consumes, and whether it is the same process."""
    told = Told().goodbye("a").goodbye("b")

    told.arrive("a", 1001.0)
    told.come_back("b")

    assert told.end({}, at=1001.0) == {"a": "replaced", "b": "replaced"}


def test_one_that_comes_back_takes_no_other_place() -> None:
    """It has its own."""
    told = Told().goodbye("a").goodbye("b").came("a", 1001.0)

    assert told.end({"a": MAIL}) == {"a": "replaced", "b": "scaled_down"}


def test_who_has_gone_again_has_replaced_nobody() -> None:
    """Two that came and went together."""
    told = Told().came("a", 990.0).came("b", 991.0).goodbye("a").goodbye("b")

    assert told.end({"c": MAIL}) == {"a": "scaled_down", "b": "scaled_down"}


def test_who_follows_a_lost_one_takes_no_other_place() -> None:
    """Of a loss nothing is told here."""
    told = Told()
    told.leave("lost", MAIL, 995.0, farewell=False)
    told.came("b", 996.0).goodbye("a")

    assert told.end({"b": MAIL}) == {"a": "scaled_down"}


def test_a_lost_one_that_comes_back_has_its_place() -> None:
    """It was silent only."""
    told = Told()
    told.leave("lost", MAIL, 995.0, farewell=False)
    told.come_back("lost")

    assert told.came("b", 996.0).goodbye("a").end({"b": MAIL, "lost": MAIL}) == {"a": "replaced"}


def test_it_is_told_when_the_window_is_over_and_once() -> None:
    """Until then somebody may come."""
    told = Told().goodbye("a", 1000.0)

    assert told.end({"b": MAIL}, at=1099.0) == {}
    assert told.end({"b": MAIL}, at=1100.0) == {"a": "scaled_down"}
    assert told.end({"b": MAIL}, at=1200.0) == {"a": "scaled_down"}


@pytest.mark.parametrize("queues", [None, ()])
def test_what_it_consumed_must_be_known(queues: Queues) -> None:
    """It was not asked, or its consumers were cancelled: it has no place that another could be seen to take."""
    assert Told().goodbye("a", queues=queues).end({"b": MAIL}) == {"a": "unknown"}


def test_what_others_consume_must_be_known() -> None:
    """Of those who came, and if nobody else is known to consume the queues."""
    assert Told().came("c", 1001.0).goodbye("a").end({"b": MAIL, "c": None}) == {"a": "unknown"}
    assert Told().goodbye("a").end({"b": None}) == {"a": "unknown"}
    assert Told().goodbye("a").end({"b": MAIL, "c": None}) == {"a": "scaled_down"}


def test_who_came_must_have_been_seen() -> None:
    """After a gap in the stream, or at the start, another may have come unseen; that none is left is seen."""

    def told() -> Told:
        made = Told()
        made.watch_from(950.0)
        return made

    assert told().goodbye("a").end({"b": MAIL}) == {"a": "unknown"}
    assert told().goodbye("a").end({}) == {"a": "stopped"}
    assert told().came("b", 960.0).goodbye("a").end({"b": MAIL}) == {"a": "replaced"}


def test_one_that_was_forgotten_is_not_told_of() -> None:
    """Its series are gone."""
    told = Told().goodbye("a")
    told.forget("a")

    assert told.end({"b": MAIL}) == {}


# -- by their events


def departures(world: World) -> list[tuple[str, str]]:
    """What is told, in its order."""
    return [(fact.worker, str(fact.kind)) for fact in world.told(WorkerDeparted)]


def greet(world: World, *workers: str, queues: tuple[str, ...] = MAIL) -> World:
    """Let workers come, and say what they consume."""
    for worker in workers:
        world.say("worker-online", hostname=worker, pid=1, freq=2.0, active=0, processed=0)
        world.tracker.seed(Snapshot(worker, world.clock.now.wall, (), (), queues), world.clock.now)
    return world


def live(world: World, *workers: str, seconds: int) -> World:
    """Let these send heartbeats for so long."""
    for _ in range(seconds):
        for worker in workers:
            world.beat(hostname=worker, active=0, processed=0)
        world.pass_time(1)
    return world


def leave(world: World, worker: str) -> World:
    """Let a worker say goodbye."""
    return world.say("worker-offline", hostname=worker, pid=1)


def test_a_scale_down_is_told_of_by_events() -> None:
    """At once that it has left, and two minutes after its goodbye that nobody has come."""
    world = live(greet(World(), "a", "b"), "a", "b", seconds=121)

    live(leave(world, "a"), "b", seconds=119)
    assert [fact.kind for fact in world.told(WorkerExited)] == ["shutdown"]
    assert departures(world) == []

    live(world, "b", seconds=2)
    assert departures(world) == [("a", "scaled_down")]


def test_a_rolling_update_is_told_of_by_events() -> None:
    """Each new worker comes before an old one goes."""
    world = live(greet(World(), "a", "b"), "a", "b", seconds=130)

    live(greet(world, "c"), "a", "b", "c", seconds=20)
    live(greet(leave(world, "a"), "d"), "b", "c", "d", seconds=20)
    live(leave(world, "b"), "c", "d", seconds=130)

    assert departures(world) == [("a", "replaced"), ("b", "replaced")]


def test_a_worker_that_was_there_before_us_replaces_nobody() -> None:
    """Its heartbeat shows it, not its greeting."""
    world = live(World(), seconds=130)
    live(world.beat(hostname="b"), "b", seconds=1)
    world.tracker.seed(Snapshot("b", world.clock.now.wall, (), (), MAIL), world.clock.now)
    live(greet(world, "a"), "a", "b", seconds=1)

    live(leave(world, "a"), "b", seconds=130)

    assert departures(world) == [("a", "scaled_down")]


def test_a_crash_is_no_departure() -> None:
    """It is told of as lost."""
    world = live(greet(World(), "a", "b"), "a", "b", seconds=130)

    live(world, "b", seconds=140)

    assert [fact.kind for fact in world.told(WorkerExited)] == ["lost"]
    assert departures(world) == []


def test_a_restart_under_the_same_name_is_told_at_once() -> None:
    """By another process, soon after the goodbye or later."""
    for pause in (3, 60):
        world = live(greet(World(), "a"), "a", seconds=5)
        world.beat(hostname="a", processed=7)
        leave(world, "a").pass_time(pause)
        world.say("worker-online", hostname="a", pid=2, freq=2.0, active=0, processed=0)

        assert [fact.kind for fact in world.told(WorkerExited)] == ["shutdown"]
        assert departures(world) == [("a", str(Departure.REPLACED))]


def test_a_worker_that_only_connects_again_has_not_departed() -> None:
    """It says goodbye, and is back."""
    world = live(greet(World(), "a", "b"), "a", "b", seconds=130)

    live(leave(world, "a"), "b", seconds=5)
    world.say("worker-online", hostname="a", pid=1, freq=2.0, active=0, processed=0)
    live(world, "a", "b", seconds=130)

    assert departures(world) == []
    assert live(leave(world, "b"), "a", seconds=130).told(WorkerDeparted)[0].kind == "scaled_down"


def test_it_is_told_before_a_worker_is_forgotten() -> None:
    """However short that is."""
    world = live(greet(World(worker_timeout=30.0), "a"), "a", seconds=40)

    leave(world, "a").pass_time(40)

    assert departures(world) == [("a", "stopped")]
    assert world.fleet.get("a") is None
