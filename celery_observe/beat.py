"""What beat tells, made sense of: its facts, and how many beats there are.

Pure: the clock is an argument. Bounded: a beat that is silent is forgotten.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from celery_observe.fact import Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery_observe.report import Clock, Due, Entries, Sent

SILENT_AFTER = 15.0
"""Seconds without a word of a beat that has not left, after which it does not run any more; it speaks each second."""
FORGET_AFTER = 300.0
"""Seconds after which nobody waits for it any more."""
_LEAST_STUCK = 60.0


class BeatTicked(Fact):
    """A beat told when it ticked last; of several, the one that did so last."""

    timestamp: float
    max_interval: float
    entries: int | None
    """In its schedule; None while it is not known."""


class BeatsCounted(Fact):
    """So many beats run."""

    count: int


class EntryDue(Fact):
    """Beat found an entry due: 1; or knows of one: 0."""

    entry: str
    count: int = 1


class EntrySent(Fact):
    """Beat published the task of an entry, so long after it was due, or failed to; neither if it is just known."""

    entry: str
    sent: int = 0
    failed: int = 0
    lateness: float | None = None


class EntrySucceeded(Fact):
    """A task that beat sent for an entry has succeeded."""

    entry: str
    timestamp: float


def ailments(report: Clock) -> list[str]:
    """Return why a beat should be restarted: it has not ticked for twice as long as it may sleep, or a minute.

    As `celery/beat.py: BeatPidbox.max_tick_age` has it. One that waits for its lock has not ticked at all.
    """
    if report.ticked is None:
        return []
    age = report.timestamp - report.ticked
    return [f"has not ticked for {age:.0f} s"] if age > max(2 * report.max_interval, _LEAST_STUCK) else []


def sole_entries(schedule: Mapping[str, Any]) -> dict[str, str]:
    """Return the entry of each task that no other entry names; of others one cannot tell for which they were sent.

    ``schedule`` is Celery's ``beat_schedule``: of mappings, or of ``ScheduleEntry``.
    """
    tasks = {name: each.get("task") if isinstance(each, dict) else each.task for name, each in schedule.items()}
    named = Counter(tasks.values())
    return {task: name for name, task in tasks.items() if task and named[task] == 1}


class _Beat:
    """One beat process: when it was heard of, and whether it runs and has ticked."""

    __slots__ = ("heard", "hostname", "running")

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.heard = 0.0
        self.running = False


class Beats:
    """Takes in what beats report; times of ours are seconds that never jump."""

    def __init__(self, emit: Callable[[Fact], None]) -> None:
        self._emit = emit
        self._beats: dict[str, _Beat] = {}
        self._ticked = 0.0
        self._count: int | None = None

    def hear(self, report: Clock, now: float) -> None:
        """Take in what a beat says of itself."""
        beat = self._beats.setdefault(report.instance, _Beat(report.hostname))
        beat.heard = now
        beat.running = report.ticked is not None and not report.leaving
        if report.ticked is not None and report.ticked >= self._ticked:
            self._ticked = report.ticked
            self._emit(BeatTicked(report.ticked, report.max_interval, report.entries))
        self._recount(now)

    def forget(self, now: float) -> list[str]:
        """Forget who has been silent for long, and return their host names."""
        gone = {name: beat for name, beat in self._beats.items() if now - beat.heard > FORGET_AFTER}
        self._beats = {name: beat for name, beat in self._beats.items() if name not in gone}
        self._recount(now)
        left = {beat.hostname for beat in self._beats.values()}
        return sorted({beat.hostname for beat in gone.values()} - left)

    def know(self, report: Entries) -> None:
        """Show entries before they are due."""
        for name in report.names:
            self._emit(EntryDue(name, 0))
            self._emit(EntrySent(name))

    def due(self, report: Due) -> None:
        """Count an entry that is due; what came of it is told apart, so that a beat that died between shows."""
        self._emit(EntryDue(report.name))
        self._emit(EntrySent(report.name))

    def sent(self, report: Sent) -> None:
        """Count what came of it."""
        self._emit(EntrySent(report.name, int(not report.failed), int(report.failed), report.lateness))

    def _recount(self, now: float) -> None:
        """Tell how many run, if that has changed; nothing before there was one."""
        count = sum(beat.running and now - beat.heard <= SILENT_AFTER for beat in self._beats.values())
        if count != self._count and (count or self._count is not None):
            self._count = count
            self._emit(BeatsCounted(count))
