"""Whether the broker can be reached at all."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Verdicts, checks
from celery_observe.findings import Severity


@checks(
    "broker-unreachable",
    Severity.CRITICAL,
    alerts=("CeleryObserverBlind",),
    metrics=("celery_observe_stream_up",),
)
def broker_unreachable(evidence: Evidence) -> Verdicts:
    """The broker does not answer.

    Nothing can be sent and nothing is executed; no other check of the broker or of workers could look.

    Fix: check that the broker runs, and the user, password, host, port and path of its URL.
    """
    problem = evidence.missing.get("broker")
    if problem:
        yield Found(
            message="The broker does not answer.",
            evidence=problem,
            fix="Start the broker, or correct --broker (broker_url of the app).",
        )
