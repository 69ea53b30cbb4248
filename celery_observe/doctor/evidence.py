"""All that checks look at: gathered once, frozen, without secrets, arguments or results. Times are Unix seconds.

What could not be gathered is None, and `Evidence.missing` says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from celery_observe.broker import AMQP
from celery_observe.findings import listed

Conf = Mapping[str, Any]
"""Settings of Celery by their lower-case names, defaults filled in: those of `configuration.WATCHED`."""


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """What the URL of the broker and its settings say."""

    url: str
    """As it may be shown."""
    transport: str
    hosts: tuple[str, ...] = ()
    tls: bool = False
    user: str = ""
    has_password: bool = False
    """Whether all of the hosts are given one."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of a task that it has registered; defaults are Celery's."""

    acks_late: bool = False
    reject_on_worker_lost: bool = False
    time_limit: float | None = None
    soft_time_limit: float | None = None
    max_retries: int | None = 3
    """None is without end."""
    default_retry_delay: float = 180.0
    retries_by_itself: bool = False
    """Whether it has `autoretry_for`."""
    retry_backoff: float = 0.0
    """The factor in seconds; 0 is none."""
    retry_backoff_max: float = 600.0
    priority: int | None = None
    ignore_result: bool = False
    sends_events: bool = True


class ConsumedQueue(msgspec.Struct, frozen=True):
    """A queue as its consumer declared it."""

    name: str
    max_priority: int | None = None
    kind: str = "classic"
    """RabbitMQ's `x-queue-type`."""


class Running(msgspec.Struct, frozen=True):
    """A task that is being executed; ``acknowledged`` says whether its message is gone from the broker."""

    task: str
    since: float | None
    acknowledged: bool


class Scheduled(msgspec.Struct, frozen=True):
    """A task that a worker holds until its ETA."""

    task: str
    due: float


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker answered."""

    name: str
    pid: int | None = None
    pool: str = "prefork"
    slots: int | None = None
    limits: tuple[float, float] | None = None
    """Soft and hard time limit of the pool in seconds, 0 for none; None where the pool knows of none."""
    max_tasks: int | None = None
    """Tasks after which a child of the pool is replaced."""
    accepted: int | None = None
    """Tasks that it accepted while we listened; None if it did not answer after that."""
    queues: tuple[ConsumedQueue, ...] | None = None
    conf: Conf | None = None
    tasks: Mapping[str, Task] | None = None
    running: tuple[Running, ...] | None = None
    scheduled: tuple[Scheduled, ...] | None = None
    reserved: int | None = None
    """Messages that it holds and does not execute yet."""


class HeardWorker(msgspec.Struct, frozen=True, kw_only=True):
    """What the events of one worker said while we listened."""

    version: str = ""
    pids: frozenset[int] = frozenset()
    heartbeats: int = 0
    received: int = 0
    started: int = 0
    lag: float | None = None
    """The least difference between our clock and the time on an event, in seconds: the skew, and the way here."""


class HeardTask(msgspec.Struct, frozen=True, kw_only=True):
    """What events said of the tasks of one name."""

    sent: int = 0
    received: int = 0
    queues: frozenset[str] = frozenset()
    """Where they were sent to."""
    senders: frozenset[str] = frozenset()
    """The processes that sent them."""
    longest: float = 0.0
    """Seconds of the longest runtime."""


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What came over the event stream."""

    seconds: float
    workers: Mapping[str, HeardWorker] = {}
    tasks: Mapping[str, HeardTask] = {}
    unregistered: int = 0
    """Tasks that failed because their worker did not know them."""
    refused: int = 0
    """Bodies in a content type that is not accepted, such as pickle."""
    malformed: int = 0


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker says of a queue of tasks."""

    name: str
    waiting: int = 0
    priorities: frozenset[str] = frozenset()
    """Those of which messages wait; empty where the broker knows none."""
    consumers: int | None = None
    beyond: int = 0
    """Messages that a worker holds for an ETA after their visibility timeout."""


class Peek(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers of the oldest messages of a queue say, on brokers that can be looked into."""

    queue: str
    tasks: frozenset[str] = frozenset()
    content_types: frozenset[str] = frozenset()
    priorities: frozenset[int] = frozenset()
    stamped: bool = False
    """Whether an instrumented process published one."""


class OutputLimit(msgspec.Struct, frozen=True):
    """`client-output-buffer-limit pubsub`: bytes and seconds; 0 is without limit."""

    hard: int
    soft: int
    seconds: int


class Redis(msgspec.Struct, frozen=True, kw_only=True):
    """What a Redis says of itself."""

    version: str = ""
    max_memory: int = 0
    policy: str = "noeviction"
    evicted: int = 0
    """Keys evicted since it started."""
    appends: bool = False
    """Whether it has an append-only file."""
    save: str | None = None
    """When it saves snapshots, empty for never; None if it does not say."""
    output_limit: OutputLimit | None = None
    disconnected: int | None = None
    """Clients cut off since it started because they read too slowly; None before Redis 7.0."""
    skew: float | None = None
    """Seconds that our clock is ahead of its."""
    visibility_timeout: float = 3600.0
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    orphans: int | None = None
    """Keys of event receivers and of replies; None if the keyspace is too large to walk through."""
    peeks: tuple[Peek, ...] = ()


class App(msgspec.Struct, frozen=True, kw_only=True):
    """What the user's app says, as publishers use it."""

    conf: Conf
    routes: Mapping[str, str] = {}
    """Task name or pattern → queue."""
    default_queue: str | None = None
    """Where other tasks go; None if that cannot be known."""
    entries: Mapping[str, str] = {}
    """Task → the entry of beat's schedule that alone names it."""
    families: str | None = None
    """What instrumented processes count, `all` or `process`; None if the app does not instrument itself."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    now: float
    broker: Broker
    app: App | None = None
    workers: tuple[Worker, ...] = ()
    beats: int | None = None
    """Beats that answer; None if none does, as before Celery 5.7."""
    observers: int | None = None
    """Exporters that read the events; None where the broker does not tell."""
    heard: Heard | None = None
    queues: tuple[Queue, ...] | None = None
    redis: Redis | None = None
    missing: Mapping[str, str] = {}
    """The name of a part, `app`, `workers`, …: why it could not be gathered."""

    def why_no(self, part: str) -> str:
        """Say why a part is missing."""
        return self.missing.get(part, f"{part}: not asked for")

    def no_workers(self, what: str = "") -> str:
        """Say why nothing is known of workers, or not this of those that answer: `conf`, `tasks`, …."""
        if self.workers and what:
            return f"no worker told its {what}"
        return self.missing.get("broker") or self.missing.get("workers") or "no worker answers"

    @property
    def configurations(self) -> Iterator[tuple[str, Conf]]:
        """Whose settings are known, and what they are: the app's, which publishers use, and those of workers."""
        if self.app is not None:
            yield "the app", self.app.conf
        yield from ((worker.name, worker.conf) for worker in self.workers if worker.conf is not None)

    @property
    def tasks(self) -> dict[str, Task]:
        """The registered tasks of all workers that said so."""
        return {name: task for worker in self.workers for name, task in (worker.tasks or {}).items()}

    @property
    def consumed(self) -> dict[str, list[ConsumedQueue]]:
        """The queues that workers say they consume."""
        found: dict[str, list[ConsumedQueue]] = {}
        for worker in self.workers:
            for queue in worker.queues or ():
                found.setdefault(queue.name, []).append(queue)
        return found

    @property
    def silent(self) -> set[str]:
        """The workers that send events and do not answer."""
        heard = set(self.heard.workers) if self.heard else set()
        return heard - {worker.name for worker in self.workers}

    @property
    def doubt(self) -> str:
        """Why a queue may have consumers all the same; empty where the broker itself knows, or all workers answered."""
        told = f"; but {listed(self.silent)} may, and did not answer"
        return told if self.silent and self.broker.transport not in AMQP else ""

    @property
    def reached(self) -> set[str]:
        """The queues that somebody consumes, by what workers say or, of those that do not answer, the broker."""
        return {*self.consumed, *(queue.name for queue in self.queues or () if queue.consumers)}


def whose(evidence: Evidence, name: str, wrong: Iterable[Any]) -> list[str]:
    """Return whose setting has one of these values."""
    values = list(wrong)
    return [owner for owner, conf in evidence.configurations if conf.get(name) in values]
