"""What a few seconds of events amount to. Pure: what came when is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from celery_observe.doctor.evidence import Heard, HeardTask, HeardWorker
from celery_observe.event import Event, Malformed

_MAX_NAMES = 5000
"""Workers, and names of tasks, that are told apart; bounds what a hostile producer can have us remember."""
_MAX_OPEN = 50_000
"""Tasks that were received and have not ended, whose names are remembered."""
_MAX_SENDERS = 20
_UNREGISTERED = "NotRegistered("
T = TypeVar("T")


class _Worker(msgspec.Struct):
    version: str = ""
    pids: set[int] = msgspec.field(default_factory=set)
    heartbeats: int = 0
    received: int = 0
    started: int = 0
    lag: float | None = None


class _Task(msgspec.Struct):
    sent: int = 0
    received: int = 0
    queues: set[str] = msgspec.field(default_factory=set)
    senders: set[str] = msgspec.field(default_factory=set)
    longest: float = 0.0


class Listening:
    """Takes events in, and forgets them."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}
        self._tasks: dict[str, _Task] = {}
        self._names: dict[str, str] = {}
        self._unregistered = 0
        self._refused = 0
        self._malformed = 0

    def refuse(self, reason: Malformed) -> None:
        """Note that a body could not be read."""
        if reason is Malformed.REFUSED_CONTENT:
            self._refused += 1
        else:
            self._malformed += 1

    def take(self, events: Iterable[Event], now: float) -> None:
        """Take in events that have just arrived, at a Unix time."""
        for event in events:
            if event.type == "task-sent":
                self._take_sent(event)
            else:
                self._take_from_worker(event, now)

    def heard(self, seconds: float) -> Heard:
        """Sum up what came in so many seconds."""
        return Heard(
            seconds=seconds,
            workers={name: _frozen(HeardWorker, each) for name, each in self._workers.items()},
            tasks={name: _frozen(HeardTask, each) for name, each in self._tasks.items()},
            unregistered=self._unregistered,
            refused=self._refused,
            malformed=self._malformed,
        )

    def _take_sent(self, event: Event) -> None:
        task = self._task(event.name)
        task.sent += 1
        if event.queue:
            _add(task.queues, event.queue)
        _add(task.senders, event.hostname)

    def _take_from_worker(self, event: Event, now: float) -> None:
        worker = _entry(self._workers, event.hostname, _Worker)
        lag = now - event.timestamp
        worker.lag = lag if worker.lag is None else min(worker.lag, lag)
        if event.type == "worker-heartbeat":
            worker.heartbeats += 1
            worker.version = event.sw_ver or worker.version
            if event.pid is not None:
                _add(worker.pids, event.pid)
        elif event.type == "task-received":
            worker.received += 1
            self._task(event.name).received += 1
            if event.uuid and event.name and len(self._names) < _MAX_OPEN:
                self._names[event.uuid] = event.name
        elif event.type == "task-started":
            worker.started += 1
        elif event.type in {"task-succeeded", "task-failed"}:
            self._take_end(event)

    def _take_end(self, event: Event) -> None:
        name = self._names.pop(event.uuid or "", None)
        if name is not None:
            task = self._task(name)
            task.longest = max(task.longest, event.runtime or 0.0)
        self._unregistered += (event.exception or "").startswith(_UNREGISTERED)

    def _task(self, name: str | None) -> _Task:
        return _entry(self._tasks, name or "", _Task)


def _entry(table: dict[str, T], name: str, kind: type[T]) -> T:
    if name not in table and len(table) >= _MAX_NAMES:
        return kind()
    return table.setdefault(name, kind())


def _add(found: set[T], item: T) -> None:
    if len(found) < _MAX_SENDERS:
        found.add(item)


def _frozen(kind: type[T], counted: msgspec.Struct) -> T:
    fields = msgspec.structs.asdict(counted)
    return kind(**{name: frozenset(value) if isinstance(value, set) else value for name, value in fields.items()})
