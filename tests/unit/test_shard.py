"""Shards together tell exactly what one exporter tells, whatever comes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_observe.event import Overheard, RunningTask, Snapshot
from celery_observe.fact import Fact
from celery_observe.fleet import Fleet
from celery_observe.shard import Shard
from celery_observe.testing import EPOCH, FakeClock, make_event
from celery_observe.tracker import Tracker
from golden.replay import Replay
from services.joined import differences, joined

ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
COUNTS = (2, 3, 5)

Message = tuple[float, bytes]

IDS = [f"{number:08x}-0000-4000-8000-00000000000{number}" for number in range(8)]
WORKERS = ["celery@one", "celery@two", "celery@three"]
TYPES = [
    *("task-sent", "task-received", "task-started", "task-started", "task-succeeded", "task-failed", "task-retried"),
    *("task-revoked", "task-rejected", "task-cancelled", "worker-online", "worker-heartbeat", "worker-offline"),
    *("task-packed", "worker-tired", "", "task-"),
]
JUNK = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.just([]), st.just({"uuid": IDS[1]}))


def sometimes_wrong(sound: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, or now and then one that no event has."""
    return st.integers(0, 30).flatmap(lambda dice: JUNK if dice == 0 else sound)


MOMENTS = st.integers(-80, 400).map(lambda eighths: EPOCH + eighths / 8)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "hostname": st.sampled_from([*WORKERS, "gen1@web"]),
    "pid": st.sampled_from([1, 1, 1, 2]),
    "uuid": st.sampled_from(IDS),
    "root_id": st.sampled_from(IDS),
    "parent_id": st.sampled_from(IDS),
    "name": st.sampled_from(["add", "pay", "celery.chord_unlock"]),
    "args": st.sampled_from(["()", '("uuid": "x",)', '\\"uuid\\": \\"x\\"']),
    "kwargs": st.just({"uuid": "nested", "type": "worker-heartbeat"}),
    "retries": st.integers(0, 2),
    "queue": st.sampled_from(["celery", "mail"]),
    "eta": st.just("2023-11-14T22:13:30+00:00"),
    "runtime": st.integers(0, 80).map(lambda eighths: eighths / 8),
    "timestamp": MOMENTS,
    "type": st.sampled_from(TYPES),
    "exception": st.sampled_from(["ValueError('no')", "Reject('x', requeue=False)", "NotRegistered('pay')"]),
    "traceback": st.just("Traceback\nValueError: no\n"),
    "terminated": st.booleans(),
    "expired": st.booleans(),
    "requeue": st.booleans(),
    "freq": st.just(2.0),
    "active": st.integers(0, 2),
    "processed": st.integers(0, 9),
    "sw_ver": st.sampled_from(["5.5.3", "5.7.0"]),
    "loadavg": st.just([0.5, 0.5, 0.5]),
}
NEEDED = {"hostname", "pid", "uuid", "timestamp", "type"}
EVENTS = st.fixed_dictionaries(
    {name: sometimes_wrong(sound) for name, sound in FIELDS.items() if name in NEEDED},
    optional={name: sometimes_wrong(sound) for name, sound in FIELDS.items() if name not in NEEDED},
)
"""What a hostile producer makes up: any field of any event, sometimes of a wrong type."""
BODIES = st.one_of(
    EVENTS.map(json.dumps),
    EVENTS.map(lambda event: json.dumps(event, separators=(",", ":"))),
    st.lists(EVENTS, max_size=4).map(json.dumps),
    st.lists(EVENTS, max_size=3).map(lambda events: json.dumps(events)[:-7]),
    EVENTS.map(lambda event: json.dumps(event)[:-1] + ', "\\u0075uid": "' + IDS[2] + '"}'),
).map(str.encode)


def messages(bodies: Iterable[tuple[int, bytes]]) -> list[Message]:
    """Bodies, each so many eighths of a second after the one before."""
    at, found = EPOCH, []
    for pause, body in bodies:
        at += pause / 8
        found.append((at, body))
    return found


def played(stream: list[Message], shard: Shard | None) -> list[str]:
    """The page in the middle of a stream, at its end, and when all have fallen silent."""
    replay, half = Replay(worker_timeout=20, shard=shard), (len(stream) + 1) // 2
    return [
        replay.hear(stream[:half]).page(),
        replay.hear(stream[half:]).page(),
        replay.wait(35).page(),
    ]


def disagreements(stream: list[Message], leave_out: Callable[[str], bool] = lambda _name: False) -> list[Any]:
    """Where the pages of shards differ from that of one exporter."""
    alone = [joined([page], leave_out) for page in played(stream, None)]
    return [
        (count, found)
        for count in COUNTS
        for shards, one in zip(
            zip(*(played(stream, Shard(index, count)) for index in range(count)), strict=True), alone, strict=True
        )
        if (found := differences(joined(shards, leave_out), one))
    ]


def is_of_workflows(name: str) -> bool:
    """Whether a family tells of workflows, which must be named before their tasks start."""
    return name.startswith(("celery_workflow", "celery_chord", "celery_observe_workflow"))


@ANY_MACHINE
@given(st.lists(st.tuples(st.sampled_from([0, 0, 1, 3, 9, 24]), BODIES), max_size=40).map(messages))
def test_whatever_comes_is_counted_once(stream: list[Message]) -> None:
    """Broken bodies, made up events, repeated ids and restarts of workers: shards and one exporter agree on all."""
    assert not disagreements(stream, is_of_workflows)


SCRIPTS = (
    "sent received started succeeded",
    "received started failed failed",
    "sent received started sent1 received1 retried started1 succeeded",
    "sent received started rejected received started succeeded",
    "sent received started",
    "received revoked",
    "sent received started cancelled received started succeeded",
    "received sent started received",
)


@st.composite
def lives(draw: st.DrawFn) -> list[Message]:
    """Tasks that form workflows, mixed, and heartbeats that count them; each is named before it starts."""
    waiting = [draw(life_of(number)) for number in range(draw(st.integers(1, 8)))]
    waiting += [[beat_of(worker) for _ in range(draw(st.integers(0, 8)))] for worker in WORKERS]
    accepted: Counter[str] = Counter()
    stream, at = [], EPOCH
    while waiting := [each for each in waiting if each]:
        event = draw(st.sampled_from(waiting)).pop(0)
        at += draw(st.sampled_from([0.0, 0.125, 1.0]))
        lost = event.pop("lost", False)
        accepted[event["hostname"]] += event["type"] == "task-started"
        if "freq" in event:
            event |= {"processed": accepted[event["hostname"]], "active": draw(st.integers(0, 2))}
        if not lost:
            stream.append((at, json.dumps(event | {"timestamp": at}).encode()))
    return stream


def beat_of(worker: str) -> dict[str, Any]:
    """A heartbeat, less what it counts."""
    return {"type": "worker-heartbeat", "hostname": worker, "pid": 1, "freq": 2.0, "sw_ver": "5.7.0"}


@st.composite
def life_of(draw: st.DrawFn, number: int) -> list[dict[str, Any]]:
    """The events of a task, of which some are lost on the way, but not the first."""
    root = draw(st.integers(0, number))
    named = {
        "name": draw(st.sampled_from(["add", "pay", "celery.chord_unlock"])),
        "root_id": IDS[root],
        "parent_id": IDS[draw(st.integers(0, number))] if root < number else None,
    }
    worker = draw(st.sampled_from(WORKERS))
    found: list[dict[str, Any]] = []
    for word in draw(st.sampled_from(SCRIPTS)).split():
        kind = word.rstrip("1")
        event = {"hostname": worker, "pid": 1, "uuid": IDS[number], "type": f"task-{kind}"}
        if kind in {"sent", "received"}:
            event |= named | {"retries": int(word != kind)}
        if kind == "sent":
            event |= {"hostname": "gen1@web", "queue": "celery"}
        found.append(event | {"lost": bool(found) and draw(st.integers(0, 9)) == 0})
    return found


@ANY_MACHINE
@given(lives())
def test_workflows_are_whole(stream: list[Message]) -> None:
    """However the tasks of workflows mix and are lost: the shards and one exporter agree on all, workflows included."""
    assert not disagreements(stream)


class Shards:
    """So many shards, or one exporter (0), that all hear the same."""

    def __init__(self, count: int) -> None:
        self.replays = [Replay(shard=Shard(index, count)) for index in range(count)] or [Replay()]
        self._at = EPOCH

    def say(self, type_: str, *, after: float = 0.0, **fields: Any) -> Shards:
        """Have all hear an event, so many seconds after the one before; two pass without any after it."""
        self._at += after
        return self.hear({"hostname": "celery@one", "pid": 1, "timestamp": self._at, "type": type_} | fields)

    def hear(self, *events: dict[str, Any]) -> Shards:
        """Have all hear these events, all at once."""
        for replay in self.replays:
            replay.hear([(self._at, json.dumps(event).encode()) for event in events])
        return self

    def wait(self, seconds: int) -> Shards:
        """Let time pass."""
        self._at += seconds
        for replay in self.replays:
            replay.wait(seconds)
        return self

    def total(self, name: str, **labels: str) -> float:
        """What all say together of a counter."""
        return sum(replay.samples().total(name, **labels) for replay in self.replays)


def everyone() -> list[Shards]:
    """One exporter, and several shards."""
    return [Shards(count) for count in (0, *COUNTS)]


@pytest.mark.parametrize("shards", everyone())
def test_tasks_of_other_shards_are_not_taken_for_lost(shards: Shards) -> None:
    """The shard of a worker counts all starts; of eight tasks one was never announced."""
    shards.say("worker-heartbeat", freq=2.0, active=0, processed=0)
    for uuid in IDS[:7]:
        shards.say("task-received", uuid=uuid, name="add", after=0.125).say("task-started", uuid=uuid)
        shards.say("task-succeeded", uuid=uuid, runtime=0.125)

    for _ in range(4):
        shards.say("worker-heartbeat", freq=2.0, active=0, processed=8, after=2.0)

    assert shards.total("celery_task_outcomes_total", outcome="succeeded") == 7
    assert shards.total("celery_observe_tasks_unobserved_total", worker="celery@one") == 1


@pytest.mark.parametrize("shards", everyone())
def test_a_worker_is_known_by_the_tasks_of_other_shards(shards: Shards) -> None:
    """Its next process is one that has restarted, of which all tasks are expected, also where no task was its own."""
    shards.say("task-received", uuid=IDS[0], name="add")

    for _ in range(4):
        shards.say("worker-heartbeat", pid=2, freq=2.0, active=0, processed=3, after=2.0)

    assert shards.total("celery_observe_tasks_unobserved_total") == 3


@pytest.mark.parametrize("shards", everyone())
def test_publishers_are_heard_by_all(shards: Shards) -> None:
    """While any of them tells queues, facts wait for word of theirs."""
    shards.say("worker-heartbeat").wait(50)
    shards.say("task-sent", hostname="gen1@web", uuid=IDS[0], name="add", queue="celery").wait(50)

    for uuid in IDS[1:]:
        named = {"hostname": "celery@one", "pid": 1, "uuid": uuid, "name": "add", "timestamp": EPOCH}
        shards.hear(named | {"type": "task-received"}, named | {"type": "task-sent", "queue": "celery"})

    assert shards.total("celery_task_received_total", queue="celery") == 7


@pytest.mark.parametrize("shards", everyone())
def test_what_cannot_be_read_is_counted_once(shards: Shards) -> None:
    """By the shard of its task or worker, and by the first where it tells of neither."""
    shards.say("task-started", uuid=IDS[1], retries="many").say("worker-heartbeat", freq="often")
    shards.say("task-started").say("task-started", uuid=["no id"])
    for replay in shards.replays:
        replay.hear([(EPOCH + 1, b"[{]"), (EPOCH + 1, b'[{"type": "task-started"}]')])

    assert shards.total("celery_observe_events_malformed_total") == 6


def overheard(**fields: Any) -> Overheard:
    """What is overheard of a task."""
    given: dict[str, Any] = {"hostname": "celery@one", "timestamp": EPOCH, "said": "task-received"}
    return Overheard(**(given | fields))


def test_every_key_has_one_owner() -> None:
    """Whatever the key; the shares are about equal."""
    shards = [Shard(index, 3) for index in range(3)]
    keys = ["", "\x00", "größer@host", *(f"{number:032x}" for number in range(3000))]

    owners = [[shard.index for shard in shards if shard.owns(key)] for key in keys]

    assert all(len(each) == 1 for each in owners)
    assert all(900 < count < 1100 for count in Counter(each[0] for each in owners).values())


def test_the_owner_is_the_same_everywhere() -> None:
    """A hash that changed would count twice while shards are updated one after the other."""
    assert [next(i for i in range(1000) if Shard(i, 1000).owns(key)) for key in ("celery@one", IDS[0])] == [546, 367]


def test_tasks_that_are_followed_are_bounded() -> None:
    """Those that were followed first are let go of."""
    shard = next(each for each in (Shard(index, 2, max_tasks=10) for index in range(2)) if each.owns("root"))
    others = [uuid for number in range(100) if not shard.owns(uuid := str(number))]

    assert all(shard.wants(overheard(uuid=uuid, root_id="root")) for uuid in others)

    followed = [uuid for uuid in others if shard.wants(overheard(uuid=uuid, said="task-started"))]
    assert 5 <= len(followed) <= 10
    assert followed == others[-len(followed) :]


def test_workers_are_asked_once_somebody_believes_too_much() -> None:
    """A task of another shard counts among those that execute, until its end, or until its worker denies it."""
    shard = next(each for each in (Shard(index, 2) for index in range(2)) if not each.owns("other"))
    clock = FakeClock()
    facts: list[Fact] = []
    fleet = Fleet(facts.append)
    tracker = Tracker(facts.append, fleet, shard=shard)
    tracker.handle(overheard(uuid="other", said="task-started", pid=1), clock.now)

    def beats() -> list[str]:
        for _ in range(3):
            tracker.handle(make_event("worker-heartbeat", hostname="celery@one", freq=2.0, active=1), clock.now)
        return tracker.suspects()

    assert not beats()
    tracker.handle(overheard(uuid="another", said="task-started", pid=1), clock.now)
    assert beats() == ["celery@one"]
    running = (RunningTask("other", "t", None, EPOCH),)
    tracker.seed(Snapshot("celery@one", clock.now.wall, running, (), ("q",)), clock.now)
    assert not beats()
    assert len(tracker) == 0
    tracker.handle(overheard(uuid="other", said="task-succeeded", pid=1), clock.now)
    assert not any(worker.others for worker in fleet)
