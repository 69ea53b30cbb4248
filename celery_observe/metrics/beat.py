"""Beat: whether it ticks, what it finds due and sends, and what became of it. ``entry`` is a name in its schedule."""

from __future__ import annotations

from celery_observe import beat
from celery_observe.metrics.family import WAIT_BUCKETS, Family, Join, Kind

_ENTRY = ("entry",)

LAST_TICK = Family(
    name="celery_beat_last_tick_timestamp_seconds",
    kind=Kind.GAUGE,
    help="Unix time at which beat last looked at its schedule.",
    on=beat.BeatTicked,
    value="timestamp",
    inside=True,
    join=Join.MAX,
)
MAX_INTERVAL = Family(
    name="celery_beat_max_interval_seconds",
    kind=Kind.GAUGE,
    help="Time that beat sleeps at the most between two looks at its schedule.",
    on=beat.BeatTicked,
    value="max_interval",
    inside=True,
    join=Join.MAX,
)
ENTRIES = Family(
    name="celery_beat_entries",
    kind=Kind.GAUGE,
    help="Entries in the schedule of beat, as its scheduler has loaded or stored it.",
    on=beat.BeatTicked,
    value="entries",
    inside=True,
    join=Join.MAX,
)
INSTANCES = Family(
    name="celery_beat_instances",
    kind=Kind.GAUGE,
    help="Beats that run and have looked at their schedule. Two without a common lock send everything twice.",
    on=beat.BeatsCounted,
    value="count",
    live=True,
    join=Join.MAX,
)
DUE = Family(
    name="celery_beat_due_total",
    kind=Kind.COUNTER,
    help="Times that beat found an entry due; those of which nothing came after were lost with their beat.",
    labels=_ENTRY,
    on=beat.EntryDue,
    value="count",
    inside=True,
)
SENT = Family(
    name="celery_beat_sent_total",
    kind=Kind.COUNTER,
    help="Tasks that beat published for an entry.",
    labels=_ENTRY,
    on=beat.EntrySent,
    value="sent",
    inside=True,
)
PUBLISH_FAILURES = Family(
    name="celery_beat_publish_failures_total",
    kind=Kind.COUNTER,
    help="Tasks of an entry that beat could not publish. It only logs that, and the run is lost.",
    labels=_ENTRY,
    on=beat.EntrySent,
    value="failed",
    inside=True,
)
LATENESS = Family(
    name="celery_beat_lateness_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from when an entry was due to when its task was published, retries of the publish included.",
    labels=_ENTRY,
    on=beat.EntrySent,
    value="lateness",
    buckets=WAIT_BUCKETS,
    inside=True,
)
LAST_SUCCESS = Family(
    name="celery_beat_last_success_timestamp_seconds",
    kind=Kind.GAUGE,
    help="Unix time at which a task of an entry last succeeded.",
    labels=_ENTRY,
    on=beat.EntrySucceeded,
    value="timestamp",
    join=Join.MAX,
)
