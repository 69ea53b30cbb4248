"""PagerDuty, its Events API v2: an incident for each alert, resolved when it is over.

https://developer.pagerduty.com/docs/events-api-v2: ``dedup_key`` tells which incident is meant.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from celery_observe.errors import SinkError, SinkRefusedError
from celery_observe.hooks import Alert, Message, Status
from celery_observe.sinks import delivers
from celery_observe.sinks.post import HttpSink

_LONGEST_SUMMARY = 1024


@delivers("pagerduty")
class PagerDuty(HttpSink, frozen=True, kw_only=True):
    """``routing_key`` is the integration key of a service; in the EU ``url`` is another."""

    routing_key: str
    url: str = "https://events.pagerduty.com/v2/enqueue"

    def deliver(self, message: Message) -> None:
        """Send one event for each alert, whatever becomes of the others; what is sent once more has no effect."""
        problem: SinkError | None = None
        for alert in message.alerts:
            try:
                self.post(self._event(alert, message))
            except SinkRefusedError as error:
                problem = error
        if problem is not None:
            raise problem

    def _event(self, alert: Alert, message: Message) -> dict[str, Any]:
        event = {"routing_key": self.routing_key, "dedup_key": alert.fingerprint}
        if alert.status is Status.RESOLVED:
            return event | {"event_action": "resolve"}
        links = [{"href": link, "text": title} for title, link in alert.links.items()]
        return event | {"event_action": "trigger", "payload": _payload(alert, message), "links": links}


def _payload(alert: Alert, message: Message) -> dict[str, Any]:
    more = {"more": f"and {message.more} more alerts of this rule"} if message.more else {}
    return {
        "summary": alert.summary[:_LONGEST_SUMMARY],
        "source": alert.labels.get("worker") or alert.labels.get("broker") or "celery",
        "severity": alert.severity,
        "timestamp": datetime.fromtimestamp(alert.starts_at, UTC).isoformat(),
        "component": alert.labels.get("task") or alert.labels.get("worker", ""),
        "group": alert.labels.get("queue", ""),
        "class": message.rule,
        "custom_details": {**alert.labels, "text": alert.text, **_trace(alert), **more},
    }


def _trace(alert: Alert) -> dict[str, str]:
    return {"trace_id": alert.trace_id} if alert.trace_id is not None else {}
