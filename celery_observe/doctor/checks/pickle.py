"""Whether a message can execute code."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed

_PICKLE = {"pickle", "application/x-python-serialize"}
_ACCEPTING = ("accept_content", "result_accept_content")
_WRITING = ("task_serializer", "result_serializer", "event_serializer")


@checks("pickle", Severity.CRITICAL, metrics=("celery_observe_events_malformed_total",))
def pickle(evidence: Evidence) -> Verdicts:
    """Pickle is accepted: whoever can publish can execute code.

    To load a pickle is to execute what its author wants. With pickle in `accept_content` everybody who can write to
    the broker, or to the result back end, has a shell on all workers.

    Fix: `accept_content = ["json"]` and `task_serializer = "json"`; first make publishers send JSON, then workers
    refuse the rest.
    """
    confs = list(evidence.configurations)
    if not confs:
        yield Unknown(evidence.no_workers("conf"))
        return
    accepting = [owner for owner, conf in confs if any(_PICKLE & set(conf[name]) for name in _ACCEPTING)]
    if accepting:
        yield Found(
            message="Pickle is accepted.",
            evidence=f"accept_content of {listed(accepting)} has pickle",
            fix='accept_content = ["json"]',
        )
    writing = [f"{name} of {owner}" for owner, conf in confs for name in _WRITING if conf[name] in _PICKLE]
    sent = [peek.queue for peek in evidence.redis.peeks if peek.content_types & _PICKLE] if evidence.redis else []
    if writing or sent:
        told = [listed(writing), f"messages in {listed(sent)}" if sent else ""]
        yield Found(
            message="Pickle is sent.",
            evidence="; ".join(filter(None, told)),
            fix='task_serializer = "json"; result_serializer = "json"; event_serializer = "json"',
            severity=Severity.WARNING,
        )
