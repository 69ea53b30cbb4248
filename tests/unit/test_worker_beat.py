"""A scheduler that is watched does what it would do, and all of it is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, signals
from celery.beat import ScheduleEntry, Scheduler, SchedulingError
from celery.schedules import BaseSchedule, crontab, schedule
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_observe.report import AnyReport, Clock, Due, Entries, Publication, Sent
from celery_observe.testing import EPOCH, FakeClock
from celery_observe.worker.beat import Beat, due_at
from celery_observe.worker.entry import entry_of
from celery_observe.worker.headers import ENTRY
from celery_observe.worker.reporter import Reporter, reporter
from celery_observe.worker.stored import Stored


def count() -> None:
    """Be a task."""


def at(moment: FakeClock) -> datetime:
    """This moment as Celery has it."""
    return datetime.fromtimestamp(moment.now.wall, UTC)


class Watched:
    """Celery's scheduler with one entry that is due each ten seconds, on a broker in memory."""

    def __init__(self, clock: FakeClock, **entry: Any) -> None:
        self.clock = clock
        self.app = Celery("sched", broker="memory://", set_as_current=False, fixups=[])
        self.app.conf.update(beat_schedule={}, result_expires=None, task_ignore_result=True, task_publish_retry=False)
        self.app.task(name="sum")(count)
        self.app.finalize()
        self.task = self.app.tasks["sum"]
        every = schedule(10.0, nowfun=lambda: at(clock), app=self.app)
        self.scheduler = Scheduler(self.app)
        entry = {"name": "each", "task": "sum", "schedule": every, "last_run_at": at(clock), "app": self.app} | entry
        self.entry = self.scheduler.schedule["each"] = ScheduleEntry(**entry)
        self.beat = Beat(self.scheduler, clock=lambda: clock.now.wall)
        self.beat.watch()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[AnyReport]:
    """What beat reports, instead of a socket; not what any publisher does."""
    reports: list[AnyReport] = []

    def keep(_self: Any, report: AnyReport) -> None:
        if not isinstance(report, Publication):
            reports.append(report)

    monkeypatch.setattr(Reporter, "send", keep)
    monkeypatch.setattr(Reporter, "has_listener", property(lambda _self: True))
    monkeypatch.setattr(reporter, "errors", 0)
    return reports


@pytest.fixture
def clock() -> FakeClock:
    """A clock that is moved by hand."""
    return FakeClock()


@pytest.fixture
def watched(clock: FakeClock) -> Watched:
    """A scheduler that is watched."""
    return Watched(clock)


@pytest.fixture
def published() -> Iterator[list[dict[str, Any]]]:
    """The headers of what is published."""
    found: list[dict[str, Any]] = []

    def receive(headers: dict[str, Any], **_: Any) -> None:
        found.append(dict(headers))

    signals.after_task_publish.connect(receive)
    yield found
    signals.after_task_publish.disconnect(receive)


def tick(watched: Watched) -> Any:
    """Tick, with what the heap has of the clock of this host put right."""
    watched.scheduler._heap = [(0, 5, watched.scheduler.schedule["each"])]  # noqa: SLF001 - as `populate_heap` does
    watched.scheduler.old_schedulers = dict(watched.scheduler.schedule)
    return watched.scheduler.tick()


def test_what_is_due_is_told_before_and_after_it_is_sent(watched: Watched, sent: list[AnyReport]) -> None:
    """With how late it was."""
    watched.clock.advance(12.5)

    assert tick(watched) == 0

    host, now = watched.beat.hostname, EPOCH + 12.5
    assert sent == [Due(now, host, "each"), Sent(now, host, "each", lateness=2.5)]


def test_nothing_is_told_of_what_is_not_due(watched: Watched, sent: list[AnyReport]) -> None:
    """The tick returns how long to sleep."""
    watched.clock.advance(4.0)

    assert tick(watched) == pytest.approx(6.0, abs=0.02)
    assert sent == []


def test_the_message_names_its_entry(watched: Watched, published: list[dict[str, Any]], sent: list[AnyReport]) -> None:
    """And that of nobody else does."""
    watched.clock.advance(10.0)
    tick(watched)
    watched.task.apply_async()

    assert [headers.get(ENTRY) for headers in published] == ["each", None]
    assert ENTRY not in watched.entry.options.get("headers", {})
    assert len(sent) == 2


def test_the_retries_of_a_publish_make_it_later(
    watched: Watched, sent: list[AnyReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent when it was sent."""
    monkeypatch.setattr(watched.task, "apply_async", lambda *_, **__: watched.clock.advance(30.0))
    watched.clock.advance(11.0)

    tick(watched)

    assert sent[-1] == Sent(EPOCH + 41.0, watched.beat.hostname, "each", lateness=31.0)


def test_a_publish_that_fails_is_told_and_swallowed_by_celery(
    watched: Watched, sent: list[AnyReport], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beat goes on, as ever; who calls its scheduler directly gets what that raises."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(watched.task, "apply_async", refuse)
    watched.clock.advance(10.0)

    with caplog.at_level(logging.ERROR):
        assert tick(watched) == 0

    assert sent[1:] == [Sent(EPOCH + 10.0, watched.beat.hostname, "each", failed=True)]
    assert "Message Error" in caplog.text
    with pytest.raises(SchedulingError):
        watched.scheduler.apply_async(watched.entry)


@pytest.mark.parametrize("broken", ["_begin", "_sent"])
def test_whatever_fails_of_ours_beat_sends(
    watched: Watched,
    published: list[dict[str, Any]],
    sent: list[AnyReport],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    """It is counted, and nothing else is different."""

    def fail(_self: Any, report: AnyReport) -> None:
        if isinstance(report, Due if broken == "_begin" else Sent):
            raise OSError

    monkeypatch.setattr(Reporter, "send", fail)
    watched.clock.advance(10.0)

    assert tick(watched) == 0

    assert len(published) == 1
    assert sent == []
    assert reporter.errors == 1


@pytest.fixture
def turned_off() -> Iterator[None]:
    """Reports are turned off."""
    reporter.turn(off=True)
    yield
    reporter.turn(off=False)


@pytest.mark.usefixtures("turned_off")
def test_what_is_turned_off_is_silent(watched: Watched, sent: list[AnyReport], published: list[dict[str, Any]]) -> None:
    """Beat sends as ever."""
    watched.clock.advance(10.0)

    tick(watched)

    assert sent == []
    assert ENTRY not in published[0]


def test_each_second_it_says_when_it_ticked(watched: Watched, sent: list[AnyReport]) -> None:
    """And what entries it has: at once, when they change, and now and then for whom has come since."""
    beat, say = watched.beat, watched.beat._tell  # noqa: SLF001 - what its thread calls
    say()
    tick(watched)
    say()
    watched.clock.advance(1.0)
    say()
    watched.clock.advance(30.0)
    say()

    clocks = [each for each in sent if isinstance(each, Clock)]
    assert [(each.ticked, each.entries) for each in clocks] == [(None, None), (EPOCH, 1), (EPOCH, 1), (EPOCH, 1)]
    assert len({each.instance for each in clocks}) == 1
    listed = [each for each in sent if isinstance(each, Entries)]
    assert listed == [Entries(EPOCH, beat.hostname, ["each"]), Entries(EPOCH + 31.0, beat.hostname, ["each"])]


def test_it_says_that_it_leaves(watched: Watched, sent: list[AnyReport]) -> None:
    """When Celery closes the scheduler, which it does however beat ends."""
    tick(watched)

    watched.scheduler.close()

    assert isinstance(sent[-1], Clock)
    assert sent[-1].leaving


# -- when an entry was due


class NeverEnds(BaseSchedule):  # type: ignore[misc]  # Celery has no types
    """A schedule of the user's own, which says only whether it is due."""


def entry(every: Any, last: datetime | None, **more: Any) -> Any:
    """What a scheduler has of an entry."""
    return SimpleNamespace(schedule=every, last_run_at=last, **more)


def every(make: Callable[..., Any], moment: FakeClock, *args: Any, **options: Any) -> Any:
    """A schedule whose clock is the test's; 22:13:20 UTC on a Tuesday to begin with."""
    return make(*args, nowfun=lambda: at(moment), app=Celery(set_as_current=False, fixups=[]), **options)


def test_an_interval_is_due_that_long_after_the_last_run(clock: FakeClock) -> None:
    """Whatever zone its time is given in; without one it is UTC."""
    last = at(clock)
    clock.advance(95.0)

    for given in (last, last.replace(tzinfo=None), last.astimezone()):
        assert due_at(entry(every(schedule, clock, 90.0), given), clock.now.wall) == pytest.approx(EPOCH + 90.0)


def test_a_crontab_is_due_at_its_first_time_after_the_last_run(clock: FakeClock) -> None:
    """22:14 is forty seconds after the beginning."""
    last = at(clock)
    clock.advance(130.0)

    assert due_at(entry(every(crontab, clock), last), clock.now.wall) == pytest.approx(EPOCH + 40.0)


def test_an_entry_is_not_due_before_its_start_time(clock: FakeClock) -> None:
    """django-celery-beat puts its last run thirty years back."""
    start = at(clock)
    model = SimpleNamespace(start_time=start)
    clock.advance(3.0)

    assert due_at(
        entry(every(schedule, clock, 90.0), start - timedelta(days=365 * 30), model=model), clock.now.wall
    ) == pytest.approx(EPOCH)


@pytest.mark.parametrize("given", [entry(schedule(1.0), None), entry(NeverEnds(), at(FakeClock())), entry(None, None)])
def test_what_cannot_be_told_is_not(given: Any) -> None:
    """RedBeat's that never ran, and schedules that do not say what remains."""
    assert due_at(given, EPOCH) is None


# -- which entry a task was sent for


@pytest.fixture
def task() -> Any:
    """A task that one entry names."""
    app = Celery(set_as_current=False, fixups=[])
    app.conf.beat_schedule = {"nightly": {"task": "sum", "schedule": 1.0}}
    return app.task(name="sum")(count)


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({}, None),
        ({ENTRY: "x", "celery_beat_task": True, "periodic_task_name": "y"}, "x"),
        ({"periodic_task_name": "y", "celery_beat_task": True}, "y"),
        ({"celery_beat_task": True}, "nightly"),
        ({"periodic_task_name": "y" * 600}, "y" * 512),
    ],
)
def test_headers_say_which_entry_a_task_was_sent_for(task: Any, headers: dict[str, Any], name: str | None) -> None:
    """Ours, django-celery-beat's, or Celery's where the configuration leaves no choice."""
    assert entry_of(task, headers) == name


# -- what RedBeat has stored


class Client:
    """A Redis that answers, or does not."""

    def __init__(self, answer: int | Exception) -> None:
        self.answer = answer

    def zcard(self, key: str) -> int:
        """The size of the schedule."""
        assert key == "redbeat::schedule"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("client", "count"),
    [
        (Client(7), 7),
        (SimpleNamespace(wrapped_connection=Client(7)), 7),
        (Client(RedisConnectionError()), None),
        (Client(TimeoutError()), None),
    ],
)
def test_what_redbeat_has_stored_is_counted(client: Any, count: int | None) -> None:
    """Without its retries, and not at all while Redis is away."""
    conf = SimpleNamespace(schedule_key="redbeat::schedule")
    stored = Stored(SimpleNamespace(redbeat_redis=client, redbeat_conf=conf))

    stored.read()

    assert stored.count == count
