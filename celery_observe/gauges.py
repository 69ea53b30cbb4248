"""What no single fact tells: the samples that are written once a second from the state of the tracker."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from celery_observe.compat import flower
from celery_observe.metrics import observer, progress, tasks, workflows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from celery_observe.event import Event, Overheard
    from celery_observe.fleet import Worker
    from celery_observe.recorder import Recorder
    from celery_observe.report import Progress
    from celery_observe.series import Series
    from celery_observe.tracker import Running
    from celery_observe.workflow import Workflows


class Book(Protocol):
    """Where attempts are kept: the tracker or the journal."""

    event_counts: Counter[str]
    """Events or reports handled by type; whoever collects them clears it."""

    def __len__(self) -> int:
        """Return how many attempts are kept."""

    def running(self) -> dict[tuple[str, str], Running]:
        """Return what executes now, by task and queue."""


def write(recorder: Recorder, book: Book, now: float) -> None:
    """Write what was read since the last time, what is kept and overflowed, and what runs now (Unix seconds)."""
    for kind, count in book.event_counts.items():
        recorder[observer.EVENTS].increase((kind,), count)
    book.event_counts.clear()
    recorder[observer.TRACKER_TASKS].set((), len(book))
    _write_running(recorder, book, now)
    recorder.count_overflow()


def write_lag(recorder: Recorder, event: Event | Overheard, sender: Worker | None, read: float) -> None:
    """Write the age of an event that was read at ``read`` (Unix seconds), by our clock."""
    skew = sender.skew if sender is not None else 0.0
    recorder[observer.EVENT_LAG].set((), max(0.0, read - event.timestamp - skew))


def write_progress(recorder: Recorder, told: Iterable[tuple[str, Progress]], now: float) -> None:
    """Write what the attempts that execute now have told of themselves, each with its task (Unix seconds)."""
    states: Counter[tuple[str, ...]] = Counter()
    blocked: Counter[tuple[str, ...]] = Counter()
    ratios: dict[tuple[str, ...], list[float]] = {}
    ages: dict[tuple[str, ...], float] = {}
    for task, each in told:
        if each.state is not None:
            states[task, each.state] += 1
        if each.waiting is not None:
            blocked[task,] += 1
        if each.ratio is not None:
            ratios.setdefault((task,), []).append(each.ratio)
            ages[task,] = max(ages.get((task,), 0.0), now - each.timestamp)
    _write_counts(recorder[progress.IN_STATE], states)
    _write_counts(recorder[progress.BLOCKED], blocked)
    recorder[progress.RATIO].replace({labels: fmean(each) for labels, each in ratios.items()})
    recorder[progress.AGE].replace(ages)


def write_prefetched(recorder: Recorder, count: Callable[[], Counter[tuple[str, ...]]]) -> None:
    """Write what workers hold, by worker and task, if Flower's families are served: nobody else counts it so."""
    if flower.PREFETCHED.name in recorder.series:
        counts = count()
        for labels in recorder[flower.PREFETCH_TIME].children.keys() - counts.keys():
            counts[labels] = 0  # of what has started something was held
        _write_counts(recorder[flower.PREFETCHED], counts)


def write_workflows(recorder: Recorder, known: Workflows) -> None:
    """Write what workflows, groups and chords there are now."""
    grouped, ended = known.groups()
    waiting, stalled = known.chords()
    for family, counts in (
        (workflows.ACTIVE, known.active()),
        (workflows.OPEN_TASKS, known.open_tasks()),
        (workflows.GROUP_TASKS, grouped),
        (workflows.GROUP_TASKS_ENDED, ended),
        (workflows.CHORDS_WAITING, waiting),
    ):
        _write_counts(recorder[family], Counter({(root,): count for root, count in counts.items()}))
    _write_counts(recorder[workflows.CHORDS_STALLED], Counter({tuple(map(str, key)): n for key, n in stalled.items()}))
    recorder[workflows.KEPT].set((), len(known))


def _write_counts(series: Series, counts: Counter[tuple[str, ...]]) -> None:
    """Set a gauge that counts; what was counted before and is no more reads 0."""
    for labels in series.children.keys() - counts.keys():
        series.set(labels, 0)
    for labels, count in counts.items():
        series.set(labels, count)


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
