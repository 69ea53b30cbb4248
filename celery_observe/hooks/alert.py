"""What sinks are handed: an alert, and several of one rule as one message."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping

import msgspec

from celery_observe.fact import Detail


class Status(enum.StrEnum):
    """Whether what an alert tells of goes on."""

    FIRING = "firing"
    RESOLVED = "resolved"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, or was. Times are Unix seconds by our clock."""

    rule: str
    severity: str
    """critical, error, warning or info"""
    status: Status
    summary: str
    """What is wrong, in one line."""
    labels: dict[str, str]
    """What tells it from other alerts of its rule, such as task and queue, and the rule's own labels, such as team."""
    links: dict[str, str]
    """Where to look, by title."""
    fingerprint: str
    """The same for the same rule and labels, today and in another process."""
    starts_at: float
    """When it began."""
    last_at: float
    """When it happened last."""
    ends_at: float
    """When it ended; while it fires, when it will have ended unless it happens again."""
    count: int
    """How often it has happened since it began."""
    detail: Detail | None = None
    """Of the first failure, as far as the setting ``alert_detail`` allows."""
    trace_id: str | None = None
    """The trace that tells of the first, if there is one."""

    @property
    def text(self) -> str:
        """What else is known of it, line by line."""
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        lines = [", ".join(f"{name}: {value}" for name, value in self.labels.items())]
        if self.count > 1:
            lines.append(f"{self.count} times")
        detail = self.detail
        if detail is not None:
            lines.append(f"task id: {detail.uuid}" + (f", retries: {detail.retries}" if detail.retries else ""))
        if self.trace_id is not None:
            lines.append(f"trace: {self.trace_id}")
        if detail is not None:
            lines += [f"{name}: {text}" for name, text in _texts(detail) if text]
            lines += ["", detail.traceback] if detail.traceback else []
        return lines


def _texts(detail: Detail) -> tuple[tuple[str, str | None], ...]:
    return ("exception", detail.text), ("arguments", detail.arguments)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule has to tell at one moment."""

    rule: str
    alerts: tuple[Alert, ...]
    """At least one; all have the same status."""
    more: int = 0
    """How many other alerts of the rule are told only by this number."""
    repeated: bool = False
    """Told before, and it goes on: only for sinks that forget alerts which are not repeated."""

    @property
    def title(self) -> str:
        """The message in one line."""
        first = self.alerts[0]
        others = len(self.alerts) - 1 + self.more
        mark = "" if first.status is Status.FIRING else "resolved: "
        return f"{mark}{first.summary}" + (f" and {others} more" if others else "")

    @property
    def text(self) -> str:
        """The message in full."""
        parts = [f"{alert.summary}\n{alert.text}" for alert in self.alerts]
        parts += [f"… and {self.more} more"] if self.more else []
        return "\n\n".join(parts)


def fingerprint(rule: str, labels: Mapping[str, str]) -> str:
    """Return what identifies an alert."""
    named = "\0".join(f"{name}\0{value}" for name, value in sorted(labels.items()))
    return hashlib.sha256(f"{rule}\0{named}".encode(errors="replace")).hexdigest()[:32]
