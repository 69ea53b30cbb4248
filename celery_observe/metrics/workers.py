"""Workers: what their heartbeats carry. ``worker`` is the full node name, such as ``celery@host``."""

from __future__ import annotations

from celery_observe import fact
from celery_observe.metrics.family import Family, Kind

_WORKER = ("worker",)

UP = Family(
    name="celery_worker_up",
    kind=Kind.GAUGE,
    help="1 while the heartbeats of a worker are fresh, 0 from its goodbye or silence on.",
    labels=_WORKER,
    on=fact.WorkerUp,
    value="up",
    live=True,
)
LAST_HEARTBEAT = Family(
    name="celery_worker_last_heartbeat_timestamp_seconds",
    kind=Kind.GAUGE,
    help="Unix time of the last heartbeat, by the clock of the worker.",
    labels=_WORKER,
    on=fact.WorkerSeen,
    value="timestamp",
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
)
CLOCK_SKEW = Family(
    name="celery_worker_clock_skew_seconds",
    kind=Kind.GAUGE,
    help="Our clock less the worker's, as the smallest difference over its last heartbeats; includes their travel.",
    labels=_WORKER,
    on=fact.WorkerSeen,
    value="clock_skew",
    live=True,
)
LOAD1 = Family(
    name="celery_worker_load1",
    kind=Kind.GAUGE,
    help="Load average of the worker's host over one minute.",
    labels=_WORKER,
    on=fact.WorkerSeen,
    value="load1",
    live=True,
)
EXITS = Family(
    name="celery_worker_exits_total",
    kind=Kind.COUNTER,
    help="Times a worker left: shutdown (it said goodbye), lost (silence), restarted (a new process, no goodbye).",
    labels=("worker", "kind"),
    on=fact.WorkerExited,
)
INFO = Family(
    name="celery_worker_info",
    kind=Kind.GAUGE,
    help="Always 1; the version of Celery that a worker runs.",
    labels=("worker", "version"),
    on=fact.WorkerIdentified,
)
