"""Prometheus Alertmanager, its API v2: grouping, silences, inhibition and routing are its job.

``api/v2/openapi.yaml`` of Alertmanager: an alert ends at ``endsAt``, and is the same as another if its labels are.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, ClassVar

from celery_observe.hooks import Alert, Message
from celery_observe.sinks import delivers
from celery_observe.sinks.post import HttpSink

_NO_LETTER = re.compile(r"\W+", re.ASCII)


@delivers("alertmanager")
class Alertmanager(HttpSink, frozen=True, kw_only=True):
    """``url`` is that of its web page, such as ``http://alertmanager:9093``."""

    forgets: ClassVar[bool] = True

    def deliver(self, message: Message) -> None:
        """Post all alerts of the message; "and n more" stands in the annotations of the first."""
        alerts = [_posted(alert, message) for alert in message.alerts]
        if message.more:
            alerts[0]["annotations"]["more"] = f"and {message.more} more alerts of this rule"
        self.post(alerts, path="/api/v2/alerts")


def _posted(alert: Alert, message: Message) -> dict[str, Any]:
    links = {f"{_NO_LETTER.sub('_', title).lower()}_url": link for title, link in alert.links.items()}
    annotations = {"summary": alert.summary, "description": alert.text, **links}
    if alert.detail is not None:
        annotations["task_id"] = alert.detail.uuid
    if alert.trace_id is not None:
        annotations["trace_id"] = alert.trace_id
    return {
        "labels": {"alertname": message.rule, "severity": alert.severity, **alert.labels},
        "annotations": annotations,
        "startsAt": _rfc3339(alert.starts_at),
        "endsAt": _rfc3339(alert.ends_at),
    }


def _rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
