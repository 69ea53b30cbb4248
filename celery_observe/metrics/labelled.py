"""What users' own labels divide: the names in ``label_names`` stand beside the labels declared here."""

from __future__ import annotations

from celery_observe import fact
from celery_observe.metrics.family import RUNTIME_BUCKETS, Family, Kind

OUTCOMES = Family(
    name="celery_task_labelled_outcomes_total",
    kind=Kind.COUNTER,
    help="Attempts by how they ended, as in celery_task_outcomes_total, and by the labels in label_names.",
    labels=("task", "outcome"),
    on=fact.Labelled,
    inside=True,
)
RUNTIME = Family(
    name="celery_task_labelled_runtime_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from start to end of an attempt, by its outcome and the labels in label_names.",
    labels=("task", "outcome"),
    on=fact.Labelled,
    value="runtime",
    buckets=RUNTIME_BUCKETS,
    buckets_settable=True,
    inside=True,
)
