"""Slack, and what takes its incoming webhooks, such as Mattermost.

https://api.slack.com/messaging/webhooks; what ``&``, ``<`` and ``>`` are written as:
https://api.slack.com/reference/surfaces/formatting.
"""

from __future__ import annotations

from celery_observe.hooks import Alert, Message, Status
from celery_observe.sinks import delivers
from celery_observe.sinks.post import HttpSink

_LONGEST = 3000
"""Characters of one message; Slack cuts a text at 4,000."""
_MARKS = {"critical": ":red_circle:", "error": ":large_orange_circle:", "warning": ":large_yellow_circle:"}


@delivers("slack")
class Slack(HttpSink, frozen=True, kw_only=True):
    """``url`` is that of an incoming webhook, which is a secret."""

    def deliver(self, message: Message) -> None:
        """Post one text for all alerts."""
        parts = [f"*{_mark(message)} {_escaped(message.title)}*", *map(_section, message.alerts)]
        text = "\n".join(parts)
        self.post({"text": text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"})


def _mark(message: Message) -> str:
    alert = message.alerts[0]
    if alert.status is Status.RESOLVED:
        return ":large_green_circle:"
    return _MARKS.get(alert.severity, ":large_blue_circle:")


def _section(alert: Alert) -> str:
    links = " · ".join(f"<{_escaped(link)}|{_escaped(title)}>" for title, link in alert.links.items())
    summary = f"> {_escaped(alert.summary)}"
    if alert.status is Status.RESOLVED:
        return summary
    text = f"```{_escaped(alert.text)}```" if alert.text else ""
    return "\n".join(filter(None, [summary, text, links]))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("```", "'''")
