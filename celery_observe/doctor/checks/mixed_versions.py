"""Whether all workers are of one version of Celery."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity


@checks("mixed-versions", Severity.WARNING, metrics=("celery_worker_info",))
def mixed_versions(evidence: Evidence) -> Verdicts:
    """Workers run different versions of Celery.

    They treat the same message differently: what `Reject`, a killed child or `SystemExit` amount to changed between
    5.6 and 5.7, and the state of a retry with it. During a deploy that is normal; afterwards it is a worker that
    was forgotten.

    Fix: pin one version in the requirements of all processes, and restart those that are behind.
    """
    if evidence.heard is None:
        yield Unknown(evidence.why_no("heard"))
        return
    versions: dict[str, list[str]] = {}
    for name, worker in evidence.heard.workers.items():
        if worker.version:
            versions.setdefault(worker.version, []).append(name)
    if len(versions) > 1:
        told = "; ".join(f"{version}: {len(names)} ({min(names)})" for version, names in sorted(versions.items()))
        series = {".".join(version.split(".")[:2]) for version in versions}
        yield Found(
            message=f"Workers run {len(versions)} versions of Celery.",
            evidence=told,
            fix=f"celery=={max(versions, key=_number)} everywhere",
            severity=None if len(series) > 1 else Severity.INFO,
        )
    elif not versions:
        yield Unknown("no worker sent a heartbeat, which tells its version")


def _number(version: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in version.split(".")]
