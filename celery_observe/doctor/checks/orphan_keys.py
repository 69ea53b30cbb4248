"""Whether Redis keeps what nobody will ever read."""

from __future__ import annotations

from celery_observe.broker import REDIS
from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity

_MANY = 1000


@checks("orphan-keys", Severity.INFO, transports=REDIS, metrics=("celery_queue_orphans",))
def orphan_keys(evidence: Evidence) -> Verdicts:
    """Keys are left of replies and event readers that are gone.

    Whoever asks workers (`inspect`, Flower) and dies before the answer leaves `<id>.reply.celery.pidbox` behind, which
    nobody reads and nothing deletes. They are small, and they add up.

    Fix: delete them by `redis-cli --scan --pattern '*.reply.celery.pidbox'` when nobody is asking.
    """
    redis = evidence.redis
    if redis is None:
        yield Unknown(evidence.why_no("redis"))
    elif redis.orphans is None:
        yield Unknown("the keyspace is too large to be walked through in a few seconds, or queues were not asked for")
    elif redis.orphans:
        yield Found(
            message="Keys are left that nobody will read.",
            evidence=f"{redis.orphans} named *.reply.celery.pidbox, *.celery.pidbox or celeryev.*",
            fix="redis-cli --scan --pattern '*.reply.celery.pidbox' | xargs redis-cli unlink",
            severity=Severity.WARNING if redis.orphans > _MANY else None,
        )
