"""Workers: what their heartbeats carry. ``worker`` is the full node name, such as ``celery@host``."""

from __future__ import annotations

from celery_observe import fact
from celery_observe.metrics.family import Family, Join, Kind

_WORKER = ("worker",)

UP = Family(
    name="celery_worker_up",
    kind=Kind.GAUGE,
    help="1 while the heartbeats of a worker are fresh, 0 from its goodbye or silence on.",
    labels=_WORKER,
    on=fact.WorkerUp,
    value="up",
    live=True,
    join=Join.MAX,
)
LAST_HEARTBEAT = Family(
    name="celery_worker_last_heartbeat_timestamp_seconds",
    kind=Kind.GAUGE,
    help="Unix time of the last heartbeat, by the clock of the worker.",
    labels=_WORKER,
    on=fact.WorkerSeen,
    value="timestamp",
    join=Join.MAX,
)
PROCESSED = Family(
    name="celery_worker_processed_total",
    kind=Kind.COUNTER,
    help="Tasks that a worker says it accepted since it started.",
    labels=_WORKER,
    on=fact.WorkerSeen,
    value="processed",
    cumulative=True,
)
ACTIVE = Family(
    name="celery_worker_active",
    kind=Kind.GAUGE,
    help="Tasks that a worker says it executes now.",
    labels=_WORKER,
    on=fact.WorkerSeen,
    value="active",
    live=True,
    join=Join.MAX,
)
CLOCK_SKEW = Family(
    name="celery_worker_clock_skew_seconds",
    kind=Kind.GAUGE,
    help="Our clock less the worker's, as the smallest difference over its last heartbeats; includes their travel.",
    labels=_WORKER,
    on=fact.WorkerSeen,
    value="clock_skew",
    live=True,
    join=Join.MAX,
)
LOAD1 = Family(
    name="celery_worker_load1",
    kind=Kind.GAUGE,
    help="Load average of the worker's host over one minute.",
    labels=_WORKER,
    on=fact.WorkerSeen,
    value="load1",
    live=True,
    join=Join.MAX,
)
EXITS = Family(
    name="celery_worker_exits_total",
    kind=Kind.COUNTER,
    help="Times a worker left: shutdown (it said goodbye), lost (silence), restarted (a new process, no goodbye).",
    labels=("worker", "kind"),
    on=fact.WorkerExited,
)
DEPARTURES = Family(
    name="celery_worker_departures_total",
    kind=Kind.COUNTER,
    help="Goodbyes of workers by what became of their place, told after replacement_window: "
    "replaced, scaled_down, stopped, unknown.",
    labels=("worker", "kind"),
    on=fact.WorkerDeparted,
)
INFO = Family(
    name="celery_worker_info",
    kind=Kind.GAUGE,
    help="Always 1; the version of Celery and the pool that a worker runs. The pool is empty until it was asked.",
    labels=("worker", "version", "pool"),
    on=fact.WorkerIdentified,
    join=Join.MAX,
)
RESERVED = Family(
    name="celery_worker_reserved",
    kind=Kind.GAUGE,
    help="Tasks that a worker holds and that have not started: not those that wait for an ETA or a rate limit.",
    labels=_WORKER,
    on=fact.WorkerReported,
    value="reserved",
    live=True,
    join=Join.MAX,
)
SCHEDULED = Family(
    name="celery_worker_scheduled",
    kind=Kind.GAUGE,
    help="Tasks that a worker holds until their ETA.",
    labels=_WORKER,
    on=fact.WorkerReported,
    value="scheduled",
    live=True,
    join=Join.MAX,
)
PREFETCH = Family(
    name="celery_worker_prefetch",
    kind=Kind.GAUGE,
    help="Messages that a worker may hold; 0 is no limit.",
    labels=_WORKER,
    on=fact.WorkerReported,
    value="prefetch",
    live=True,
    join=Join.MAX,
)
SLOTS = Family(
    name="celery_worker_slots",
    kind=Kind.GAUGE,
    help="Tasks that the pool of a worker can execute at once.",
    labels=_WORKER,
    on=fact.WorkerReported,
    value="slots",
    live=True,
    join=Join.MAX,
)
PREFETCH_CONFIGURED = Family(
    name="celery_worker_prefetch_configured",
    kind=Kind.GAUGE,
    help="Messages that a worker should be allowed to hold: worker_prefetch_multiplier times its slots.",
    labels=_WORKER,
    join=Join.MAX,
)
CONSUMES = Family(
    name="celery_worker_consumes",
    kind=Kind.GAUGE,
    help="Always 1; the queues that a worker says it consumes.",
    labels=("worker", "queue"),
    join=Join.MAX,
)
TASKS = Family(
    name="celery_worker_tasks_total",
    kind=Kind.COUNTER,
    help="Tasks of each name that a worker says it accepted since it started; with worker_label only.",
    labels=("worker", "task"),
    cumulative=True,
)
UPTIME = Family(
    name="celery_worker_uptime_seconds",
    kind=Kind.GAUGE,
    help="Time since a worker started.",
    labels=_WORKER,
    join=Join.MAX,
)
CPU = Family(
    name="celery_worker_cpu_seconds_total",
    kind=Kind.COUNTER,
    help="CPU time of a worker's main process; the tasks' too, unless the pool is prefork.",
    labels=_WORKER,
    cumulative=True,
)
PEAK_MEMORY = Family(
    name="celery_worker_peak_resident_memory_bytes",
    kind=Kind.GAUGE,
    help="The most memory that a worker's main process was ever resident with, on Linux.",
    labels=_WORKER,
    join=Join.MAX,
)
STOPS = Family(
    name="celery_worker_stops_total",
    kind=Kind.COUNTER,
    help="Times a worker was told to stop, by what: a signal (sigterm, sigint, sigquit), remote_control, or its error.",
    labels=("worker", "reason"),
    on=fact.WorkerStopped,
    inside=True,
)
MEMORY = Family(
    name="celery_worker_resident_memory_bytes",
    kind=Kind.GAUGE,
    help="Memory that a worker's main process is resident with now, on Linux.",
    labels=_WORKER,
    on=fact.WorkerReported,
    value="memory",
    live=True,
    inside=True,
    join=Join.MAX,
)
CHILDREN_MEMORY = Family(
    name="celery_worker_children_resident_memory_bytes",
    kind=Kind.GAUGE,
    help="Memory that the children of a worker's pool are resident with now; what they share counts in each.",
    labels=_WORKER,
    on=fact.WorkerReported,
    value="children_memory",
    live=True,
    inside=True,
    join=Join.MAX,
)
STALLED = Family(
    name="celery_worker_stalled",
    kind=Kind.GAUGE,
    help="1 if a worker is online and free, messages wait, and it accepted none for stalled_after; absent if unknown.",
    labels=_WORKER,
    live=True,
    join=Join.MAX,
)
CONNECTED = Family(
    name="celery_worker_connected",
    kind=Kind.GAUGE,
    help="1 while a worker has a connection to its broker and consumes, 0 otherwise.",
    labels=_WORKER,
    on=fact.WorkerReported,
    value="connected",
    live=True,
    inside=True,
    join=Join.MAX,
)
RESTARTS = Family(
    name="celery_worker_consumer_restarts_total",
    kind=Kind.COUNTER,
    help="Times a worker had to connect to its broker again.",
    labels=_WORKER,
    on=fact.WorkerReported,
    value="restarts",
    cumulative=True,
    inside=True,
)
RATE_LIMIT = Family(
    name="celery_worker_rate_limit",
    kind=Kind.GAUGE,
    help="Tasks a second that a worker starts at the most, of those limited; +Inf once the limit is lifted.",
    labels=("worker", "task"),
    on=fact.TaskLimited,
    value="rate",
    live=True,
    join=Join.MAX,
)
RATE_LIMITED = Family(
    name="celery_worker_rate_limited",
    kind=Kind.GAUGE,
    help="Tasks that a worker holds until their rate limit lets them start.",
    labels=("worker", "task"),
    on=fact.TaskLimited,
    value="waiting",
    live=True,
    inside=True,
    join=Join.MAX,
)
CHILDREN = Family(
    name="celery_worker_children_total",
    kind=Kind.COUNTER,
    help="Children that the pool of a worker has started.",
    labels=_WORKER,
    on=fact.WorkerReported,
    value="spawned",
    cumulative=True,
    inside=True,
)
CHILD_EXITS = Family(
    name="celery_worker_child_exits_total",
    kind=Kind.COUNTER,
    help="Children of a worker's pool that have gone: exited, recycled, shrunk, failed, or killed by a signal.",
    labels=("worker", "reason"),
    on=fact.ChildrenExited,
    value="count",
    cumulative=True,
    inside=True,
)
REFUSED = Family(
    name="celery_worker_messages_refused_total",
    kind=Kind.COUNTER,
    help="Messages that a worker refused because they are no task it can read.",
    labels=_WORKER,
    on=fact.MessageRefused,
    inside=True,
)
