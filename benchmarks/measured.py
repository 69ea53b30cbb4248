"""The app of the workers of worker.py, each measured in its way: `MEASURE` names what to call. Run, it publishes tasks.

BROKER=redis://… DONE=done MEASURE=celery_observe:instrument python benchmarks/measured.py 1000 500 500

publishes slices of so many tasks that do nothing and one that tells that they are done. That is measured too, as users
would, since the worker reads what is written into the messages then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from functools import cache

import redis
from celery import Celery
from kombu.utils.imports import symbol_by_name
from marks import mark

CPUCLOCK_PROCESS = 2  # of another process: see clock_getcpuclockid(3)

broker = os.environ["BROKER"]
app = Celery("measured", broker=broker)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task(name="nothing")
def nothing() -> None:
    """Do nothing."""


@cache
def listener() -> redis.Redis:
    """Who is told."""
    return redis.Redis.from_url(broker)


@app.task(name="tell")
def tell() -> None:
    """Tell that all before it are done, and what the main process and this child have spent on it (CPU seconds)."""
    spent = [time.clock_gettime((~pid << 3) | CPUCLOCK_PROCESS) for pid in (os.getppid(), os.getpid())]
    listener().rpush(os.environ["DONE"], json.dumps(spent))


if os.environ["MEASURE"]:
    symbol_by_name(os.environ["MEASURE"])()
if "MARKS" in os.environ:
    mark(app)


def publish(slices: Iterable[int]) -> None:
    """Publish slices of so many tasks."""
    for tasks in slices:
        for _ in range(tasks):
            nothing.delay()
        tell.delay()


if __name__ == "__main__":
    publish(map(int, sys.argv[1:]))
