"""Hooks: conditions on facts, and what is to be told when they are met. What tells it is `celery_observe.sinks`."""

from __future__ import annotations

from celery_observe.hooks.alert import Alert, Message, Status
from celery_observe.hooks.registry import on_fact

__all__ = ["Alert", "Message", "Status", "on_fact"]
