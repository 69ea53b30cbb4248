"""The words of the answer. Times are seconds, rates are per second; None is what is not known, which is not zero."""

from __future__ import annotations

import msgspec


class Row(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One line of a table; ``broker`` is empty where there is one only."""

    broker: str = ""


class Queue(Row):
    """A queue, as its broker tells it."""

    queue: str
    waiting: float | None = None
    priorities: dict[str, float] = {}
    """What waits by priority, where the broker tells."""
    in_flight: float | None = None
    scheduled: float | None = None
    oldest: float | None = None
    """Age of the oldest message that waits."""
    consumers: float | None = None
    slots: float | None = None
    desired: float | None = None
    """Slots that would be enough."""
    dead: float | None = None
    """Messages, if it holds what failed for good."""

    @property
    def is_troubled(self) -> bool:
        """Whether messages wait and nobody takes them."""
        return bool(self.waiting) and self.consumers == 0


class Worker(Row):
    """A worker, as its heartbeats and answers tell it."""

    worker: str
    up: bool | None = None
    active: float | None = None
    slots: float | None = None
    reserved: float | None = None
    prefetch: float | None = None
    stalled: bool | None = None
    connected: bool | None = None
    heartbeat: float | None = None
    """Time since its last."""
    rate: float | None = None
    """Tasks that it accepts a second, over the window."""
    unobserved: float = 0
    load: float | None = None
    pool: str = ""
    version: str = ""

    @property
    def is_troubled(self) -> bool:
        """Whether it is gone, or there and of no use."""
        return self.up is False or bool(self.stalled) or self.connected is False

    @property
    def utilisation(self) -> float:
        """How much of it is busy."""
        return (self.active or 0) / self.slots if self.slots else 0.0


class Task(Row):
    """What attempts of a task took, within the window."""

    task: str
    runs: int
    median: float
    p95: float
    busy: float
    """Seconds in which they ran, all together."""
    running: float | None = None
    oldest: float | None = None
    """Time since the longest running one started."""


class Failure(Row):
    """What failed of a task, within the window."""

    task: str
    failed: int
    ended: int
    """Attempts that ended, however."""
    retried: int = 0
    exception: str = ""
    """The most frequent reason."""
    cause: str = ""


class Root(Row):
    """Workflows that began with the same task and have not ended."""

    root: str
    active: float
    open: float = 0
    """Their tasks that are known and have not ended."""
    group_tasks: float = 0
    group_ended: float = 0
    chords_waiting: float = 0
    chords_stalled: dict[str, float] = {}
    """By reason."""


class Alert(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An alert that one of our own rules raised, without its text."""

    rule: str
    severity: str
    labels: dict[str, str]
    count: int
    age: float
    uuid: str = ""
    """The task that raised it first, if one did."""


class Concern(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Something that somebody should look at."""

    severity: str
    """critical or warning"""
    about: str
    """worker, queue, workflow or observer"""
    name: str
    text: str


class Plugin(Row):
    """A stream, a probe or a collector of ours."""

    plugin: str
    up: bool
    problem: str = ""


class Observer(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Whether the rest can be believed. Numbers are since the start unless they say otherwise."""

    events_rate: float = 0
    lag: float | None = None
    unobserved: float = 0
    unobserved_lately: float = 0
    """Within the window."""
    gap: float = 0
    reconnects: float = 0
    malformed: float = 0
    evicted: float = 0
    overflowed: float = 0
    tracked: float = 0
    plugins: list[Plugin] = []


class History(msgspec.Struct, kw_only=True):
    """Points in the order of time: ``ago`` seconds before the answer; what has an outcome, and published, are rates."""

    ago: list[float]
    published: list[float | None]
    succeeded: list[float | None]
    failed: list[float | None]
    retried: list[float | None]
    other: list[float | None]
    running: list[float | None]
    waiting: list[float | None]
    workers: list[float | None]
    """Those that are up."""
    lag: list[float | None]


class Now(msgspec.Struct, kw_only=True):
    """This moment, of all sources together."""

    running: float | None
    slots: float | None
    """Of the workers that are up."""
    waiting: float | None
    oldest: float | None
    """Age of the oldest message that waits."""
    workers_up: int
    workers_known: int


class Overview(msgspec.Struct, kw_only=True):
    """The whole answer."""

    version: str
    at: float
    """Unix seconds of when it was made."""
    uptime: float
    window: float
    """Seconds that tables look back: less than they may, soon after the start."""
    ready: bool
    reasons: list[str]
    brokers: list[str]
    """Names, or the URL of the only one; none where instrumented processes report."""
    flower: str | None
    """URL."""
    outcomes: dict[str, float]
    """Attempts that ended within the window."""
    now: Now
    concerns: list[Concern]
    alerts: list[Alert]
    alerting: bool
    """Whether there are rules of ours at all."""
    history: History
    queues: list[Queue]
    workers: list[Worker]
    slowest: list[Task]
    failing: list[Failure]
    workflows: list[Root]
    observer: Observer
    left_out: dict[str, int]
    """Rows of a table beyond those that it has room for."""
