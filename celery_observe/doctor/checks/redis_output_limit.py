"""Whether Redis cuts off those who read events."""

from __future__ import annotations

from celery_observe.broker import REDIS
from celery_observe.doctor.evidence import Evidence, OutputLimit
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity

_DEFAULT = OutputLimit(32 * 1024 * 1024, 8 * 1024 * 1024, 60)
_MIB = 1024 * 1024
_FIX = 'CONFIG SET client-output-buffer-limit "pubsub 33554432 8388608 60", and in redis.conf'


@checks(
    "redis-output-limit",
    Severity.WARNING,
    transports=REDIS,
    alerts=("CeleryObserverBlind", "CeleryWorkerDisconnected"),
    metrics=("celery_observe_stream_reconnects_total", "celery_observe_stream_gap_seconds_total"),
)
def redis_output_limit(evidence: Evidence) -> Verdicts:
    """Redis cuts off whoever reads events too slowly.

    Events are pub/sub: what a reader has not taken yet is kept in an output buffer, and above
    `client-output-buffer-limit pubsub` Redis closes the connection and the events are lost. Remote control of workers
    goes the same way. Without any limit, one reader that hangs fills the memory of Redis.

    Fix: leave the limit at Redis' default (32 MiB, or 8 MiB for 60 s) or above, not below, and not at 0.
    """
    redis = evidence.redis
    if redis is None or redis.output_limit is None:
        yield Unknown(evidence.missing.get("redis.output") or evidence.why_no("redis"))
    else:
        yield from _judged(redis.output_limit)
    if redis is not None and redis.disconnected:
        yield Found(
            message="Redis has cut off clients that read too slowly.",
            evidence=f"client_output_buffer_limit_disconnections is {redis.disconnected} since its start",
            fix=_FIX,
        )


def _judged(limit: OutputLimit) -> Verdicts:
    told = f"hard {limit.hard / _MIB:.1f} MiB, soft {limit.soft / _MIB:.1f} MiB for {limit.seconds} s"
    if _is_less(limit):
        yield Found(message="The output limit of pub/sub is low.", evidence=told, fix=_FIX)
    elif not limit.hard:
        yield Found(
            message="The output of pub/sub is not limited.",
            evidence=told,
            fix=_FIX,
            severity=Severity.INFO,
        )


def _is_less(limit: OutputLimit) -> bool:
    soft = 0 < limit.soft < _DEFAULT.soft or (0 < limit.soft == _DEFAULT.soft and limit.seconds < _DEFAULT.seconds)
    return 0 < limit.hard < _DEFAULT.hard or soft
