"""What is told of a failure for alerts, where it happened; nothing unless alerts want it."""

from __future__ import annotations

from typing import Any

from celery_observe.detail import allows, arguments, detailing
from celery_observe.fact import Detail


class Quotation:
    """How much is told."""

    def __init__(self) -> None:
        self._level = "none"
        self._detail = detailing("none")

    def settle(self, level: str) -> None:
        """Tell so much from now on."""
        self._level, self._detail = level, detailing(level)

    def of(self, fields: dict[str, Any], einfo: Any) -> Detail | None:
        """Return what is told of a failure; ``fields`` are those of its request. The exception itself is not asked."""
        if self._level == "none":
            return None
        traceback = str(getattr(einfo, "traceback", "") or "")
        detail = self._detail(fields["id"], fields.get("retries") or 0, None, traceback)
        if detail is not None and allows(self._level, "arguments"):
            detail.arguments = arguments(str(fields.get("argsrepr") or ""), str(fields.get("kwargsrepr") or ""))
        return detail


quotation = Quotation()
"""The one of this process and its children."""
