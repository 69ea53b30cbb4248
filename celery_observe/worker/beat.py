"""Beat as its own process sees it: that it ticks, what it finds due, sends or fails to send, and how late.

Celery sends no signal of any of this, so three methods of the one scheduler object are wrapped: ``tick``, ``close``,
and ``apply_async``, through which all schedulers publish (``celery/beat.py: Scheduler.apply_entry``,
``redbeat/schedulers.py: RedBeatScheduler.maybe_due``), and both swallow what that raises. Arguments, results and
exceptions pass as they are. ``schedule`` is never read: that of django-celery-beat asks the database and changes
state, that of RedBeat asks Redis.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

import msgspec
from celery import signals
from celery.utils.time import maybe_make_aware

from celery_observe.report import LISTED_AT_ONCE, Clock, Due, Entries, Sent
from celery_observe.streams.local import pair
from celery_observe.worker.guard import handler, harmless, told, watched
from celery_observe.worker.headers import ENTRY
from celery_observe.worker.reporter import reporter
from celery_observe.worker.stored import Stored
from celery_observe.worker.tracing import tracing

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_observe.report import AnyReport
    from celery_observe.settings import Settings

_INTERVAL = 1.0
_LISTED_EVERY = 30.0
"""Seconds between two lists of all entries, for a sidecar that was started anew; a change is told at once."""
_LAST_PORT = 65535

_sending: ContextVar[str | None] = ContextVar("celery_observe_entry", default=None)
"""The entry whose task this thread is publishing."""


class Beat:
    """Watches the scheduler of one beat, from its start to its end."""

    def __init__(self, scheduler: Any, clock: Callable[[], float] = time.time) -> None:
        self.hostname = f"beat@{socket.gethostname()}"
        self._instance = uuid.uuid4().hex
        self._scheduler = scheduler
        self._clock = clock
        self._stored = Stored(scheduler.app)
        self._ticked: float | None = None
        self._due: float | None = None
        self._leaving = False
        self._host: object = None
        self._listed: tuple[float, frozenset[str]] = (0.0, frozenset())

    def watch(self) -> None:
        """Wrap what beat calls of its scheduler, and name the entry in the messages that it publishes."""
        scheduler = self._scheduler
        scheduler.tick = self._noting(scheduler.tick)
        scheduler.apply_async = watched(self._telling(scheduler.apply_async), self._failed)
        scheduler.close = self._ending(scheduler.close)
        signals.before_task_publish.connect(handler(_stamp), weak=False)

    def start(self, settings: Settings) -> None:
        """Speak each second from now on, and serve what is said unless somebody listens already."""
        reading = None
        if not reporter.has_listener:
            reading, writing = pair()
            reporter.write_to(writing)
        threading.Thread(target=self._live, args=(settings, reading), name="celery-observe", daemon=True).start()

    def _noting(self, tick: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(tick)
        def noted(*args: Any, **named: Any) -> Any:
            seconds = tick(*args, **named)
            self._ticked = self._clock()
            return seconds

        return noted

    def _telling(self, apply_async: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(apply_async)
        def observed(entry: Any, *args: Any, **named: Any) -> Any:
            self._begin(entry)
            result = apply_async(entry, *args, **named)
            self._sent(entry)
            return result

        return observed

    def _ending(self, close: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(close)
        def ended(*args: Any, **named: Any) -> Any:
            self._leave()
            return close(*args, **named)

        return ended

    @harmless
    def _begin(self, entry: Any) -> None:
        name = _name(entry)
        _sending.set(name)
        self._due = due_at(entry, self._clock())
        _send(Due(self._clock(), self.hostname, name))
        if tracing.creation is not None:
            tracing.creation.begin_entry(name, self._lateness)

    @harmless
    def _sent(self, entry: Any) -> None:
        _sending.set(None)
        if tracing.creation is not None:
            tracing.creation.end_entry()
        _send(Sent(self._clock(), self.hostname, _name(entry), self._lateness))

    @harmless
    def _failed(self, error: BaseException, entry: Any, *_: Any, **__: Any) -> None:
        _sending.set(None)
        if tracing.creation is not None:
            tracing.creation.end_entry(error)
        _send(Sent(self._clock(), self.hostname, _name(entry), failed=True))

    @property
    def _lateness(self) -> float | None:
        return None if self._due is None else max(0.0, self._clock() - self._due)

    @harmless
    def _leave(self) -> None:
        self._leaving = True
        _send(self._said())

    def _live(self, settings: Settings, reading: socket.socket | None) -> None:
        self._stored.watch()
        if reading is not None:
            self._serve(settings, reading)
        while not self._leaving:
            self._tell()
            time.sleep(_INTERVAL)

    @told
    def _serve(self, settings: Settings, reading: socket.socket) -> None:
        """Serve from the port after that of workers on, lest one of this host find its own taken."""
        from celery_observe import hosting  # noqa: PLC0415 - who reports to a sidecar does without
        from celery_observe.worker.resident import is_green, process_apart  # noqa: PLC0415 - as above

        port = min(settings.port + 1, _LAST_PORT) if settings.port else 0
        serve = process_apart if is_green() else hosting.serve_as_guest
        self._host = serve(self.hostname, msgspec.structs.replace(settings, port=port), reading)

    @harmless
    def _tell(self) -> None:
        _send(self._said())
        now = self._clock()
        names = frozenset(_name(entry) for _, _, entry in list(self._heap or ()))
        listed_at, listed = self._listed
        if names == listed and now - listed_at < _LISTED_EVERY:
            return
        self._listed = now, names
        ordered = sorted(names)
        for start in range(0, len(ordered), LISTED_AT_ONCE):
            _send(Entries(now, self.hostname, ordered[start : start + LISTED_AT_ONCE]))

    def _said(self) -> Clock:
        return Clock(
            timestamp=self._clock(),
            hostname=self.hostname,
            instance=self._instance,
            max_interval=self._scheduler.max_interval,
            ticked=self._ticked,
            entries=self._stored.count if self._heap is None else len(self._heap),
            leaving=self._leaving,
        )

    @property
    def _heap(self) -> list[Any] | None:
        """What Celery's tick works on, in place: one (time, priority, entry) for each entry. RedBeat has none."""
        heap: list[Any] | None = getattr(self._scheduler, "_heap", None)
        return heap


def due_at(entry: Any, now: float) -> float | None:
    """Return when an entry became due, in Unix seconds; None if that cannot be told, as of RedBeat's that never ran.

    ``now`` + what remains, which is negative (``celery/schedules.py: BaseSchedule.remaining_estimate``).
    django-celery-beat sends an entry with a ``start_time`` for the first time then.
    """
    try:
        last = maybe_make_aware(entry.last_run_at).astimezone(entry.schedule.tz)
        due: float = now + entry.schedule.remaining_estimate(last).total_seconds()
        start = getattr(getattr(entry, "model", None), "start_time", None)
        return max(due, start.timestamp()) if start is not None else due
    except (AttributeError, NotImplementedError, TypeError, ValueError):  # a schedule of the user's own may lack it
        return None


def _stamp(headers: dict[str, Any], **_: Any) -> None:
    """Name the entry in the headers of the message that beat publishes for it."""
    entry = _sending.get()
    if entry is not None:
        headers[ENTRY] = entry


def _name(entry: Any) -> str:
    return str(entry.name)[:512]


def _send(report: AnyReport) -> None:
    if reporter.has_listener and not reporter.off:
        reporter.send(report)
