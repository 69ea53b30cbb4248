"""Queues: what waits, is held, is late and is dead, as the broker tells it when it is asked."""

from __future__ import annotations

from celery_observe.metrics.family import Family, Join, Kind

_QUEUE = ("queue",)

WAITING = Family(
    name="celery_queue_waiting",
    kind=Kind.GAUGE,
    help="Messages that wait in a queue, by priority; an empty priority stands for all of them together.",
    labels=("queue", "priority"),
    join=Join.MAX,
)
IN_FLIGHT = Family(
    name="celery_queue_in_flight",
    kind=Kind.GAUGE,
    help="Messages of a queue that workers hold unacknowledged; on Redis less those that wait for their ETA.",
    labels=_QUEUE,
    join=Join.MAX,
)
SCHEDULED = Family(
    name="celery_queue_scheduled",
    kind=Kind.GAUGE,
    help="Messages of a queue that wait for their ETA: on Redis in workers, on RabbitMQ in delayed queues.",
    labels=_QUEUE,
    join=Join.MAX,
)
ETA_BEYOND_VISIBILITY_TIMEOUT = Family(
    name="celery_queue_eta_beyond_visibility_timeout",
    kind=Kind.GAUGE,
    help="Scheduled messages whose ETA is after their visibility timeout: Redis delivers them again, to run twice.",
    labels=_QUEUE,
    join=Join.MAX,
)
UNATTRIBUTED = Family(
    name="celery_queue_unattributed",
    kind=Kind.GAUGE,
    help="Messages in flight or scheduled of which no single queue can be told. The per-queue values lack them.",
    join=Join.MAX,
)
OLDEST_AGE = Family(
    name="celery_queue_oldest_age_seconds",
    kind=Kind.GAUGE,
    help="Time since the oldest waiting message was published, or was due if that is later; 0 if none waits.",
    labels=_QUEUE,
    join=Join.MAX,
)
CONSUMERS = Family(
    name="celery_queue_consumers",
    kind=Kind.GAUGE,
    help="Consumers of a queue: on RabbitMQ as it counts them, elsewhere live workers that say they consume it.",
    labels=_QUEUE,
    join=Join.MAX,
)
SLOTS = Family(
    name="celery_queue_slots",
    kind=Kind.GAUGE,
    help="Slots of all workers that consume a queue; those of a worker that consumes several count in each.",
    labels=_QUEUE,
    join=Join.MAX,
)
DESIRED_SLOTS = Family(
    name="celery_queue_desired_slots",
    kind=Kind.GAUGE,
    help="Slots that would finish what waits and is in flight within drain_target.",
    labels=_QUEUE,
    join=Join.MAX,
)
DEAD_LETTERS = Family(
    name="celery_queue_dead_letters",
    kind=Kind.GAUGE,
    help="Messages in a queue that matches dead_letter.",
    labels=_QUEUE,
    join=Join.MAX,
)
ORPHANS = Family(
    name="celery_queue_orphans",
    kind=Kind.GAUGE,
    help="Queues of event receivers, of remote control and of its replies that were left behind and nobody reads.",
    join=Join.MAX,
)
PUBLISHED = Family(
    name="celery_queue_published_total",
    kind=Kind.COUNTER,
    help="Messages that went into a queue, as RabbitMQ counts them.",
    labels=_QUEUE,
    cumulative=True,
)
DELIVERED = Family(
    name="celery_queue_delivered_total",
    kind=Kind.COUNTER,
    help="Messages that went from a queue to consumers, redeliveries included, as RabbitMQ counts them.",
    labels=_QUEUE,
    cumulative=True,
)
REDELIVERED = Family(
    name="celery_queue_redelivered_total",
    kind=Kind.COUNTER,
    help="Messages that went from a queue to consumers again, as RabbitMQ counts them.",
    labels=_QUEUE,
    cumulative=True,
)
ACKNOWLEDGED = Family(
    name="celery_queue_acknowledged_total",
    kind=Kind.COUNTER,
    help="Messages of a queue that consumers acknowledged, as RabbitMQ counts them.",
    labels=_QUEUE,
    cumulative=True,
)
