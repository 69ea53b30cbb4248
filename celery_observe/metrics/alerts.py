"""Alerts that the pipeline sends itself, by hooks: how many, and whether they arrive."""

from __future__ import annotations

from celery_observe import fact
from celery_observe.metrics.family import WAIT_BUCKETS, Family, Join, Kind

RAISED = Family(
    name="celery_observe_alerts_raised_total",
    kind=Kind.COUNTER,
    help="Alerts that a rule in alert_rule, or a hook, raised; repetitions are not counted.",
    labels=("rule",),
    on=fact.AlertRaised,
    join=Join.EACH,
)
LIMITED = Family(
    name="celery_observe_alerts_limited_total",
    kind=Kind.COUNTER,
    help="Alerts that were told only as a number, since their rule had reached its limit.",
    labels=("rule",),
    on=fact.AlertsLimited,
    value="count",
    join=Join.EACH,
)
SENT = Family(
    name="celery_observe_alerts_sent_total",
    kind=Kind.COUNTER,
    help="Messages about alerts that were delivered to a sink.",
    labels=("sink",),
    on=fact.AlertsSent,
    join=Join.EACH,
)
LATENCY = Family(
    name="celery_observe_alerts_latency_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from the first thing that a message tells to its delivery: waits, retries and pauses included.",
    labels=("sink",),
    on=fact.AlertsSent,
    value="latency",
    buckets=WAIT_BUCKETS,
    join=Join.EACH,
)
DROPPED = Family(
    name="celery_observe_alerts_dropped_total",
    kind=Kind.COUNTER,
    help="Messages about alerts that will not be delivered, by reason: refused, too_old, queue_full, shutdown.",
    labels=("sink", "reason"),
    on=fact.AlertsDropped,
    join=Join.EACH,
)
WAITING = Family(
    name="celery_observe_alerts_waiting",
    kind=Kind.GAUGE,
    help="Messages about alerts that wait for their sink.",
    labels=("sink",),
    join=Join.EACH,
)
FACTS_DROPPED = Family(
    name="celery_observe_alerts_facts_dropped_total",
    kind=Kind.COUNTER,
    help="Facts that rules wanted and that were not looked at, since too many waited.",
    on=fact.FactsDropped,
    value="count",
    join=Join.EACH,
)
