"""Workflows: chains, groups and chords, by ``root``, the name of the task with which they began."""

from __future__ import annotations

from celery_observe import fact
from celery_observe.metrics.family import RUNTIME_BUCKETS, Family, Join, Kind

TASK_BUCKETS = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10_000.0, 100_000.0)
"""Upper bounds in tasks, or items."""
_ROOT = ("root",)

ACTIVE = Family(
    name="celery_workflow_active",
    kind=Kind.GAUGE,
    help="Workflows that have not ended, by the name of their first task.",
    labels=_ROOT,
    live=True,
)
OPEN_TASKS = Family(
    name="celery_workflow_open_tasks",
    kind=Kind.GAUGE,
    help="Tasks of these workflows that are known and have not ended.",
    labels=_ROOT,
    live=True,
)
OUTCOMES = Family(
    name="celery_workflow_outcomes_total",
    kind=Kind.COUNTER,
    help="Workflows by how they ended: failed if one of their tasks did for good, abandoned if they never did.",
    labels=(*_ROOT, "outcome"),
    on=fact.WorkflowEnded,
    zero_on=fact.WorkflowBegan,
    zero_label="outcome",
    zero_values=(fact.Ending.SUCCEEDED, fact.Ending.FAILED),
)
DURATION = Family(
    name="celery_workflow_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from the first publish (the first receipt, where publishers do not tell) to the last end of a workflow.",
    labels=(*_ROOT, "outcome"),
    on=fact.WorkflowEnded,
    value="duration",
    buckets=RUNTIME_BUCKETS,
    buckets_settable=True,
)
TASKS = Family(
    name="celery_workflow_tasks",
    kind=Kind.HISTOGRAM,
    help="Tasks of a workflow that ended.",
    labels=_ROOT,
    on=fact.WorkflowEnded,
    value="tasks",
    buckets=TASK_BUCKETS,
)
PATH_TASKS = Family(
    name="celery_workflow_critical_path_tasks",
    kind=Kind.HISTOGRAM,
    help="Tasks one after the other on the path to the last end of a workflow.",
    labels=_ROOT,
    on=fact.WorkflowEnded,
    value="path",
    buckets=TASK_BUCKETS,
)
PATH_SECONDS = Family(
    name="celery_workflow_critical_path_seconds_total",
    kind=Kind.COUNTER,
    help="Time on these paths by what it went to: scheduled, queue, rate_limit, worker, run. Adds up to the duration.",
    labels=(*_ROOT, "stage"),
    on=fact.WorkflowSpent,
    value="seconds",
)
RETRIES = Family(
    name="celery_workflow_retries_total",
    kind=Kind.COUNTER,
    help="Retries of tasks of workflows.",
    labels=_ROOT,
    on=fact.WorkflowRetried,
    value="count",
)
GROUP_TASKS = Family(
    name="celery_workflow_group_tasks",
    kind=Kind.GAUGE,
    help="Tasks, ended or not, of groups that are not finished.",
    labels=_ROOT,
    live=True,
    inside=True,
)
GROUP_TASKS_ENDED = Family(
    name="celery_workflow_group_tasks_ended",
    kind=Kind.GAUGE,
    help="Those of them that have ended.",
    labels=_ROOT,
    live=True,
    inside=True,
)
MAP_ITEMS = Family(
    name="celery_workflow_map_items",
    kind=Kind.HISTOGRAM,
    help="Items of a map, a starmap or a part of chunks, by the task that was executed for each of them in place.",
    labels=("task",),
    on=fact.Mapped,
    value="items",
    buckets=TASK_BUCKETS,
    inside=True,
)
CHORDS_WAITING = Family(
    name="celery_chord_waiting",
    kind=Kind.GAUGE,
    help="Chords whose header is not complete; from events alone those that celery.chord_unlock polls for.",
    labels=_ROOT,
    live=True,
)
CHORDS_STALLED = Family(
    name="celery_chord_stalled",
    kind=Kind.GAUGE,
    help="Chords whose body does not come, by reason; from events alone unlock_spinning only.",
    labels=(*_ROOT, "reason"),
    live=True,
)
CHORD_ERRORS = Family(
    name="celery_chord_errors_total",
    kind=Kind.COUNTER,
    help="Chords whose body will not be executed, by what the worker that found it says.",
    labels=(*_ROOT, "reason"),
    on=fact.ChordFailed,
    inside=True,
)
REOPENED = Family(
    name="celery_observe_workflows_reopened_total",
    kind=Kind.COUNTER,
    help="Workflows that went on after their end had been told, which was too early: see workflow_quiet.",
    on=fact.WorkflowReopened,
)
EVICTED = Family(
    name="celery_observe_workflows_evicted_total",
    kind=Kind.COUNTER,
    help="Unfinished workflows let go of to keep no more tasks than max_tracked_tasks.",
    on=fact.WorkflowEvicted,
)
KEPT = Family(
    name="celery_observe_workflow_tasks_kept",
    kind=Kind.GAUGE,
    help="Tasks of workflows kept in memory.",
    join=Join.EACH,
)
