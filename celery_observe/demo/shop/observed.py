"""The app with celery-observe: what workers and beat are started with (`-A celery_observe.demo.shop.observed`).

The exporter counts what events tell, so only what they do not tell is to be served of these processes (`families`).
"""

from __future__ import annotations

from typing import Any

from celery_observe import instrument
from celery_observe.demo.shop import app
from celery_observe.demo.shop.order import order_in

__all__ = ["app"]


def _labels(task: Any) -> dict[str, str] | None:
    """Return the tier of the customer whose order a task is about."""
    order = order_in(task.request.args)
    return {"tier": order["tier"]} if order else None


instrument(app, labels=_labels, label_names=("tier",), families="process", resource=True)
