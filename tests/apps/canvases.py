"""An app whose tasks are put together in all the ways that Celery has: `python -m apps.canvases chain` publishes one.

A task `start_chain` publishes it from within a worker, so that it has that task as its root.

It is instrumented if `SAMPLE_INSTRUMENT` is a JSON object of settings for `instrument`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery, Task, chain, chord, group

from apps.alone import App

BROKER = os.environ.get("SAMPLE_BROKER", "memory://")


def make_app(broker: str, **conf: Any) -> Celery:
    """An app for this broker, which says when it sends, and keeps results there unless told where."""
    app = App("canvases", broker=broker, set_as_current=False)
    app.conf.update(task_send_sent_event=True, broker_connection_retry_on_startup=True, result_backend=broker)
    app.conf.update(conf)
    return app


app = make_app(BROKER, **json.loads(os.environ.get("SAMPLE_CONF", "{}")))

if "SAMPLE_INSTRUMENT" in os.environ:
    from celery_observe import instrument

    instrument(app, **json.loads(os.environ["SAMPLE_INSTRUMENT"]))


@app.task(name="add")
def add(*numbers: int) -> int:
    """Succeed."""
    return sum(numbers)


@app.task(name="total")
def total(numbers: Iterable[int]) -> int:
    """Succeed with what a header returned."""
    return sum(numbers)


@app.task(name="work")
def work(seconds: float) -> float:
    """Take a known time."""
    time.sleep(seconds)
    return seconds


@app.task(name="fail")
def fail() -> None:
    """Fail."""
    raise ValueError


@app.task(name="retry_once", bind=True)
def retry_once(self: Task, countdown: float = 1.0) -> int:
    """Fail, wait, and succeed."""
    if not self.request.retries:
        raise self.retry(countdown=countdown)
    return 1


@app.task(name="limited", rate_limit="30/m")
def limited() -> int:
    """Wait for its turn, which comes every two seconds."""
    return 1


@app.task(name="fan_out")
def fan_out(times: int) -> None:
    """Publish others, which nobody waits for."""
    for _ in range(times):
        add.delay(1, 1)


@app.task(name="replace", bind=True)
def replace(self: Task) -> None:
    """Be replaced by a chain."""
    raise self.replace(chain(add.si(1, 1), add.si(2, 2)))


CANVASES: dict[str, Any] = {
    "chain": lambda: chain(add.si(1, 1), work.si(0.2), add.si(2, 2)),
    "failing_chain": lambda: chain(add.si(1, 1), fail.si(), add.si(2, 2)),
    "retried_chain": lambda: chain(add.si(1, 1), retry_once.si(), add.si(2, 2)),
    "group": lambda: group(add.si(1, 1), add.si(2, 2), work.si(0.2)),
    "chord": lambda: chord([add.si(1, 1), work.si(0.3), add.si(2, 2)], total.s()),
    "slow_chord": lambda: chord([add.si(1, 1), work.si(5)], total.s()),
    "failing_chord": lambda: chord([add.si(1, 1), fail.si(), add.si(2, 2)], total.s()),
    "nested": lambda: chain(add.si(1, 1), group(chain(add.si(1, 1), add.si(2, 2)), add.si(3, 3)), total.s()),
    "replace": lambda: chain(add.si(1, 1), replace.si(), add.si(2, 2)),
    "map": lambda: add.map([1, 2, 3]),
    "starmap": lambda: add.starmap([(1, 1), (2, 2)]),
    "chunks": lambda: add.chunks([(number, number) for number in range(25)], 10),
    "limited": lambda: group(limited.si(), limited.si()),
}
"""What is published, by name."""


def starting(kind: str) -> Callable[[], None]:
    """Return what publishes a canvas."""

    def start() -> None:
        CANVASES[kind]().apply_async()

    return start


for each in CANVASES:
    app.task(name=f"start_{each}")(starting(each))

if __name__ == "__main__":
    for each in sys.argv[1:]:
        starting(each)()
