"""Whether Redis throws messages away."""

from __future__ import annotations

from celery_observe.broker import REDIS
from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity

_MIB = 1024 * 1024


@checks(
    "redis-eviction",
    Severity.CRITICAL,
    transports=REDIS,
    alerts=("CeleryTasksVanished",),
    metrics=("celery_queue_waiting",),
)
def redis_eviction(evidence: Evidence) -> Verdicts:
    """Redis may evict messages when its memory is full.

    A queue is a key, and so is the table of all messages that workers hold. With a policy such as `allkeys-lru` Redis
    deletes whole queues to make room, and nobody gets an error. `volatile-*` spares keys without expiry, which queues
    are, and takes results.

    Fix: `maxmemory-policy noeviction` for the Redis of the broker, and another Redis for caches.
    """
    redis = evidence.redis
    if redis is None or "redis.info" in evidence.missing:
        yield Unknown(evidence.missing.get("redis.info") or evidence.why_no("redis"))
        return
    if redis.policy.startswith("allkeys"):
        limited = f"maxmemory is {redis.max_memory / _MIB:.0f} MiB" if redis.max_memory else "maxmemory is not set yet"
        yield Found(
            message="Redis may evict messages.",
            evidence=f"maxmemory-policy is {redis.policy}, {limited}, {redis.evicted} keys evicted so far",
            fix="CONFIG SET maxmemory-policy noeviction, and in redis.conf",
            severity=None if redis.max_memory else Severity.INFO,
        )
