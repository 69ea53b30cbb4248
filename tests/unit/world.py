"""A tracker with its fleet, a clock that is moved by hand, and the facts that came out."""

from __future__ import annotations

from collections import Counter
from typing import Any, TypeVar

from celery_observe.chronicle import Chronicle
from celery_observe.event import RunningTask, Snapshot
from celery_observe.fact import Ended, Fact, Traced
from celery_observe.fleet import Fleet
from celery_observe.testing import FakeClock, make_event
from celery_observe.tracing.replay import Span, spans_of
from celery_observe.tracing.replay_sampling import Sampling
from celery_observe.tracker import Tracker

F = TypeVar("F", bound=Fact)

WORKER = "celery@host"
PUBLISHER = "gen9@host"

# What the short notation of `play` stands for; a number after a word is the number of retries.
SHORT: dict[str, tuple[str, dict[str, Any]]] = {
    "s": ("task-sent", {"hostname": PUBLISHER, "pid": 9, "name": "t", "queue": "q"}),
    "r": ("task-received", {"name": "t"}),
    "st": ("task-started", {}),
    "ok": ("task-succeeded", {}),
    "f": ("task-failed", {"exception": "ValueError('no')", "traceback": "Traceback\nValueError: no\n"}),
    "rt": ("task-retried", {"exception": "ValueError('no')"}),
    "rv": ("task-revoked", {}),
    "ex": ("task-revoked", {"expired": True}),
    "tm": ("task-revoked", {"terminated": True}),
    "rj": ("task-rejected", {"requeue": False}),
    "rq": ("task-rejected", {"requeue": True}),
    "cn": ("task-cancelled", {}),
    "un": ("task-failed", {"exception": "NotRegistered('t')"}),
}


class World:
    """A world of one task, `a`, of one worker, unless told otherwise."""

    def __init__(self, *, worker_timeout: float = 300.0, sampling: Sampling | None = None, **options: Any) -> None:
        self.clock = FakeClock()
        self.facts: list[Fact] = []
        if sampling is not None:
            options["chronicle"] = Chronicle(self.facts.append, sampling.trace_of)
        self.fleet = Fleet(self.facts.append, worker_timeout)
        self.tracker = Tracker(self.facts.append, self.fleet, **options)
        self.tracker.connected(self.clock.now)

    def say(self, type_: str, *, ago: float = 0.0, **fields: Any) -> World:
        """Hand over an event of this moment, or one that happened a while ago."""
        fields = {"timestamp": self.clock.now.wall - ago} | fields
        self.tracker.handle(make_event(type_, **fields), self.clock.now)
        return self

    def play(self, script: str, *, apart: float = 0.01, **fields: Any) -> World:
        """Hand over events in short notation, one after another: `"s r st s1 r1 rt st ok"`."""
        for word in script.split():
            self.clock.advance(apart)
            kind = word.rstrip("0123456789")
            type_, defaults = SHORT[kind]
            retries = {"retries": int(word[len(kind) :] or 0)} if kind in {"s", "r"} else {}
            self.say(type_, **({"uuid": "a"} | defaults | retries | fields))
        return self

    def beat(self, *, active: int | None = None, processed: int | None = None, **fields: Any) -> World:
        """Hand over a heartbeat."""
        given = {"freq": 2.0, "active": active, "processed": processed, "sw_ver": "5.7.0"} | fields
        return self.say("worker-heartbeat", **given)

    def pass_time(self, seconds: int) -> World:
        """Let seconds pass, each with its tick."""
        for _ in range(seconds):
            self.tracker.tick(self.clock.advance(1.0))
        return self

    def snapshot(self, *, active: tuple[str, ...] = (), queues: tuple[str, ...] | None = ("q",)) -> World:
        """Hand over what the worker says that it executes."""
        tasks = tuple(RunningTask(uuid, "t", None, self.clock.now.wall - 5.0) for uuid in active)
        told = Snapshot(worker=WORKER, asked=self.clock.now.wall, active=tasks, reserved=(), queues=queues)
        self.tracker.seed(told, self.clock.now)
        return self

    def told(self, kind: type[F]) -> list[F]:
        """The facts of one kind, in the order in which they came."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def count(self, kind: type[Fact]) -> int:
        """How many facts of this kind came."""
        return len(self.told(kind))

    def spans(self) -> list[Span]:
        """What is rebuilt of all attempts, of which nothing more will come."""
        self.tracker.finish()
        return [span for traced in self.told(Traced) for span in spans_of(traced, {})]

    @property
    def outcomes(self) -> list[str]:
        """How attempts ended, in this order."""
        return [str(fact.outcome) for fact in self.told(Ended)]

    @property
    def endings(self) -> Counter[str]:
        """Task and outcome of all that ended."""
        return Counter(f"{fact.task} {fact.outcome}" for fact in self.told(Ended))

    @property
    def running(self) -> int:
        """How many attempts execute."""
        return sum(entry.count for entry in self.tracker.running().values())
