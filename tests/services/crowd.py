"""A thousand workers that a test speaks for: they answer remote control as Celery's do, and do nothing else."""

from __future__ import annotations

import threading
from typing import Any, Self

from celery import Celery
from kombu import Consumer, Producer

STATS: dict[str, Any] = {
    "total": {"shop.charge": 100},
    "pid": 1,
    "uptime": 100,
    "prefetch_count": 8,
    "pool": {
        "implementation": "celery.concurrency.prefork:TaskPool",
        "max-concurrency": 2,
        "max-tasks-per-child": "N/A",
        "timeouts": [0, 0],
        "processes": [2, 3],
    },
}
TASK = "[acks_late=False reject_on_worker_lost=False max_retries=3 default_retry_delay=180 send_events=True]"


class Crowd:
    """So many workers with so many tasks each, in one thread.

    Args:
        broker: URL.
        workers: how many.
        tasks: how many each has registered.
    """

    def __init__(self, broker: str, workers: int, tasks: int) -> None:
        self._names = [f"w{number}@h" for number in range(workers)]
        self._app = Celery(broker=broker, set_as_current=False)
        request = {"id": "u", "name": "shop.charge", "args": ["x" * 100], "kwargs": {}, "time_start": 1.0}
        self._replies: dict[str, Any] = {
            "stats": STATS,
            "active_queues": [{"name": "celery"}],
            "conf": {"worker_prefetch_multiplier": 4},
            "registered": [f"shop.task_{number} {TASK}" for number in range(tasks)],
            "active": [request] * 2,
            "reserved": [request] * 6,
            "scheduled": [],
        }
        self._stop = threading.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Wait until they can be asked."""
        self._thread.start()
        assert self._listening.wait(10.0)
        return self

    def __exit__(self, *_: object) -> None:
        """Send them home."""
        self._stop.set()
        self._thread.join(10.0)
        self._app.close()

    def _run(self) -> None:
        with self._app.connection_for_read() as connection:
            channel = connection.default_channel
            queue = self._app.control.mailbox.get_queue("crowd@h")(channel)
            queue.declare()
            with Consumer(channel, [queue], callbacks=[lambda body, _: self._answer(channel, body)], no_ack=True):
                self._listening.set()
                while not self._stop.is_set():
                    try:
                        connection.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

    def _answer(self, channel: Any, body: dict[str, Any]) -> None:
        if body["method"] not in self._replies or body.get("pattern"):
            return
        producer = Producer(channel, auto_declare=False)
        for name in body.get("destination") or self._names:
            producer.publish(
                {name: self._replies[body["method"]]},
                exchange=body["reply_to"]["exchange"],
                routing_key=body["reply_to"]["routing_key"],
                headers={"ticket": body["ticket"]},
                serializer="json",
            )
