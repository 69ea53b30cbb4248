"""Found by `autodiscover_tasks`; the app that they belong to is known only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import shared_task

task: Callable[..., Callable[[Callable[..., Any]], Any]] = shared_task  # Celery's, with a type


@task(name="orders.place")
def place(number: int) -> int:
    """Place an order."""
    return number
