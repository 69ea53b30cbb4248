"""The sample app, instrumented. `SAMPLE_INSTRUMENT` is a JSON object of settings for `instrument`."""

from __future__ import annotations

import asyncio
import json
import os
import time

from apps.sample import add, app
from celery_observe import instrument

instrument(app, **json.loads(os.environ.get("SAMPLE_INSTRUMENT", "{}")))
instrument(app)


@app.task(name="limited", rate_limit="6/m")
def limited() -> None:
    """Wait for its turn."""


@app.task(name="spin")
def spin(seconds: float) -> None:
    """Use the CPU, and never yield."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@app.task(name="grow")
def grow(megabytes: int) -> int:
    """Use memory."""
    return len(bytearray(megabytes * 1024 * 1024))


@app.task(name="run_loop")
def run_loop() -> int:
    """Run an event loop of its own, as tasks with async code do."""
    return asyncio.run(asyncio.sleep(0.01, 7))


@app.task(name="call_eagerly")
def call_eagerly() -> int:
    """Call another task in place."""
    return int(add.apply((1, 2)).result)


@app.task(name="pass_on")
def pass_on() -> None:
    """Publish another task."""
    add.apply_async((1, 2), queue="celery")
