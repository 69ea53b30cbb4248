"""What workers answer is read as Celery gives it, and nothing else is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from celery_observe.broker import BrokerSettings
from celery_observe.errors import ProbeError
from celery_observe.probes.answers import multiplier, rate_limits, stats
from celery_observe.probes.control import Question, Replies
from celery_observe.probes.rota import ROUND
from celery_observe.probes.workers import WorkersProbe
from celery_observe.settings import Settings
from celery_observe.testing import FakeClock
from services.probed import Heard

PREFORK = {
    "pid": 7,
    "uptime": 60,
    "total": {"add": 3},
    "prefetch_count": 8,
    "pool": {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 2, "processes": [8, 9]},
    "rusage": {"utime": 1.0, "stime": 0.5, "maxrss": 2048, "ixrss": 0},
}


def test_stats_are_read() -> None:
    """Memory in bytes, CPU of both kinds together."""
    said = stats(PREFORK)

    assert (said.pool_name, said.slots, said.prefetch, said.uptime, said.total) == ("prefork", 2, 8, 60, {"add": 3})
    assert (said.cpu, said.peak_memory) == (1.5, 2048 * 1024)


@pytest.mark.parametrize(
    ("implementation", "name"),
    [
        ("celery.concurrency.prefork:TaskPool", "prefork"),
        ("celery.concurrency.solo:TaskPool", "solo"),
        ("celery.concurrency.thread:TaskPool", "threads"),
        ("celery.concurrency.gevent:TaskPool", "gevent"),
        ("celery.concurrency.eventlet:TaskPool", "eventlet"),
        ("celery_pool_asyncio.pool:TaskPool", "TaskPool"),
        ("", ""),
    ],
)
def test_a_pool_is_called_as_on_the_command_line(implementation: str, name: str) -> None:
    """One of the user's own by its class."""
    assert stats({"pid": 1, "pool": {"implementation": implementation}}).pool_name == name


def test_what_a_worker_does_not_know_is_none() -> None:
    """Without qos, on a platform without getrusage(2)."""
    said = stats({"pid": 1, "prefetch_count": "N/A", "rusage": "N/A", "pool": {}})

    assert (said.prefetch, said.cpu, said.peak_memory, said.slots) == (None, None, None, None)


def test_slots_are_the_processes_that_there_are() -> None:
    """Where an autoscaler or remote control changes their number, `max-concurrency` stays what it was."""
    pool = {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 3, "processes": [8]}

    assert stats(PREFORK | {"pool": pool}).slots == 1
    assert stats(PREFORK | {"pool": pool | {"processes": "N/A"}}).slots == 3


def test_prefetch_is_reckoned_from_the_most_slots() -> None:
    """With autoscaling, the pool has fewer at times."""
    said = stats(PREFORK | {"autoscaler": {"max": 10, "min": 1, "current": 2, "qty": 0}})

    assert (said.slots, said.most_slots) == (2, 10)


@pytest.mark.parametrize("reply", [None, "no", [], {}, {"error": "KeyError()"}, PREFORK | {"pid": "x"}])
def test_what_is_no_stats_is_refused(reply: Any) -> None:
    """It may be the answer of a command of the user's own that is called the same."""
    with pytest.raises(msgspec.ValidationError):
        stats(reply)


@pytest.mark.parametrize(
    ("conf", "factor"),
    [
        ({}, 4),
        ({"worker_prefetch_multiplier": 1}, 1),
        ({"CELERY_WORKER_PREFETCH_MULTIPLIER": 1}, 1),  # of an app with a namespace, such as Django's
        ({"CELERYD_PREFETCH_MULTIPLIER": 2}, 2),
        ({"timezone": "UTC"}, 4),
    ],
)
def test_the_multiplier_is_celery_s_default_unless_set(conf: dict[str, Any], factor: int) -> None:
    """By its new name or its old."""
    assert multiplier(conf) == factor


@pytest.mark.parametrize("conf", [None, "no", {"error": "KeyError()"}])
def test_what_is_no_configuration_is_refused(conf: Any) -> None:
    """Such as an error."""
    with pytest.raises(TypeError):
        multiplier(conf)


class Asked:
    """The probe, with workers that answer what the test says, and a clock of the test's own."""

    def __init__(self, *up: str, **settings: Any) -> None:
        self.heard, self.clock = Heard(beating=set(up)), FakeClock()
        self.down = False
        self.deaf: set[str] = set()
        self.sent: list[tuple[str, Any]] = []
        self.probe = WorkersProbe(
            BrokerSettings(url="redis://none"), Settings(**settings), self.heard, clock=self.clock, put=self._put
        )

    def _put(self, questions: Sequence[Question], _expected: Collection[str] | None) -> Replies:
        if self.down:
            raise ProbeError("down")
        self.sent += [(each.command, each.workers) for each in questions if each.workers is None or each.workers]
        return {
            each.command: {
                name: ANSWERS[each.command]
                for name in (self.heard.beating if each.workers is None else each.workers)
                if name not in self.deaf
            }
            for each in questions
        }

    def turn(self) -> tuple[list[str], dict[str, float]]:
        """Let an interval pass; return what is asked then, and what is told of workers after it, by family."""
        self.clock.advance(self.probe.interval)
        self.sent.clear()
        told = {sample.family.name: sample.value for sample in self.probe.ask()}
        return [command for command, _ in self.sent], told

    def turns(self, count: int) -> dict[str, float]:
        """Let intervals pass; return what is told after the last."""
        return [self.turn() for _ in range(count)][-1][1]


ANSWERS: dict[str, Any] = {
    "stats": PREFORK,
    "active_queues": [{"name": "q"}],
    "active": [],
    "reserved": [{"id": "a", "name": "t"}],
    "scheduled": [{}, {}],
    "conf": {"worker_prefetch_multiplier": 4},
    "registered": ["mail [rate_limit=30/m]"],
    "enable_events": {"ok": "task events enabled"},
}
TOGETHER = ["active", "reserved", "active_queues", "stats"]


def test_all_is_asked_at_once_when_nothing_is_known_and_then_in_turn() -> None:
    """At the start, and after an outage of two rounds; a shorter one changes nothing."""
    asked = Asked("w")
    assert asked.turn()[0] == TOGETHER
    in_turn = [asked.turn()[0] for _ in range(2 * ROUND)]
    assert {len(each) for each in in_turn} == {1}
    assert {each for (each,) in in_turn} == {*TOGETHER, "scheduled", "conf", "registered"}

    for intervals, commands in ((3, 1), (2 * ROUND + 1, 4)):
        asked.down = True
        for _ in range(intervals):
            with pytest.raises(ProbeError):
                asked.turn()
        asked.down = False
        assert len(asked.turn()[0]) == commands


def test_with_events_to_be_turned_on_there_are_no_more_turns() -> None:
    """That shares the place of what is seldom asked."""
    asked = Asked("w", enable_events=True)
    assert asked.turn()[0] == ["enable_events", *TOGETHER]

    commands = [command for _ in range(10 * ROUND) for command in asked.turn()[0]]

    for command in ("stats", "reserved", "scheduled"):
        turns = [number for number, each in enumerate(commands) if each == command]
        assert max(later - turn for turn, later in pairwise(turns)) <= ROUND
    assert commands.count("enable_events") >= 8


def test_what_is_told_is_no_older_than_two_rounds_whatever_fails() -> None:
    """One question that is never answered does not keep others from their turns."""
    asked = Asked("w")
    told = asked.turns(2 * ROUND)
    assert (told["celery_worker_reserved"], told["celery_worker_scheduled"]) == (1, 2)

    asked.deaf = {"w"}
    told = asked.turns(ROUND)

    assert "celery_worker_reserved" not in told
    assert "celery_worker_prefetch" not in told
    assert (told["celery_worker_slots"], told["celery_worker_rate_limit"]) == (2, 0.5)
    assert told["celery_observe_workers_answered"] == 0


def test_a_new_worker_is_known_as_soon_as_it_was_asked_by_name() -> None:
    """Its settings too; one that is known is not asked for them again."""
    asked = Asked("w")
    asked.turn()
    asked.sent.clear()

    asked.probe.enquire({"new"})
    asked.probe.enquire({"new"})

    assert [command for command, _ in asked.sent] == [*TOGETHER, "registered", "conf", *TOGETHER]
    assert all(workers == {"new"} for _, workers in asked.sent)


def test_a_replica_that_does_not_lead_remembers_nobody_who_is_gone() -> None:
    """It asks by name only, pod after pod."""
    asked = Asked()
    for number in range(100):
        asked.clock.advance(10.0)
        asked.probe.enquire({f"pod-{number}"})

    assert asked.probe.remembered == 1


def test_rate_limits_are_tasks_a_second() -> None:
    """Tasks without one are left out, and so is a limit of none."""
    registered = [
        "add",
        "mail [rate_limit=30/m]",
        "report [rate_limit=36/h]",
        "ping [rate_limit=5]",
        "all [rate_limit=0]",
    ]

    assert rate_limits(registered) == {"mail": 0.5, "report": 0.01, "ping": 5.0}
