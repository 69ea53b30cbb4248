"""Progress: what tasks tell of themselves while they execute, which only instrumented processes notice."""

from __future__ import annotations

from celery_observe import fact
from celery_observe.metrics.family import RUNTIME_BUCKETS, Family, Join, Kind

STATE = Family(
    name="celery_task_state_seconds",
    kind=Kind.HISTOGRAM,
    help="Time that an attempt was in a state which it gave itself with Task.update_state.",
    labels=("task", "queue", "state"),
    on=fact.InState,
    value="seconds",
    buckets=RUNTIME_BUCKETS,
    buckets_settable=True,
    inside=True,
)
IN_STATE = Family(
    name="celery_task_in_state",
    kind=Kind.GAUGE,
    help="Attempts that execute now, by the state which they gave themselves.",
    labels=("task", "state"),
    live=True,
    inside=True,
)
RATIO = Family(
    name="celery_task_progress_ratio",
    kind=Kind.GAUGE,
    help="How much is done, from 0 to 1: the mean of the attempts that execute now and tell it.",
    labels=("task",),
    live=True,
    inside=True,
    join=Join.MAX,
)
AGE = Family(
    name="celery_task_progress_age_seconds",
    kind=Kind.GAUGE,
    help="Longest time for which an attempt that executes, and has told its progress, has told none.",
    labels=("task",),
    live=True,
    inside=True,
    join=Join.MAX,
)
BLOCKED_TIME = Family(
    name="celery_task_blocked_seconds",
    kind=Kind.HISTOGRAM,
    help="Time that an attempt waited for results of other tasks, of those that asked for one.",
    labels=("task", "queue"),
    on=fact.Blocked,
    value="seconds",
    buckets=RUNTIME_BUCKETS,
    buckets_settable=True,
    inside=True,
)
BLOCKED = Family(
    name="celery_task_blocked",
    kind=Kind.GAUGE,
    help="Attempts that execute now and wait for the result of another task.",
    labels=("task",),
    live=True,
    inside=True,
)
