"""What workers say when they are asked: what they execute and hold, which queues they consume, what their pool can do.

Celery has no command that answers all of this, so the questions take turns: once per interval one of them goes to all
workers, as one broadcast. At the start, after a connect and after an outage all go out together; and those workers of
which events give a reason are asked by name. All answers make samples, each as old as its question.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from celery_observe.broker import BrokerSettings
from celery_observe.event import Snapshot, snapshot
from celery_observe.logs import log
from celery_observe.masking import mask_text
from celery_observe.metrics import Family, observer, workers
from celery_observe.names import label_rules
from celery_observe.probes import Observed, Sample
from celery_observe.probes.answers import Stats, length, multiplier, queue_names, rate_limits, stats
from celery_observe.probes.control import Question, RemoteControl, Replies
from celery_observe.probes.known import Known
from celery_observe.probes.rota import ROUND, Rota
from celery_observe.settings import Settings

_ASK_AGAIN = 300.0
"""Seconds after which what seldom changes is asked for again: settings and rate limits."""
_MAX_SCHEDULED = 1000
"""A worker that holds more tasks until their ETA is not asked for them: its answer would keep it from its work."""
_UNREADABLE = (msgspec.ValidationError, AttributeError, KeyError, TypeError, ValueError)
"""What an answer raises that Celery does not give."""
_ENABLE = "enable_events"
_EACH_TIME = ("active", "reserved", "active_queues", "stats")
_SELDOM: dict[str, dict[str, Any]] = {"registered": {"taskinfoitems": ["rate_limit"]}, "conf": {}}
"""Large answers that seldom change, with the arguments of the commands."""
T = TypeVar("T")


class Answers(NamedTuple):
    """What workers have answered: what each does and is, and why it cannot send task events (None: it does)."""

    snapshots: list[Snapshot]
    enabled: dict[str, str | None] | None
    """None if that was not the question."""


class WorkersProbe:
    """Questions to the workers of one broker. Blocks for as long as workers have to answer; not for the reader."""

    name = "workers"
    families: tuple[Family, ...] = (
        observer.WORKERS_ANSWERED,
        observer.WORKERS_ASKED,
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
        put: Callable[[Sequence[Question], Collection[str] | None], Replies] | None = None,
    ) -> None:
        self.interval = settings.inspect_interval
        self._put = put or RemoteControl(broker, settings.inspect_timeout).ask
        self._observed = observed
        self._on_answers = on_answers
        self._clock = clock
        self._label_of = label_rules(settings.task_allow, settings.task_deny, settings.task_rename)
        self._by_task = settings.worker_label
        self._enable = (_ENABLE,) if settings.enable_events else ()
        self._rota = Rota(*((each,) for each in (*reversed(_EACH_TIME), "scheduled")), (*self._enable, *_SELDOM))
        self._known = Known()
        self._whole = True
        self._answered = 0
        self._asked: dict[str, float] = {}
        """When each question was asked last, in Unix seconds."""

    def ask(self) -> list[Sample]:
        """Ask all workers the next question, or all at once if little is known. Raises ProbeError."""
        up = self._observed.up()
        if self._is_old("stats"):
            self._whole = True
        questions = self._together(None) if self._whole else [self._next(up)]
        answers = self._ask(questions, up | self._known.workers)
        self._whole = False
        self._on_answers(answers, up)
        return [*self._tell()]

    def enquire(self, names: Collection[str] | None) -> Answers:
        """Ask these workers, or all, what they do, and those of them that are new the rest too. Raises ProbeError."""
        new = [self._question(command, self._known.older(command, names or (), -math.inf)) for command in _SELDOM]
        answers = self._ask([*self._together(names), *new], names)
        if self._is_old("stats"):  # another replica asks all: of who is gone nobody else reminds us
            self._known.keep(self._observed.up().union(names or ()))
        return answers

    def renew(self) -> None:
        """Ask all that can be asked of all workers the next time: what was known of them may be over."""
        self._whole = True

    @property
    def remembered(self) -> int:
        """How many workers are remembered."""
        return len(self._known.workers)

    def close(self) -> None:
        """Do nothing: an enquiry leaves nothing open."""

    # -- questions

    def _together(self, names: Collection[str] | None) -> list[Question]:
        """Return what is asked at once. Events are turned on first, so that what follows covers what came before."""
        return [self._question(command, names) for command in (*self._enable, *_EACH_TIME)]

    def _question(self, command: str, names: Collection[str] | None) -> Question:
        return Question(command, names, _SELDOM.get(command, {}))

    def _next(self, up: set[str]) -> Question:
        """Return the question whose turn it is: to all; or to some, what is not known lately, or is not too much."""
        known, now = up | self._known.workers, self._clock()
        some = {command: self._known.older(command, known, now - _ASK_AGAIN) for command in _SELDOM}
        some["scheduled"] = set(filter(self._holds_few, self._known.workers))
        possible = [*self._enable, *_EACH_TIME, *(command for command, names in some.items() if names)]
        command = self._rota.next(possible)
        return self._question(command, some.get(command))

    # -- answers

    def _ask(self, questions: list[Question], expected: Collection[str] | None) -> Answers:
        asked, at = time.time(), self._clock()
        enabling = any(question.command == _ENABLE for question in questions)  # and a new worker need not beat
        replies = self._put(questions, None if enabling else expected or None)
        for question in sorted(questions, key=lambda each: each.command != "stats"):
            self._learn(question, replies[question.command], at)
        everybody = [question.command for question in questions if question.workers is None]
        if everybody:
            self._known.keep(self._observed.up().union(*(replies[command] for command in everybody)))
            self._answered = max(len(replies[command]) for command in everybody)
        is_turn = len(questions) == 1
        for command in (each.command for each in questions if is_turn or each.workers is None):
            self._rota.note(command, at)
            self._asked[command] = asked
        enabled = {name: _refusal(reply) for name, reply in replies[_ENABLE].items()} if enabling else None
        return Answers([*self._snapshots(replies, asked)], enabled)

    def _learn(self, question: Question, replies: dict[str, Any], at: float) -> None:
        """Remember what those say that answered, and who did not; it is made sense of, or it is none."""
        read = _READERS[question.command]
        found = ((name, _read(name, read, reply)) for name, reply in replies.items())
        answers = {name: answer for name, answer in found if answer is not None}
        asked = self._known.workers if question.workers is None else question.workers
        self._known.take(question.command, answers, asked, at)

    def _snapshots(self, replies: Replies, asked: float) -> Iterator[Snapshot]:
        """Return what the reader wants to know of the workers that have just answered."""
        active, reserved = replies.get("active", {}), replies.get("reserved", {})
        queues, said = self._known.last("active_queues"), self._known.last("stats")
        for name in sorted(set[str]().union(*(replies.get(command, ()) for command in _EACH_TIME))):
            pool = said[name].pool_name if name in said else ""
            told = name, asked, active.get(name), reserved.get(name, ()), queues.get(name), pool
            found = _read(name, snapshot, *told)
            if found is not None:
                yield found

    # -- samples

    def _is_old(self, command: str) -> bool:
        """Whether a question has had no answers for two rounds: what was true of a moment is so no more."""
        return self._clock() - self._rota.asked(command) > 2 * ROUND * self.interval

    def _now(self, command: str) -> dict[str, Any]:
        return {} if self._is_old(command) else self._known.now(command)

    def _configured_prefetch(self, name: str) -> int | None:
        """Return the prefetch count that a worker's settings amount to."""
        factor, said = self._known.last("conf").get(name), self._known.last("stats").get(name)
        return factor * said.most_slots if factor is not None and said is not None and said.most_slots else None

    def _holds_few(self, name: str) -> bool:
        """Whether a worker may be asked for what waits for its ETA: each adds one to its prefetch count."""
        configured = self._configured_prefetch(name)
        now = self._known.last("stats")[name].prefetch if configured is not None else None
        return configured is not None and now is not None and now - configured <= _MAX_SCHEDULED

    def _tell(self) -> Iterator[Sample]:
        yield Sample(observer.WORKERS_ANSWERED, (), self._answered)
        yield from (Sample(observer.WORKERS_ASKED, (command,), at) for command, at in self._asked.items())
        yield from self._lasting()
        for name, said in self._now("stats").items():
            yield from self._momentary(name, said)
        yield from (Sample(workers.RESERVED, (name,), count) for name, count in self._now("reserved").items())
        for name, count in self._now("scheduled").items():
            if self._holds_few(name):
                yield Sample(workers.SCHEDULED, (name,), count)

    def _momentary(self, name: str, said: Stats) -> Iterator[Sample]:
        """Tell what is true of the moment of the answer only."""
        values = (
            (workers.PREFETCH, said.prefetch),
            (workers.UPTIME, said.uptime),
            (workers.CPU, said.cpu),
            (workers.PEAK_MEMORY, said.peak_memory),
        )
        yield from (Sample(family, (name,), value) for family, value in values if value is not None)
        totals: Counter[str] = Counter()
        for task, count in said.total.items() if self._by_task else ():
            totals[self._label_of(task)] += count
        yield from (Sample(workers.TASKS, (name, task), count) for task, count in totals.items())

    def _lasting(self) -> Iterator[Sample]:
        """Tell what is true of a worker until it says otherwise."""
        for name, said in self._known.last("stats").items():
            configured = self._configured_prefetch(name)
            if said.slots is not None:
                yield Sample(workers.SLOTS, (name,), said.slots)
            if configured is not None:
                yield Sample(workers.PREFETCH_CONFIGURED, (name,), configured)
        for name, queues in self._known.last("active_queues").items():
            yield from (Sample(workers.CONSUMES, (name, queue), 1) for queue in queues)
        for name, limits in self._known.last("registered").items():
            strictest: dict[str, float] = {}
            for task, limit in limits.items():
                label = self._label_of(task)
                strictest[label] = min(limit, strictest.get(label, limit))
            yield from (Sample(workers.RATE_LIMIT, (name, label), limit) for label, limit in strictest.items())


def _read(name: str, read: Callable[..., T], *said: Any) -> T | None:
    """Return what an answer says; None, and a line in the log, if Celery does not answer so."""
    try:
        return read(*said)
    except _UNREADABLE as error:
        log.warning("worker gave an answer that Celery does not give", worker=name, error=str(error)[:200])
        return None


def _refusal(reply: Any) -> str | None:
    """Return why a command failed; Celery says so of workers without -E, heartbeats and gossip."""
    if isinstance(reply, dict) and "ok" in reply:
        return None
    return mask_text(str(reply.get("error", reply) if isinstance(reply, dict) else reply))[:200]


_READERS: dict[str, Callable[[Any], Any]] = {
    _ENABLE: bool,
    "active": length,
    "reserved": length,
    "scheduled": length,
    "active_queues": queue_names,
    "stats": stats,
    "registered": rate_limits,
    "conf": multiplier,
}
