"""The sample app, instrumented. `SAMPLE_INSTRUMENT` is a JSON object of settings for `instrument`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any

from celery import Task, chord, group

from apps.sample import add, app, work
from celery_observe import instrument


def labels_of(task: Task) -> dict[str, Any]:
    """Say for whom a task is, as its caller has said."""
    kwargs = task.request.kwargs
    return {"tenant": kwargs["tenant"], "args": "nobody asked for these"}


SETTINGS = json.loads(os.environ.get("SAMPLE_INSTRUMENT", "{}"))

instrument(app, **SETTINGS, **({"labels": labels_of} if "label_names" in SETTINGS else {}))
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


@app.task(name="order")
def order(*header: list[Any]) -> None:
    """Publish a chord of these tasks, each a name and arguments, with a body that takes no results."""
    chord([app.signature(name, args) for name, *args in header], app.signature("ignore")).apply_async()


@app.task(name="call_eagerly")
def call_eagerly() -> int:
    """Call another task in place."""
    return int(add.apply((1, 2)).result)


@app.task(name="pass_on")
def pass_on() -> None:
    """Publish another task."""
    add.apply_async((1, 2), queue="celery")


@app.task(name="charge", bind=True)
def charge(self: Task, seconds: float) -> None:
    """Go through two states, the second of which takes a known time."""
    self.update_state(state="VALIDATING", meta={"step": 1, "total": 4, "card": "4111 1111 1111 1111"})
    time.sleep(0.5)
    self.update_state(state="CHARGING", meta={"step": 3, "total": 4})
    time.sleep(seconds)


@app.task(name="ask")
def ask(seconds: float) -> float:
    """Wait for another task, which Celery advises against."""
    answer: float = work.apply_async((seconds,)).get(disable_sync_subtasks=False)
    return answer


@app.task(name="ask_many")
def ask_many(seconds: float) -> list[float]:
    """Wait for two others."""
    answers: list[float] = group(work.s(seconds), work.s(seconds))().get(disable_sync_subtasks=False)
    return answers


@app.task(name="ask_wrongly")
def ask_wrongly() -> None:
    """Wait for another task in a way that Celery refuses."""
    add.apply_async((1, 2)).get()


@app.task(name="serve")
def serve(tenant: str = "", *, die: bool = False) -> str:
    """Work for somebody, or die of it."""
    if die:
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGKILL)
    return tenant


@app.task(name="persist", bind=True)
def persist(self: Task, seconds: float) -> None:
    """Work for a known time, then ask for one retry, at once."""
    if not self.request.retries:
        time.sleep(seconds)
        raise self.retry(countdown=0)


@app.task(name="linger", acks_late=True)
def linger(seconds: float) -> None:
    """Take longer than the broker waits for its message to be acknowledged."""
    time.sleep(seconds)
