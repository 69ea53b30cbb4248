"""A Celery app that is instrumented by one line."""

from __future__ import annotations

import os
import time

from celery import Celery, Task, shared_task

from celery_observe import instrument

app = Celery("shop", broker=os.environ.get("BROKER_URL", "redis://localhost:6379/0"))
app.conf.update(
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    task_annotations={"shop.send_newsletter": {"rate_limit": "10/m"}},
    beat_schedule={"count-stock": {"task": "shop.count_stock", "schedule": 1.0}},
)

instrument(app, resource=True)


@shared_task(name="shop.place_order", bind=True, max_retries=3)
def place_order(self: Task, number: int) -> int:
    """Take an order; the bank has its moods."""
    if number % 5 == self.request.retries:
        raise self.retry(countdown=0)
    return number


@shared_task(name="shop.send_newsletter")
def send_newsletter() -> None:
    """Send mail, which the provider limits."""
    time.sleep(0.05)


@shared_task(name="shop.count_stock")
def count_stock() -> int:
    """Count what is there."""
    return len(["lamp", "chair", "table"])


if __name__ == "__main__":
    for order in range(20):
        place_order.delay(order)
    for _ in range(3):
        send_newsletter.delay()
