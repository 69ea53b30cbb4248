"""A Celery app, instrumented by one line in whatever imports it: the worker, and the web process."""

from __future__ import annotations

import os

from celery import Celery

from celery_observe import instrument

app = Celery("tasks", broker=os.environ.get("BROKER_URL", "redis://localhost:6379/0"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
instrument(app)


@app.task
def place(number: int) -> int:
    """Place an order."""
    return number
