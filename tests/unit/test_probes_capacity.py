"""Capacity follows from what other probes tell, and is absent where they tell nothing."""

from __future__ import annotations

from celery_observe.metrics import Family, observer, queues, tasks, workers
from celery_observe.probes.capacity import CapacityProbe
from celery_observe.series import Labels
from celery_observe.settings import Part, Settings
from services.probed import Heard

STUCK: dict[Family, dict[Labels, float]] = {
    observer.WORKERS_ANSWERED: {(): 1},
    queues.WAITING: {("mail", "0"): 2, ("mail", "9"): 1, ("idle", ""): 0},
    workers.CONSUMES: {("w@h", "mail"): 1},
    workers.SLOTS: {("w@h",): 4},
    workers.PREFETCH: {("w@h",): 16},
    workers.UP: {("w@h",): 1},
    workers.PROCESSED: {("w@h",): 7},
    workers.ACTIVE: {("w@h",): 0},
}


class Looking:
    """The probe, its clock, and what others tell: a worker that is stuck, unless changed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.heard = Heard(beating={"w@h"})
        self.tell(STUCK)
        self.probe = CapacityProbe(Settings(drain_target=10.0), self.heard, clock=lambda: self.now)

    def tell(self, samples: dict[Family, dict[Labels, float]]) -> None:
        """Let others tell these samples too."""
        self.heard.samples |= {family.name: dict(values) for family, values in samples.items()}

    def at(self, now: float) -> dict[Family, dict[Labels, float]]:
        """What the probe tells at this time."""
        self.now = now
        self.tell({workers.LAST_HEARTBEAT: {("w@h",): now}})
        told: dict[Family, dict[Labels, float]] = {}
        for family, labels, value in self.probe.ask():
            told.setdefault(family, {})[labels] = value
        return told


def test_slots_are_those_of_the_workers_that_consume_a_queue() -> None:
    """Of one that consumes two in both; a queue that nobody consumes has none."""
    looking = Looking()
    looking.tell({workers.CONSUMES: {("w@h", "mail"): 1, ("v@h", "mail"): 1, ("v@h", "video"): 1}})
    looking.tell(
        {workers.SLOTS: {("w@h",): 4, ("v@h",): 2}, queues.WAITING: {("mail", ""): 0, ("video", ""): 0, ("x", ""): 0}}
    )

    assert looking.at(0)[queues.SLOTS] == {("mail",): 6, ("video",): 2, ("x",): 0}


def test_a_worker_that_is_gone_gives_no_slots() -> None:
    """Before the next round of questions finds it silent."""
    looking = Looking()
    looking.tell({workers.UP: {("w@h",): 0}})

    assert looking.at(0)[queues.SLOTS] == {("mail",): 0, ("idle",): 0}


def test_slots_are_absent_while_workers_cannot_be_asked() -> None:
    """Absent is not zero."""
    looking = Looking()
    looking.tell({observer.WORKERS_ANSWERED: {}})

    assert queues.SLOTS not in looking.at(0)


def test_a_shard_counts_what_runs_by_worker() -> None:
    """What executes elsewhere it knows of workers only: no queue loses slots while a worker of it is busy."""
    looking = Looking()
    looking.probe = CapacityProbe(Settings(part=Part(0, 3)), looking.heard, clock=lambda: looking.now)
    looking.tell({workers.CONSUMES: {("w@h", "mail"): 1, ("w@h", "idle"): 1}, workers.ACTIVE: {("w@h",): 2}})
    looking.tell({queues.WAITING: {("mail", ""): 0, ("idle", ""): 0}, tasks.RUNNING: {("send", "mail"): 1}})

    assert looking.at(0)[queues.DESIRED_SLOTS] == {("mail",): 2, ("idle",): 2}


def test_desired_slots_use_all_that_there_is_to_do() -> None:
    """What waits by all priorities, what is in flight, and the runtimes of the queue."""
    looking = Looking()
    looking.tell({queues.IN_FLIGHT: {("mail",): 2}, tasks.RUNNING: {("send", "idle"): 3}})
    looking.heard.ran = {"mail": (80.0, 10)}

    assert looking.at(0)[queues.DESIRED_SLOTS] == {("mail",): 4, ("idle",): 3}


def test_nothing_is_told_while_the_broker_cannot_be_read() -> None:
    """Neither slots nor desires nor who is stalled."""
    looking = Looking()
    looking.tell({queues.WAITING: {}})

    assert looking.at(0) == {}


def test_a_worker_that_takes_nothing_is_stalled() -> None:
    """After the time that is set, 60 s."""
    looking = Looking()

    told = [looking.at(now)[workers.STALLED] for now in (0, 58, 60)]

    assert told == [{("w@h",): False}, {("w@h",): False}, {("w@h",): True}]


def test_a_worker_whose_consumer_was_cancelled_is_not_judged() -> None:
    """It is paused, not stalled."""
    looking = Looking()
    looking.tell({workers.CONSUMES: {}})

    assert workers.STALLED not in looking.at(0)


def test_a_worker_that_holds_all_it_may_is_not_stalled() -> None:
    """Counting what it keeps until its ETA."""
    looking = Looking()
    looking.tell({workers.RESERVED: {("w@h",): 6}, workers.SCHEDULED: {("w@h",): 10}})

    assert [looking.at(now)[workers.STALLED] for now in (0, 60)] == [{("w@h",): False}] * 2


def test_a_worker_that_waits_for_a_rate_limit_is_not_stalled() -> None:
    """The strictest of its limits counts."""
    looking = Looking()
    looking.tell({workers.RATE_LIMIT: {("w@h", "mail"): 1 / 3600, ("w@h", "add"): 10.0}})

    assert [looking.at(now)[workers.STALLED] for now in (0, 60)] == [{("w@h",): False}] * 2
