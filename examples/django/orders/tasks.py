"""Found by `autodiscover_tasks`."""

from __future__ import annotations

from celery import shared_task


@shared_task
def place(number: int) -> int:
    """Place an order."""
    return number
