"""What no single fact tells: the samples that are written once a second from the state of the tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from celery_observe.metrics import observer, tasks

if TYPE_CHECKING:
    from celery_observe.event import Event
    from celery_observe.fleet import Worker
    from celery_observe.recorder import Recorder
    from celery_observe.tracker import Running


class Book(Protocol):
    """Where attempts are kept: the tracker or the journal."""

    event_counts: dict[str, int]
    """Events or reports handled by type; whoever collects them clears it."""

    def __len__(self) -> int:
        """Return how many attempts are kept."""

    def running(self) -> dict[tuple[str, str], Running]:
        """Return what executes now, by task and queue."""


def write(recorder: Recorder, book: Book, now: float) -> None:
    """Write what was read since the last time, what is kept and overflowed, and what runs now (Unix seconds)."""
    counts, book.event_counts = book.event_counts, {}
    for kind, count in counts.items():
        recorder[observer.EVENTS].increase((kind,), count)
    recorder[observer.TRACKER_TASKS].set((), len(book))
    _write_running(recorder, book, now)
    recorder.count_overflow()


def write_lag(recorder: Recorder, event: Event, sender: Worker | None, read: float) -> None:
    """Write the age of an event that was read at ``read`` (Unix seconds), by our clock."""
    skew = sender.skew if sender is not None else 0.0
    recorder[observer.EVENT_LAG].set((), max(0.0, read - event.timestamp - skew))


def _write_running(recorder: Recorder, book: Book, now: float) -> None:
    count, oldest = recorder[tasks.RUNNING], recorder[tasks.OLDEST_RUNNING]
    running = book.running()
    ages: dict[str, float] = {}
    for (task, queue), entry in running.items():
        count.set((task, queue), entry.count)
        ages[task] = max(ages.get(task, 0.0), now - entry.oldest)
    for labels in count.children.keys() - running.keys():
        count.set(labels, 0)
    for task, age in ages.items():
        oldest.set((task,), age)
    for task in {labels[0] for labels in oldest.children} - ages.keys():
        oldest.remove("task", task)
