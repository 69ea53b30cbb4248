"""The rows of the tables, of what sources tell now and of what came within the window."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from celery_observe.metrics import observer, queues, tasks, workers, workflows
from celery_observe.overview.model import Failure, Observer, Plugin, Queue, Root, Row, Task, Worker
from celery_observe.overview.past import lag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from celery_observe.metrics import Family
    from celery_observe.overview.source import Source
    from celery_observe.overview.window import Totals

MOST_ROWS = 60
"""Rows of a table of queues, workers or workflows: those in trouble, and then the busiest."""
MOST_RANKED = 12
"""Rows of a table of tasks."""

R = TypeVar("R", bound=Row)


def queue_rows(source: Source) -> list[Queue]:
    """Return the queues of a broker, as it was asked last."""
    waiting, priorities = _waiting(source)
    told: dict[str, dict[str, float]] = {
        name: source.by(family, "queue")
        for name, family in {
            "in_flight": queues.IN_FLIGHT,
            "scheduled": queues.SCHEDULED,
            "oldest": queues.OLDEST_AGE,
            "consumers": queues.CONSUMERS,
            "slots": queues.SLOTS,
            "desired": queues.DESIRED_SLOTS,
            "dead": queues.DEAD_LETTERS,
        }.items()
    }
    names = sorted(waiting.keys() | set().union(*told.values()))
    return [
        Queue(
            broker=source.broker,
            queue=name,
            waiting=waiting.get(name),
            priorities=priorities.get(name, {}),
            **{column: values.get(name) for column, values in told.items()},
        )
        for name in names
    ]


def _waiting(source: Source) -> tuple[Counter[str], dict[str, dict[str, float]]]:
    """Return what waits in each queue, and by priority where brokers tell."""
    total: Counter[str] = Counter()
    priorities: dict[str, dict[str, float]] = {}
    for (queue, priority), value in source.read(queues.WAITING, "queue", "priority"):
        total[queue] += int(value)
        if priority and value:
            priorities.setdefault(queue, {})[priority] = value
    return total, priorities


def worker_rows(source: Source, lately: Totals, seconds: float, wall: float) -> list[Worker]:
    """Return the workers of a source; ``wall`` is now in Unix seconds, ``seconds`` the length of the window."""
    up = source.by(workers.UP, "worker")
    seen = source.by(workers.LAST_HEARTBEAT, "worker")
    skew = source.by(workers.CLOCK_SKEW, "worker")
    unobserved = source.by(observer.TASKS_UNOBSERVED, "worker")
    known = {worker: (version, pool) for (worker, version, pool), _ in _info(source)}
    gauges = {
        name: source.by(family, "worker")
        for name, family in {
            "active": workers.ACTIVE,
            "slots": workers.SLOTS,
            "reserved": workers.RESERVED,
            "prefetch": workers.PREFETCH,
            "load": workers.LOAD1,
        }.items()
    }
    stalled, connected = source.by(workers.STALLED, "worker"), source.by(workers.CONNECTED, "worker")
    rows = []
    for name in sorted(up.keys() | seen.keys() | connected.keys()):
        version, pool = known.get(name, ("", ""))
        accepted = lately.accepted.get((source.broker, name))
        age = max(0.0, wall - seen[name] - skew.get(name, 0.0)) if name in seen else None
        rows.append(
            Worker(
                broker=source.broker,
                worker=name,
                up=_flag(up.get(name)),
                stalled=_flag(stalled.get(name)),
                connected=_flag(connected.get(name)),
                heartbeat=_short(age),
                rate=_short(accepted / seconds) if accepted is not None and seconds else None,
                unobserved=unobserved.get(name, 0.0),
                version=version,
                pool=pool,
                **{column: values.get(name) for column, values in gauges.items()},
            )
        )
    return rows


def _info(source: Source) -> Iterable[tuple[tuple[str, ...], float]]:
    return source.read(workers.INFO, "worker", "version", "pool")


def slowest(sources: Iterable[Source], lately: Totals) -> list[Task]:
    """Return what ran within the window, the task that took longest first."""
    running: dict[tuple[str, str], float] = {}
    oldest: dict[tuple[str, str], float] = {}
    for source in sources:
        running |= {(source.broker, task): value for task, value in source.by(tasks.RUNNING, "task").items()}
        oldest |= {(source.broker, task): value for task, value in source.by(tasks.OLDEST_RUNNING, "task").items()}
    rows = [
        Task(
            broker=broker,
            task=task,
            runs=runs.number,
            median=round(runs.quantile(0.5), 4),
            p95=round(runs.quantile(0.95), 4),
            busy=round(runs.seconds, 3),
            running=running.get((broker, task)),
            oldest=_short(oldest.get((broker, task))),
        )
        for (broker, task), runs in lately.runs.items()
        if runs.number
    ]
    return sorted(rows, key=lambda row: (-row.p95, -row.busy, row.task))


def failing(lately: Totals) -> list[Failure]:
    """Return what failed within the window, the task that failed most often first."""
    ended: Counter[tuple[str, str]] = Counter()
    retried: Counter[tuple[str, str]] = Counter()
    for (broker, task, outcome), count in lately.outcomes.items():
        ended[broker, task] += int(count)
        retried[broker, task] += int(count) if outcome == "retried" else 0
    reasons: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
    for (broker, task, exception, cause), count in lately.failures.items():
        if count > 0:
            reasons.setdefault((broker, task), Counter())[exception, cause] += int(count)
    rows = []
    for (broker, task), counts in reasons.items():
        ((exception, cause), _), *_ = counts.most_common(1)
        rows.append(
            Failure(
                broker=broker,
                task=task,
                failed=counts.total(),
                ended=ended[broker, task],
                retried=retried[broker, task],
                exception=exception,
                cause=cause,
            )
        )
    return sorted(rows, key=lambda row: (-row.failed, row.task))


def workflow_rows(source: Source) -> list[Root]:
    """Return the workflows that have not ended, by the task with which they began."""
    stalled: dict[str, dict[str, float]] = {}
    for (root, reason), value in source.read(workflows.CHORDS_STALLED, "root", "reason"):
        if value:
            stalled.setdefault(root, {})[reason] = value
    active = source.by(workflows.ACTIVE, "root")
    columns = {
        "open": source.by(workflows.OPEN_TASKS, "root"),
        "group_tasks": source.by(workflows.GROUP_TASKS, "root"),
        "group_ended": source.by(workflows.GROUP_TASKS_ENDED, "root"),
        "chords_waiting": source.by(workflows.CHORDS_WAITING, "root"),
    }
    return [
        Root(
            broker=source.broker,
            root=root,
            active=active.get(root, 0.0),
            chords_stalled=stalled.get(root, {}),
            **{column: values.get(root, 0.0) for column, values in columns.items()},
        )
        for root in sorted(active.keys() | stalled.keys())
        if active.get(root) or root in stalled
    ]


def observer_row(sources: Sequence[Source], own: Source, lately: Totals, events_rate: float) -> Observer:
    """Return whether the rest can be believed."""

    def total(family: Family) -> float:
        return sum(source.total(family) or 0.0 for source in sources)

    return Observer(
        events_rate=events_rate,
        lag=lag(sources),
        unobserved=total(observer.TASKS_UNOBSERVED),
        unobserved_lately=lately.unobserved,
        gap=round(total(observer.STREAM_GAP), 1),
        reconnects=total(observer.STREAM_RECONNECTS),
        malformed=total(observer.EVENTS_MALFORMED),
        evicted=total(observer.TRACKER_EVICTIONS),
        overflowed=total(observer.SERIES_OVERFLOW),
        tracked=total(observer.TRACKER_TASKS),
        plugins=[
            Plugin(broker=source.broker, plugin=name, up=bool(up), problem=source.problems.get(name, ""))
            for source in (*sources, own)
            for name, up in sorted(source.by(observer.PLUGIN_UP, "plugin").items())
        ],
    )


def bounded(rows: list[R], name: str, worst: Callable[[R], tuple[float, ...]]) -> tuple[list[R], int]:
    """Return the rows that there is room for, ``worst`` first, by name lest they jump; and how many are left out."""
    chosen = sorted(rows, key=worst, reverse=True)[:MOST_ROWS]
    chosen.sort(key=lambda row: (row.broker, getattr(row, name)))
    return chosen, len(rows) - len(chosen)


def _flag(value: float | None) -> bool | None:
    return None if value is None else bool(value)


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
