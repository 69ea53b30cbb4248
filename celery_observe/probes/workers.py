"""What workers say when they are asked: what they execute and hold, which queues they consume, what their pool can do.

Events alone cannot tell what was under way before we came, nor capacity. All workers are asked together once per
interval, those that events give a reason for in between. Only the answers to the first make samples.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from celery_observe.broker import BrokerSettings
from celery_observe.event import Snapshot, snapshot
from celery_observe.logs import log
from celery_observe.masking import mask_text
from celery_observe.metrics import Family, observer, workers
from celery_observe.names import label_rules
from celery_observe.probes import Observed, Sample
from celery_observe.probes.answers import Stats, multiplier, rate_limits, stats
from celery_observe.probes.control import Question, RemoteControl, Replies
from celery_observe.settings import Settings

_ASK_AGAIN = 300.0
"""Seconds after which what seldom changes is asked for again: settings and rate limits."""
_MAX_SCHEDULED = 1000
"""A worker that holds more tasks until their ETA is not asked for them: its answer would keep it from its work."""
_UNREADABLE = (msgspec.ValidationError, AttributeError, KeyError, TypeError, ValueError)
"""What an answer raises that Celery does not give."""
T = TypeVar("T")


class Answers(NamedTuple):
    """What workers have answered: what each does and is, and why it cannot send task events (None: it does)."""

    snapshots: list[Snapshot]
    stats: dict[str, Stats]
    enabled: dict[str, str | None]


class _Known(msgspec.Struct):
    """What is remembered of a worker that is up but did not answer the last time: it may have been busy."""

    stats: Stats
    queues: tuple[str, ...] | None = None
    multiplier: int | None = None
    limits: dict[str, float] = {}
    asked: float = 0.0
    """When its settings were asked for, by our monotonic clock."""

    @property
    def configured_prefetch(self) -> int | None:
        """The prefetch count that its settings amount to."""
        if self.multiplier is None or self.stats.most_slots is None:
            return None
        return self.multiplier * self.stats.most_slots

    @property
    def has_few_scheduled(self) -> bool:
        """Whether it may be asked for them: each that it holds until its ETA adds one to its prefetch count."""
        configured, now = self.configured_prefetch, self.stats.prefetch
        return bool(configured) and now is not None and now - (configured or 0) <= _MAX_SCHEDULED


class WorkersProbe:
    """Questions to the workers of one broker. Blocks for as long as workers have to answer; not for the reader."""

    name = "workers"
    families: tuple[Family, ...] = (
        observer.WORKERS_ANSWERED,
        workers.SLOTS,
        workers.CONSUMES,
        workers.PREFETCH,
        workers.PREFETCH_CONFIGURED,
        workers.RESERVED,
        workers.SCHEDULED,
        workers.RATE_LIMIT,
        workers.TASKS,
        workers.UPTIME,
        workers.CPU,
        workers.PEAK_MEMORY,
    )

    def __init__(
        self,
        broker: BrokerSettings,
        settings: Settings,
        observed: Observed,
        *,
        on_answers: Callable[[Answers, set[str]], None] = lambda _answers, _expected: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.interval = settings.inspect_interval
        self._control = RemoteControl(broker, settings.inspect_timeout)
        self._observed = observed
        self._on_answers = on_answers
        self._clock = clock
        self._label_of = label_rules(settings.task_allow, settings.task_deny, settings.task_rename)
        self._by_task = settings.worker_label
        self._enable = [Question("enable_events")] if settings.enable_events else []
        self._known: dict[str, _Known] = {}

    def ask(self) -> list[Sample]:
        """Ask all workers everything, and return as soon as all have answered that are known. Raises ProbeError."""
        asked, up = time.time(), self._observed.up()
        known = None if self._enable else up | self._known.keys()  # a new worker need not send heartbeats
        replies = self._control.ask([*self._now(None), *self._seldom(up)], known or None)
        answers = _understood(replies, asked)
        self._on_answers(answers, up)
        self._learn(answers.stats, replies, up)
        return [*self._tell(replies)]

    def enquire(self, names: Collection[str] | None) -> Answers:
        """Ask these workers, or all, what they execute, hold and consume. Raises ProbeError."""
        asked = time.time()
        return _understood(self._control.ask(self._now(names), names), asked)

    def close(self) -> None:
        """Do nothing: an enquiry leaves nothing open."""

    # -- questions

    def _now(self, names: Collection[str] | None) -> list[Question]:
        """Return what is asked each time. Events are turned on first, so that what follows covers what came before."""
        commands = ("active", "reserved", "active_queues", "stats")
        return [each._replace(workers=names) for each in (*self._enable, *map(Question, commands))]

    def _seldom(self, up: set[str]) -> list[Question]:
        """Return what is asked of some: settings, if not known lately, and what waits for its ETA, if not too much."""
        now = self._clock()
        fresh = {name for name, known in self._known.items() if now - known.asked < _ASK_AGAIN}
        due = (up | self._known.keys()) - fresh
        few = {name for name, known in self._known.items() if known.has_few_scheduled}
        return [
            Question("conf", due),
            Question("registered", due, {"taskinfoitems": ["rate_limit"]}),
            Question("scheduled", few),
        ]

    # -- answers

    def _learn(self, answered: dict[str, Stats], replies: Replies, up: set[str]) -> None:
        """Remember what those say that answered; forget who neither answers nor beats."""
        known = {name: known for name, known in self._known.items() if name in up}
        for name, said in answered.items():
            before = self._known.get(name)
            known[name] = before if before and before.stats.pid == said.pid else _Known(said)
            known[name].stats = said
            self._learn_settings(name, known[name], replies)
        self._known = known

    def _learn_settings(self, name: str, known: _Known, replies: Replies) -> None:
        if name in replies["active_queues"]:
            queues = _read(name, lambda: tuple(str(each["name"]) for each in replies["active_queues"][name]))
            known.queues = known.queues if queues is None else queues
        if name in replies["conf"] and name in replies["registered"]:
            known.asked = self._clock()
            known.multiplier = _read(name, lambda: multiplier(replies["conf"][name]))
            known.limits = _read(name, lambda: rate_limits(replies["registered"][name])) or {}

    # -- samples

    def _tell(self, replies: Replies) -> Iterator[Sample]:
        answered = self._known.keys() & replies["stats"].keys()
        yield Sample(observer.WORKERS_ANSWERED, (), len(answered))
        for name, known in self._known.items():
            yield from self._lasting(name, known)
        for name in answered:
            yield from self._momentary(name, self._known[name].stats, replies)

    def _momentary(self, name: str, said: Stats, replies: Replies) -> Iterator[Sample]:
        """Tell what is true of the moment of the answer only."""
        values = (
            (workers.PREFETCH, said.prefetch),
            (workers.RESERVED, _length(replies["reserved"].get(name))),
            (workers.SCHEDULED, _length(replies["scheduled"].get(name))),
            (workers.UPTIME, said.uptime),
            (workers.CPU, said.cpu),
            (workers.PEAK_MEMORY, said.peak_memory),
        )
        yield from (Sample(family, (name,), value) for family, value in values if value is not None)
        totals: Counter[str] = Counter()
        for task, count in said.total.items() if self._by_task else ():
            totals[self._label_of(task)] += count
        yield from (Sample(workers.TASKS, (name, task), count) for task, count in totals.items())

    def _lasting(self, name: str, known: _Known) -> Iterator[Sample]:
        """Tell what is true of a worker until it says otherwise."""
        if known.stats.slots is not None:
            yield Sample(workers.SLOTS, (name,), known.stats.slots)
        if known.configured_prefetch is not None:
            yield Sample(workers.PREFETCH_CONFIGURED, (name,), known.configured_prefetch)
        yield from (Sample(workers.CONSUMES, (name, queue), 1) for queue in known.queues or ())
        limits: dict[str, float] = {}
        for task, limit in known.limits.items():
            label = self._label_of(task)
            limits[label] = min(limit, limits.get(label, limit))
        yield from (Sample(workers.RATE_LIMIT, (name, label), limit) for label, limit in limits.items())


def _understood(replies: Replies, asked: float) -> Answers:
    """Make sense of all replies but those that Celery does not give."""
    said = {name: _read(name, partial(stats, reply)) for name, reply in replies["stats"].items()}
    known = {name: each for name, each in said.items() if each is not None}
    found = (_read(name, partial(_snapshot, name, replies, asked, known.get(name))) for name in replies["active"])
    enabled = {name: _refusal(reply) for name, reply in replies.get("enable_events", {}).items()}
    return Answers([each for each in found if each is not None], known, enabled)


def _snapshot(name: str, replies: Replies, asked: float, said: Stats | None) -> Snapshot:
    return snapshot(
        name,
        asked,
        replies["active"][name],
        replies["reserved"].get(name, ()),
        replies["active_queues"].get(name),
        said.pool_name if said is not None else "",
    )


def _read(name: str, read: Callable[[], T]) -> T | None:
    """Return what an answer says; None, and a line in the log, if Celery does not answer so."""
    try:
        return read()
    except _UNREADABLE as error:
        log.warning("worker gave an answer that Celery does not give", worker=name, error=str(error)[:200])
        return None


def _length(reply: Any) -> int | None:
    return len(reply) if isinstance(reply, list) else None


def _refusal(reply: Any) -> str | None:
    """Return why a command failed; Celery says so of workers without -E, heartbeats and gossip."""
    if isinstance(reply, dict) and "ok" in reply:
        return None
    return mask_text(str(reply.get("error", reply) if isinstance(reply, dict) else reply))[:200]
