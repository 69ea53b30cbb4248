"""Whether tasks are counted twice."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity

_FIX = 'instrument(app, families="process"), or do without the exporter'


@checks("double-counting", Severity.WARNING, metrics=("celery_task_outcomes_total", "celery_observe_build_info"))
def double_counting(evidence: Evidence) -> Verdicts:
    """An exporter and instrumented workers count the same tasks.

    Each of them counts all tasks that it sees: a sum over both is twice the truth, in dashboards and error budgets
    alike.

    Whether an exporter reads the events shows in the list of clients of Redis, or of consumers in RabbitMQ's management
    API; whether workers are instrumented, in the app of `-A` and in the stamps on messages that wait in Redis.

    Fix: let instrumented processes serve only what events cannot tell, `instrument(app, families="process")`, or
    scrape one of the two.
    """
    exporters = evidence.observers
    if exporters is None:
        yield Unknown(evidence.why_no("observers"))
        return
    stamped = [peek.queue for peek in evidence.redis.peeks if peek.stamped] if evidence.redis else []
    families = evidence.app.families if evidence.app else None
    if exporters and families == "all":
        yield Found(
            message="An exporter and the instrumented app count the same tasks.",
            evidence=f"{exporters} exporter(s) read the events; instrument() serves all families",
            fix=_FIX,
        )
    elif exporters and families is None and stamped:
        yield Found(
            message="An exporter and instrumented processes are there: make sure that they do not both count.",
            evidence=f"{exporters} exporter(s) read the events; stamped messages in {min(stamped)}",
            fix=_FIX,
            severity=Severity.INFO,
        )
    elif exporters and families is None and evidence.app is None:
        yield Unknown("whether workers are instrumented is not known: use -A")
