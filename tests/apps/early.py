"""An app that is instrumented before it is configured, and before it has tasks. `EARLY_PORT` is where it serves."""

from __future__ import annotations

import os

from celery import Celery

from celery_observe import instrument

app = Celery("early")
instrument(app, port=int(os.environ.get("EARLY_PORT", "0")))
app.conf.broker_url = os.environ.get("SAMPLE_BROKER", "memory://")
app.conf.task_ignore_result = True


@app.task(name="add")
def add(x: int, y: int) -> int:
    """Succeed."""
    return x + y


instrument(app)
