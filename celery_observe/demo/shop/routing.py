"""The queues, and who decides which task goes where.

Four ways, the first that answers has it: the call (`apply_async(queue=…)`), the router class, which looks into the
order, the task (its attribute `lane`), and the table of names and patterns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from celery import current_app

from celery_observe.demo.shop.order import order_in

QUEUES = ("high", "default", "low")
"""A worker each; from what a customer waits for to what may be done at night."""

DEAD_LETTERS = "dead_letters"
"""What failed for good, kept until somebody has looked at it. No worker consumes it."""

STEPS = list(range(10))
"""The priorities in a queue."""

LARGE = 500
"""Euros from which on an order does not wait behind others."""

_URGENCY = {"gold": 8, "standard": 4}
_MIDDLE = 5
"""Neither 0 nor 9, of which each is the most urgent on one broker: a message without a priority is 0."""


def priority(urgency: int) -> int:
    """Return the priority that means this urgency, from 0 to 9: on Redis 0 comes first, on RabbitMQ 9."""
    redis = str(current_app.conf.broker_write_url).startswith(("redis", "sentinel"))
    return STEPS[-1] - urgency if redis else urgency


class ByOrder:
    """Routes by content: large orders to the queue `high`, and customers in each queue by their tier."""

    def __call__(self, name: str, args: Sequence[Any] | None, *_: Any, **__: Any) -> dict[str, Any] | None:
        """Return queue and priority for a task on the way of an order; None leaves it to the next router."""
        order = order_in(args)
        if order is None or not name.startswith(("orders.", "payments.", "shipping.")):
            return None
        queue = "high" if order["value"] >= LARGE else "default"
        return {"queue": queue, "priority": priority(_URGENCY[order["tier"]])}


def by_attribute(*_: Any, task: Any = None, **__: Any) -> dict[str, Any] | None:
    """Route by what the task says of itself: `@app.task(lane="low")`. Celery 6 will not look at `queue` any more."""
    lane = getattr(task, "lane", None)
    return {"queue": lane, "priority": _MIDDLE} if lane else None


ROUTES = (
    ByOrder(),
    by_attribute,
    {
        "carts.sweep": {"queue": "low", "priority": _MIDDLE},
        "mail.*": {"queue": "low", "priority": _MIDDLE},
        re.compile(r"(catalogue|legacy|prices|reports)\."): {"queue": "low", "priority": _MIDDLE},
        "*": {"queue": "default", "priority": _MIDDLE},
    },
)
