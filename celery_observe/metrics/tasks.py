"""Tasks: what was published, received and started, how it ended, how long it took and waited."""

from __future__ import annotations

from celery_observe import fact
from celery_observe.metrics.family import MEMORY_BUCKETS, RUNTIME_BUCKETS, WAIT_BUCKETS, Family, Join, Kind

_TASK = ("task", "queue")

PUBLISHED = Family(
    name="celery_task_published_total",
    kind=Kind.COUNTER,
    help="Messages published for a task, retries included. Needs task_send_sent_event in the publishers.",
    labels=_TASK,
    on=fact.Published,
)
RECEIVED = Family(
    name="celery_task_received_total",
    kind=Kind.COUNTER,
    help="Messages for a task that workers took from the broker.",
    labels=_TASK,
    on=fact.Received,
)
STARTED = Family(
    name="celery_task_started_total",
    kind=Kind.COUNTER,
    help="Attempts that started to execute.",
    labels=_TASK,
    on=fact.Started,
)
OUTCOMES = Family(
    name="celery_task_outcomes_total",
    kind=Kind.COUNTER,
    help="Attempts by how they ended. An attempt has one outcome, however often Celery announces it.",
    labels=(*_TASK, "outcome"),
    on=fact.Ended,
    zero_on=fact.Started,
    zero_label="outcome",
    zero_values=(fact.Outcome.SUCCEEDED, fact.Outcome.FAILED, fact.Outcome.RETRIED),
)
FAILURES = Family(
    name="celery_task_failures_total",
    kind=Kind.COUNTER,
    help="Attempts that failed, by exception class and cause; those whose message went back to the queue included.",
    labels=(*_TASK, "exception", "cause"),
    on=fact.Failed,
)
RUNTIME = Family(
    name="celery_task_runtime_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from start to end of an attempt, for every outcome of an attempt that started.",
    labels=(*_TASK, "outcome"),
    on=fact.Ended,
    value="runtime",
    buckets=RUNTIME_BUCKETS,
    buckets_settable=True,
    exemplars=True,
)
QUEUE_WAIT = Family(
    name="celery_task_queue_wait_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from publish (or ETA, if later) to start. Needs task_send_sent_event in the publishers.",
    labels=_TASK,
    on=fact.Started,
    late=fact.Waited,
    value="queue_wait",
    buckets=WAIT_BUCKETS,
)
WORKER_WAIT = Family(
    name="celery_task_worker_wait_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from receipt by the worker (or ETA, if later) to start.",
    labels=_TASK,
    on=fact.Started,
    value="worker_wait",
    buckets=WAIT_BUCKETS,
)
TOTAL = Family(
    name="celery_task_total_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from first publish to final outcome, retries and ETA included. Needs task_send_sent_event.",
    labels=(*_TASK, "outcome"),
    on=fact.Ended,
    late=fact.Finished,
    value="total",
    buckets=RUNTIME_BUCKETS,
    buckets_settable=True,
)
RUNNING = Family(
    name="celery_task_running",
    kind=Kind.GAUGE,
    help="Attempts that execute now.",
    labels=_TASK,
    live=True,
)
OLDEST_RUNNING = Family(
    name="celery_task_oldest_running_seconds",
    kind=Kind.GAUGE,
    help="Time since the longest-running attempt of a task started.",
    labels=("task",),
    live=True,
    join=Join.MAX,
)
REDELIVERIES = Family(
    name="celery_task_redeliveries_total",
    kind=Kind.COUNTER,
    help="Messages delivered again without having been published again.",
    labels=_TASK,
    on=fact.Redelivered,
)
DUPLICATE_EXECUTIONS = Family(
    name="celery_task_duplicate_executions_total",
    kind=Kind.COUNTER,
    help="Further starts of one attempt, such as after a visibility timeout or a connection that was lost.",
    labels=_TASK,
    on=fact.DuplicateExecution,
)
CUSTOM_EVENTS = Family(
    name="celery_task_custom_events_total",
    kind=Kind.COUNTER,
    help="Events that tasks sent with Task.send_event, by type.",
    labels=("task", "type"),
    on=fact.CustomEvent,
)
RECEIVED_PRIORITY = Family(
    name="celery_task_received_priority_total",
    kind=Kind.COUNTER,
    help="Messages that workers took from a queue, by priority.",
    labels=("queue", "priority"),
    on=fact.Prioritised,
    inside=True,
)
CPU = Family(
    name="celery_task_cpu_seconds",
    kind=Kind.HISTOGRAM,
    help="CPU time of an attempt. Needs resource=True.",
    labels=_TASK,
    on=fact.Used,
    value="cpu",
    buckets=RUNTIME_BUCKETS,
    buckets_settable=True,
    inside=True,
)
PEAK_MEMORY = Family(
    name="celery_task_peak_memory_bytes",
    kind=Kind.HISTOGRAM,
    help="Most resident memory that the process of an attempt had used by its end: an upper bound of what the attempt "
    "used, and exact for the first of a process. Needs resource=True.",
    labels=_TASK,
    on=fact.Used,
    value="memory",
    buckets=MEMORY_BUCKETS,
    inside=True,
)
PUBLISH = Family(
    name="celery_task_publish_seconds",
    kind=Kind.HISTOGRAM,
    help="Time that publishing a message for a task took, by publishers that report here.",
    labels=_TASK,
    on=fact.PublishTimed,
    value="seconds",
    buckets=WAIT_BUCKETS,
    inside=True,
)
PUBLISH_FAILURES = Family(
    name="celery_task_publish_failures_total",
    kind=Kind.COUNTER,
    help="Messages that publishers that report here could not publish.",
    labels=(*_TASK, "exception"),
    on=fact.PublishFailed,
    inside=True,
)
