"""A Celery app that knows nothing of celery-observe."""

from __future__ import annotations

import os
import time

from celery import Celery

app = Celery("tasks", broker=os.environ.get("BROKER_URL", "redis://localhost:6379/0"))
app.conf.update(
    task_ignore_result=True,
    task_send_sent_event=True,  # tells the queue of each task, and so its wait
    broker_connection_retry_on_startup=True,
)


@app.task
def resize(picture: int) -> int:
    """Make a picture smaller; every fifth is broken."""
    time.sleep(0.01)
    if picture % 5 == 0:
        message = f"picture {picture} is broken"
        raise ValueError(message)
    return picture


if __name__ == "__main__":
    for number in range(20):
        resize.delay(number)
