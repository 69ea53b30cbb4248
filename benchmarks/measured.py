"""The app of the workers of worker.py, each measured in its way: `MEASURE` names what to call. Run, it publishes tasks.

BROKER=redis://… DONE=done MEASURE=celery_observe:instrument python benchmarks/measured.py 1000 500 500

publishes slices of so many tasks that do nothing and one that tells that they are done. That is measured too, as users
would, since the worker reads what is written into the messages then.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import redis
from celery import Celery
from kombu.utils.imports import symbol_by_name

broker = os.environ["BROKER"]
app = Celery("measured", broker=broker)
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task(name="nothing")
def nothing() -> None:
    """Do nothing."""


@app.task(name="tell")
def tell() -> None:
    """Tell that all before it are done."""
    with redis.Redis.from_url(broker) as client:
        client.rpush(os.environ["DONE"], "")


if os.environ["MEASURE"]:
    symbol_by_name(os.environ["MEASURE"])()


def publish(slices: Iterable[int]) -> None:
    """Publish slices of so many tasks."""
    for tasks in slices:
        for _ in range(tasks):
            nothing.delay()
        tell.delay()


if __name__ == "__main__":
    publish(map(int, sys.argv[1:]))
