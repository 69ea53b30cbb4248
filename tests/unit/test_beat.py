"""What beats report becomes facts, and is counted once."""

from __future__ import annotations

from typing import Any

import pytest
from celery.beat import ScheduleEntry

from celery_observe.beat import Beats, ailments, sole_entries
from celery_observe.fact import Outcome
from celery_observe.fleet import Fleet
from celery_observe.journal import Journal
from celery_observe.metrics import beat
from celery_observe.recorder import Recorder
from celery_observe.report import Clock, Due, Entries, Execution, Sent
from celery_observe.testing import EPOCH, FakeClock


class Told:
    """What the page would say of the beats that report."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.beats = Beats(self.recorder.record)

    def hear(self, instance: str, *, ticked: float | None = 0.0, hostname: str = "beat@h", **fields: Any) -> Told:
        """Take in what a beat says that ticked so many seconds ago."""
        at = self.clock.now
        self.beats.hear(clock_of(instance, at.wall, ticked, hostname=hostname, **fields), at.monotonic)
        return self

    def pass_time(self, seconds: float) -> list[str]:
        """Let time pass; returns the hosts of the beats that are forgotten."""
        return self.beats.forget(self.clock.advance(seconds).monotonic)

    @property
    def instances(self) -> float | None:
        """`celery_beat_instances`."""
        return self.recorder[beat.INSTANCES].values.get(())


def clock_of(instance: str, now: float, ticked: float | None, *, hostname: str = "beat@h", **fields: Any) -> Clock:
    """Return what a beat says that ticked so many seconds ago."""
    given = {"max_interval": 300.0, "entries": 3} | fields
    return Clock(now, hostname, instance, ticked=None if ticked is None else now - ticked, **given)


@pytest.fixture
def told() -> Told:
    """Nobody has reported yet."""
    return Told()


def test_beats_are_counted_once_each(told: Told) -> None:
    """Two of one host are two."""
    told.hear("a").hear("b").hear("a")

    assert told.instances == 2


def test_nothing_is_told_before_there_was_a_beat(told: Told) -> None:
    """Absent is not zero."""
    told.pass_time(100)

    assert told.instances is None


def test_a_beat_that_waits_for_its_lock_does_not_run(told: Told) -> None:
    """It has not ticked; the one that holds the lock has."""
    told.hear("a").hear("standby", ticked=None)

    assert told.instances == 1


def test_a_beat_that_leaves_is_gone_at_once(told: Told) -> None:
    """A restart is not two at once."""
    told.hear("a").hear("a", leaving=True).hear("b")

    assert told.instances == 1


def test_a_beat_that_is_killed_is_gone_after_a_while(told: Told) -> None:
    """It speaks each second."""
    told.hear("a")

    told.pass_time(14)
    still = told.instances
    told.pass_time(2)

    assert (still, told.instances) == (1, 0)


def test_a_silent_beat_is_waited_for_and_forgotten(told: Told) -> None:
    """Its host is named, unless another runs there."""
    told.hear("a").hear("b", hostname="beat@other")
    told.pass_time(200)
    told.hear("c", hostname="beat@other")

    assert told.pass_time(101) == ["beat@h"]


def test_the_last_tick_of_all_is_told(told: Told) -> None:
    """With what that beat knows of its schedule."""
    told.hear("a", ticked=1.0, entries=5).hear("b", ticked=100.0, entries=4)

    assert told.recorder[beat.LAST_TICK].values == {(): EPOCH - 1.0}
    assert told.recorder[beat.ENTRIES].values == {(): 5}
    assert told.recorder[beat.MAX_INTERVAL].values == {(): 300.0}


def test_entries_that_cannot_be_counted_are_absent(told: Told) -> None:
    """Such as RedBeat's while Redis is away."""
    told.hear("a", entries=None)

    assert told.recorder[beat.ENTRIES].values == {}


def test_what_was_due_is_sent_or_failed(told: Told) -> None:
    """Or lost, if its beat died between: due without more."""
    for _ in range(4):
        told.beats.due(Due(EPOCH, "beat@h", "nightly"))
    told.beats.sent(Sent(EPOCH, "beat@h", "nightly", lateness=0.2))
    told.beats.sent(Sent(EPOCH, "beat@h", "nightly"))
    told.beats.sent(Sent(EPOCH, "beat@h", "nightly", failed=True))

    assert told.recorder[beat.DUE].values == {("nightly",): 4}
    assert told.recorder[beat.SENT].values == {("nightly",): 2}
    assert told.recorder[beat.PUBLISH_FAILURES].values == {("nightly",): 1}
    assert told.recorder[beat.LATENESS].histograms["nightly",].total == 0.2
    assert sum(told.recorder[beat.LATENESS].histograms["nightly",].counts) == 1


def test_known_entries_begin_at_zero(told: Told) -> None:
    """Lest a rate lose the first of an entry that is due once a day."""
    told.beats.know(Entries(EPOCH, "beat@h", ["nightly", "weekly"]))

    for family in (beat.DUE, beat.SENT, beat.PUBLISH_FAILURES):
        assert told.recorder[family].values == {("nightly",): 0, ("weekly",): 0}
    assert told.recorder[beat.LATENESS].histograms == {}


@pytest.mark.parametrize(
    ("max_interval", "age", "stuck"), [(300.0, 599.0, False), (300.0, 601.0, True), (5.0, 59.0, False), (5, 61.0, True)]
)
def test_a_beat_is_stuck_after_twice_its_interval_or_a_minute(max_interval: float, age: float, *, stuck: bool) -> None:
    """As Celery's own check has it."""
    said = ailments(clock_of("a", EPOCH, age, max_interval=max_interval))

    assert said == ([f"has not ticked for {age:.0f} s"] if stuck else [])


def test_a_beat_that_never_ticked_is_not_stuck() -> None:
    """RedBeat's replica waits for the lock as long as it must."""
    assert ailments(clock_of("a", EPOCH, None)) == []


def test_the_journal_answers_for_beats_until_they_leave_or_are_forgotten(told: Told) -> None:
    """Their condition turns probes red."""
    journal = Journal(told.recorder.record, Fleet(told.recorder.record))
    journal.handle([clock_of("a", EPOCH, 700.0)], told.clock.now)
    stuck = journal.conditions["beat@h"].ailments
    journal.handle([clock_of("a", EPOCH, 0.0, leaving=True)], told.clock.now)
    left = dict(journal.conditions)
    journal.handle([clock_of("b", EPOCH, 0.0)], told.clock.now)
    journal.tick(told.clock.advance(301))

    assert stuck == ("has not ticked for 700 s",)
    assert left == journal.conditions == {}


def test_a_success_is_that_of_its_entry(told: Told) -> None:
    """And no other task's."""
    journal = Journal(told.recorder.record, Fleet(told.recorder.record))
    for uuid, entry in (("1", "nightly"), ("2", None)):
        report = Execution(EPOCH + 5, "w@h", uuid, "t", Outcome.SUCCEEDED, started=EPOCH, entry=entry)
        journal.handle([report], told.clock.now)

    assert told.recorder[beat.LAST_SUCCESS].values == {("nightly",): EPOCH + 5}


def test_an_entry_is_known_by_a_task_that_it_alone_names() -> None:
    """Two that name the same cannot be told apart."""
    schedule = {
        "a": {"task": "alone"},
        "b": {"task": "shared"},
        "c": {"task": "shared"},
        "d": {},
        "e": ScheduleEntry(task="made", schedule=1.0),
    }

    assert sole_entries(schedule) == {"alone": "a", "made": "e"}
