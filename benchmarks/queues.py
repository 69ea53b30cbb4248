"""What celery-observe and celery-exporter say of the same queues, beside what is in them.

PYTHONPATH=tests python benchmarks/queues.py

A Redis with a worker of two children that execute two long tasks and have taken six more (late acknowledgement), forty
messages in four priorities behind them, ten tasks in the worker that wait for their ETA, and a queue without a worker.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from consumers import CELERY_EXPORTER_CONSUMER, OURS_CONSUMER, Consumer, Running, peers, quietly

from apps.sample import make_app
from services.exporter import Samples
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

CACHE = Path(tempfile.gettempdir()) / "celery-observe-benchmarks"
CONF = {"task_acks_late": True, "worker_prefetch_multiplier": 4}
PRIORITIES = (0, 3, 6, 9)

ROWS = (
    ("waiting in `busy`, all priorities", 40, "celery_queue_waiting", {"queue": "busy"}, {"queue_name": "busy"}),
    ("waiting in `busy`, priority 9", 10, "celery_queue_waiting", {"queue": "busy", "priority": "9"}, None),
    ("held by workers, of `busy`", 8, "celery_queue_in_flight", {"queue": "busy"}, None),
    ("waiting for their ETA, of `later`", 10, "celery_queue_scheduled", {"queue": "later"}, None),
    ("waiting in `lonely`, no worker", 5, "celery_queue_waiting", {"queue": "lonely"}, {"queue_name": "lonely"}),
)
"""What, how many there are, our family and labels, and the labels of celery-exporter's `celery_queue_length`."""


def send(url: str) -> None:
    """Publish it all."""
    with make_app(url, **CONF) as app:
        for _ in range(10):
            app.send_task("add", (1, 2), queue="later", countdown=600)
        time.sleep(3)  # until the worker has taken them: each lets it take one more
        for _ in range(8):
            app.send_task("work", (120,), queue="busy")
        time.sleep(3)
        for _ in range(10):
            for priority in PRIORITIES:
                app.send_task("add", (1, 2), queue="busy", priority=priority)
        for _ in range(5):
            app.send_task("add", (1, 2), queue="lonely")


def tells_of_queues(running: Running) -> bool:
    """Whether it is up and has asked."""
    try:
        return "celery_queue" in running.page()
    except OSError:
        return False


def pages(url: str, folder: Path, consumers: tuple[Consumer, ...]) -> Iterator[Samples]:
    """What each of them says, after a while."""
    programs = peers(CACHE)
    for consumer in consumers:
        running = Running(consumer, url, folder, programs)
        with quietly(running):
            eventually(lambda running=running: tells_of_queues(running), timeout=60.0, what=consumer.name)
            time.sleep(15)  # it may ask workers only now and then
            yield Samples.parse(running.page())


def said(page: Samples, family: str, labels: dict[str, str] | None) -> str:
    """The sum of what a page says, or that it says nothing."""
    values = page.select(family, **labels) if labels is not None else []
    return f"{sum(values):.0f}" if values else "absent"


def main() -> int:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        server = Redis(folder)
        running.enter_context(quietly(server))
        worker = Worker(folder, server.url, pool="prefork", queues=("busy", "later"), **CONF)
        running.enter_context(quietly(worker))
        send(server.url)
        ours, theirs = pages(server.url, folder, (OURS_CONSUMER, CELERY_EXPORTER_CONSUMER))
    print("| Redis | there are | celery-observe | celery-exporter |\n|---|---|---|---|")
    for what, truth, family, labels, other in ROWS:
        print(f"| {what} | {truth} | {said(ours, family, labels)} | {said(theirs, 'celery_queue_length', other)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
