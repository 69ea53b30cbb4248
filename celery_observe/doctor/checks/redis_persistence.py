"""Whether messages outlive a restart of Redis."""

from __future__ import annotations

from celery_observe.broker import REDIS
from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity


@checks(
    "redis-persistence",
    Severity.WARNING,
    transports=REDIS,
    alerts=("CeleryTasksVanished",),
    metrics=("celery_queue_waiting",),
)
def redis_persistence(evidence: Evidence) -> Verdicts:
    """Redis keeps nothing on disk.

    With its restart all queues are empty: what waited, what was scheduled and what workers held is gone, and nothing
    tells what it was. Snapshots lose what came since the last one.

    Fix: `appendonly yes` in redis.conf (`appendfsync everysec` loses a second at most).
    """
    redis = evidence.redis
    if redis is None or "redis.info" in evidence.missing:
        yield Unknown(evidence.missing.get("redis.info") or evidence.why_no("redis"))
    elif not redis.appends and redis.save is None:
        yield Unknown(evidence.missing.get("redis.save", "Redis does not say when it saves"))
    elif not redis.appends:
        yield Found(
            message="Redis keeps nothing on disk." if not redis.save else "Redis keeps snapshots only.",
            evidence=f"aof_enabled is 0, save is {redis.save or 'empty'}",
            fix="CONFIG SET appendonly yes, and in redis.conf",
            severity=None if not redis.save else Severity.INFO,
        )
