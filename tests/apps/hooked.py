"""Hooks of a user's own, as the setting `alert_hooks` imports them."""

from __future__ import annotations

from celery_observe.fact import Failed
from celery_observe.hooks import on_fact


@on_fact("failed", task="fail", group_wait=0, severity="critical")
def told_by_hook(failure: Failed) -> str:
    """Tell of it in words of our own."""
    return f"own words for {failure.task}"
