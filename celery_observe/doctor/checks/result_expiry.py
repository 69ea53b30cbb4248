"""Whether results are ever deleted."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed

_LONG = 7 * 86_400.0
_SWEPT = {"db", "mongodb", "filesystem", "file", "cassandra", "django-db", "arangodb"}
"""Back ends from which nothing goes by itself: the task `celery.backend_cleanup`, which beat sends, deletes it."""


@checks("result-expiry", Severity.WARNING)
def result_expiry(evidence: Evidence) -> Verdicts:
    """Results are kept for ever, or for very long.

    Each task leaves one. On Redis they fill the memory that queues are in, until Redis refuses messages too; in a
    database the table grows until it is slow. Databases need `celery.backend_cleanup` besides, which beat sends each
    night.

    Fix: set `result_expires` to as long as somebody may ask for a result, and `ignore_result=True` on tasks whose
    result nobody asks for.
    """
    confs = list(evidence.configurations)
    if not confs:
        yield Unknown(evidence.no_workers("conf"))
        return
    storing = [(owner, conf) for owner, conf in confs if conf["result_backend"] not in {None, "rpc", "cache"}]
    never = [owner for owner, conf in storing if not conf["result_expires"]]
    if never:
        yield Found(
            message="Results are kept for ever.",
            evidence=f"result_expires is None or 0 for {listed(never)}",
            fix="result_expires = 86_400",
        )
    long = {owner: conf["result_expires"] for owner, conf in storing if (conf["result_expires"] or 0) > _LONG}
    if long:
        yield Found(
            message="Results are kept for very long.",
            evidence=f"result_expires is {max(long.values()) / 86_400:.0f} days for {listed(long)}",
            fix="result_expires = 86_400",
            severity=Severity.INFO,
        )
    swept = {conf["result_backend"] for _, conf in storing} & _SWEPT
    if swept:
        yield Found(
            message="Results expire only if beat runs.",
            evidence=f"the back end {listed(swept)} is cleaned by celery.backend_cleanup",
            fix="Run celery beat",
            severity=Severity.INFO,
        )
