"""A Celery app whose tasks end in every way that a task can end.

Its configuration comes from the environment, so that a worker process can be given any: `SAMPLE_BROKER` is a
broker URL, `SAMPLE_CONF` a JSON object of further Celery settings.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, Reject

from apps.alone import App


def make_app(broker: str, **conf: Any) -> Celery:
    """An app for this broker, to publish with; it says when it sends, and waits for no result."""
    app = App("sample", broker=broker, set_as_current=False)
    app.conf.update(task_send_sent_event=True, task_ignore_result=True, broker_connection_retry_on_startup=True)
    app.conf.update(conf)
    return app


app = make_app(os.environ.get("SAMPLE_BROKER", "memory://"), **json.loads(os.environ.get("SAMPLE_CONF", "{}")))


@app.task(name="add")
def add(x: int, y: int) -> int:
    """Succeed."""
    return x + y


@app.task(name="work")
def work(seconds: float) -> float:
    """Take a known time, then succeed."""
    time.sleep(seconds)
    return seconds


@app.task(name="fail")
def fail(message: str = "as asked") -> None:
    """Fail with a ValueError."""
    raise ValueError(message)


@app.task(name="retry", bind=True)
def retry(self: Task, times: int = 1, countdown: float = 0) -> int:
    """Ask for `times` retries, then succeed."""
    retries: int = self.request.retries
    if retries < times:
        raise self.retry(exc=KeyError("again"), countdown=countdown, max_retries=times)
    return retries


@app.task(name="give_up", bind=True)
def give_up(self: Task, times: int = 1) -> None:
    """Retry `times` times, then fail with the KeyError."""
    raise self.retry(exc=KeyError("never"), countdown=0, max_retries=times)


@app.task(name="soft_limit", soft_time_limit=0.5)
def soft_limit() -> None:
    """Work past a soft time limit."""
    time.sleep(5)


@app.task(name="hard_limit", time_limit=0.5)
def hard_limit() -> None:
    """Work past a hard time limit."""
    time.sleep(5)


@app.task(name="kill_self")
def kill_self() -> None:
    """Die as of the kernel's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="kill_self_once", bind=True, acks_late=True, reject_on_worker_lost=True)
def kill_self_once(self: Task) -> bool:
    """Die, be delivered again, and succeed."""
    if not self.request.delivery_info.get("redelivered"):
        os.kill(os.getpid(), signal.SIGKILL)
    return True


@app.task(name="exit_process")
def exit_process() -> None:
    """Leave by sys.exit."""
    sys.exit(3)


@app.task(name="reject", acks_late=True)
def reject() -> None:
    """Be rejected, for good."""
    raise Reject("as asked", requeue=False)


@app.task(name="reject_once", bind=True, acks_late=True)
def reject_once(self: Task) -> bool:
    """Be rejected and requeued, then succeed."""
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("as asked", requeue=True)
    return True


@app.task(name="ignore")
def ignore() -> None:
    """End without an outcome."""
    raise Ignore


@app.task(name="replace", bind=True)
def replace(self: Task) -> None:
    """Be replaced by another task of the same id."""
    self.replace(add.s(1, 1))


@app.task(name="say", bind=True)
def say(self: Task, kind: str = "task-progress") -> None:
    """Send a custom event, then succeed."""
    self.send_event(kind, percent=50)
