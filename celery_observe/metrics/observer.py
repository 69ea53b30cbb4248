"""The observer itself: can these numbers be believed?"""

from __future__ import annotations

from celery_observe import fact
from celery_observe.metrics.family import WAIT_BUCKETS, Family, Join, Kind

EVENTS = Family(
    name="celery_observe_events_total",
    kind=Kind.COUNTER,
    help="Events read from the stream, by type.",
    labels=("type",),
)
EVENTS_MALFORMED = Family(
    name="celery_observe_events_malformed_total",
    kind=Kind.COUNTER,
    help="Messages or events that could not be read, by reason.",
    labels=("reason",),
    on=fact.EventMalformed,
)
TASKS_UNOBSERVED = Family(
    name="celery_observe_tasks_unobserved_total",
    kind=Kind.COUNTER,
    help="Tasks that a worker says it accepted, of whose start no event arrived.",
    labels=("worker",),
    on=fact.Unobserved,
    value="count",
)
REPORTS_DROPPED = Family(
    name="celery_observe_reports_dropped_total",
    kind=Kind.COUNTER,
    help="Reports that processes of a worker dropped because nobody took them: the socket was full or absent.",
    labels=("worker",),
    on=fact.ReportsLost,
    value="dropped",
)
HANDLER_ERRORS = Family(
    name="celery_observe_handler_errors_total",
    kind=Kind.COUNTER,
    help="Times that our own code failed inside a process of a worker, which its tasks did not notice.",
    labels=("worker",),
    on=fact.ReportsLost,
    value="errors",
)
EVENT_LAG = Family(
    name="celery_observe_event_lag_seconds",
    kind=Kind.GAUGE,
    help="Age of the newest event when it was read, by our clock less the skew of its sender.",
    live=True,
    join=Join.MAX,
)
STREAM_UP = Family(
    name="celery_observe_stream_up",
    kind=Kind.GAUGE,
    help="1 while the event stream is connected, 0 otherwise.",
    join=Join.EACH,
)
STREAM_RECONNECTS = Family(
    name="celery_observe_stream_reconnects_total",
    kind=Kind.COUNTER,
    help="Times the event stream was connected again after a loss.",
    join=Join.EACH,
)
STREAM_GAP = Family(
    name="celery_observe_stream_gap_seconds_total",
    kind=Kind.COUNTER,
    help="Time without a connected event stream since the first connection; events sent then are lost.",
    join=Join.EACH,
)
TRACKER_TASKS = Family(
    name="celery_observe_tracker_tasks",
    kind=Kind.GAUGE,
    help="Tasks kept in memory: those that wait or run, and those that ended lately.",
    join=Join.EACH,
)
TRACKER_EVICTIONS = Family(
    name="celery_observe_tracker_evictions_total",
    kind=Kind.COUNTER,
    help="Unfinished tasks let go of to stay within max_tracked_tasks.",
    on=fact.TaskEvicted,
    value="count",
    join=Join.EACH,
)
DUPLICATE_OUTCOMES = Family(
    name="celery_observe_duplicate_outcomes_total",
    kind=Kind.COUNTER,
    help="Ends that Celery announced for attempts that had already ended; not counted again.",
    on=fact.DuplicateOutcome,
)
SERIES_OVERFLOW = Family(
    name="celery_observe_series_overflow_total",
    kind=Kind.COUNTER,
    help="Samples recorded under __other__ because their family had reached max_series.",
    labels=("family",),
    join=Join.EACH,
)
LABEL_OVERFLOW = Family(
    name="celery_observe_label_overflow_total",
    kind=Kind.COUNTER,
    help="Attempts counted under __other__ because a label in label_names had reached label_values.",
    labels=("label",),
    on=fact.LabelOverflowed,
)
REPLAY_ATTEMPTS = Family(
    name="celery_observe_replay_attempts_total",
    kind=Kind.COUNTER,
    help="Attempts by what became of the spans that were to be rebuilt of them: exported, live, root_unknown, "
    "sampled_out, held_full, queue_full, refused.",
    labels=("outcome",),
    on=fact.AttemptsReplayed,
    value="count",
    join=Join.EACH,
)
REPLAY_HELD = Family(
    name="celery_observe_replay_held",
    kind=Kind.GAUGE,
    help="Attempts that are held in case something in their trace fails or is slow.",
    join=Join.EACH,
)
PUSHED_POINTS = Family(
    name="celery_observe_pushed_points_total",
    kind=Kind.COUNTER,
    help="Points of metrics that were to be pushed, by what became of them: exported, refused.",
    labels=("outcome",),
)
LEADER = Family(
    name="celery_observe_leader",
    kind=Kind.GAUGE,
    help="1 if this process asks the broker and its workers, 0 if that is left to another replica or turned off.",
    join=Join.EACH,
)
SHARDS = Family(
    name="celery_observe_shards",
    kind=Kind.GAUGE,
    help="Shards that count the events of this broker together, as --shard of this one says; absent without it.",
    join=Join.EACH,
)
SHARD = Family(
    name="celery_observe_shard",
    kind=Kind.GAUGE,
    help="Which of these shards this one is, from 0.",
    join=Join.EACH,
)
WORKERS_ANSWERED = Family(
    name="celery_observe_workers_answered",
    kind=Kind.GAUGE,
    help="Workers that answered the last question to all. One that is busy may not: that does not make it down.",
    join=Join.MAX,
)
WORKERS_ASKED = Family(
    name="celery_observe_workers_asked_timestamp_seconds",
    kind=Kind.GAUGE,
    help="Unix time at which workers were asked each question last, of those that take turns.",
    labels=("command",),
    join=Join.MAX,
)
PLUGIN_UP = Family(
    name="celery_observe_plugin_up",
    kind=Kind.GAUGE,
    help="1 if the last run of a plug-in (stream, probe, collector) worked, 0 if it failed.",
    labels=("plugin",),
    on=fact.PluginRan,
    value="up",
    join=Join.EACH,
)
PLUGIN_ERRORS = Family(
    name="celery_observe_plugin_errors_total",
    kind=Kind.COUNTER,
    help="Runs of a plug-in that failed.",
    labels=("plugin",),
    on=fact.PluginRan,
    value="failed",
    join=Join.EACH,
)
PLUGIN_DURATION = Family(
    name="celery_observe_plugin_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="Time a run of a plug-in took; for a stream, the time to connect.",
    labels=("plugin",),
    on=fact.PluginRan,
    value="seconds",
    buckets=WAIT_BUCKETS,
    join=Join.EACH,
)
PROBE_LAST_SUCCESS = Family(
    name="celery_observe_probe_last_success_timestamp_seconds",
    kind=Kind.GAUGE,
    help="Unix time at which a probe last read what it tells.",
    labels=("plugin",),
    join=Join.EACH,
)
BUILD_INFO = Family(
    name="celery_observe_build_info",
    kind=Kind.GAUGE,
    help="Always 1; the version of celery-observe.",
    labels=("version",),
    join=Join.EACH,
)
