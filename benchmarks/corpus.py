"""A corpus of Celery events as busy prefork workers really send them, made quickly and to measure.

The shape of every event was recorded from Celery 5.7 with the prefork pool: `task-sent` comes from the
publisher, alone; everything else that tasks say comes in batches of one to three (routing key `task.multi`);
heartbeats come alone, every two seconds of simulated time.
"""

from __future__ import annotations

import heapq
import json
import random
import time
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any, NamedTuple

EXCHANGE = "celeryev"
PATTERN = f"/0.{EXCHANGE}/*"  # what a reader subscribes to on Redis, database 0
WORKERS = tuple(f"{pool}@node-{node}.shop" for pool in ("fast", "slow") for node in range(1, 5))
PUBLISHERS = ("gen411@web-1.shop", "gen412@web-2.shop")
TASKS = tuple(
    f"shop.{area}.{verb}"
    for area in ("orders", "payments", "mail", "stock", "reports")
    for verb in ("create", "refresh", "notify", "archive")
)
QUEUES = {
    "orders": "critical",
    "payments": "critical",
    "mail": "mail",
    "stock": "default",
    "reports": "default",
}
TASKS_PER_SECOND = 1000.0
HEARTBEAT_SECONDS = 2.0
BATCH_SIZES, BATCH_WEIGHTS = (1, 2, 3), (1, 2, 1)
FAILURES, RETRIES, MAX_RETRIES = 0.03, 0.03, 2

FRAMES = """Traceback (most recent call last):
  File "/srv/shop/lib/python3.11/site-packages/celery/app/trace.py", line 564, in trace_task
    R = retval = fun(*args, **kwargs)
                 ^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop/lib/python3.11/site-packages/celery/app/trace.py", line 883, in __protected_call__
    return self.run(*args, **kwargs)
           ^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop/app/shop/tasks.py", line 118, in run
    receipt = gateway.charge(order.total, currency=order.currency, token=order.payment_token)
              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/shop/app/shop/gateway.py", line 57, in charge
    raise declined(response)
"""
ERRORS = (
    ("ValueError('card declined for order 8141')", "ValueError: card declined for order 8141\n"),
    ("KeyError('currency')", "KeyError: 'currency'\n"),
    ("TimeLimitExceeded(30,)", "billiard.exceptions.TimeLimitExceeded: TimeLimitExceeded(30,)\n"),
)
RETRIED = (
    "ConnectionError('gateway timed out')",
    "celery.exceptions.Retry: Retry in 0s: ConnectionError('gateway timed out')\n",
)


class Message(NamedTuple):
    """One message of the event exchange."""

    routing_key: str
    hostname: str  # the kombu header `hostname`
    body: bytes  # JSON: one event, or a list of them
    tasks: int  # task events in it
    workers: int  # worker events in it


class Said(NamedTuple):
    """What one node says at one moment; sorts by time, then by the order of making."""

    at: float
    order: int
    node: str
    type: str
    fields: dict[str, Any]


class Node:
    """A worker or a publisher: it knows its pid and clock, and a worker collects its batch."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.clock = count(1)
        self.processed = 0
        self.batch: list[dict[str, Any]] = []
        self.batch_size = 1

    def event(self, said: Said) -> dict[str, Any]:
        """The event, its fields in the order in which Celery's dispatcher writes them."""
        head = {"hostname": self.name, "utcoffset": 0.0, "pid": self.pid, "clock": next(self.clock)}
        return head | said.fields | {"timestamp": said.at, "type": said.type}

    def heartbeat(self) -> dict[str, Any]:
        """The fields of a heartbeat, `processed` being the tasks accepted so far."""
        system = {"sw_ident": "py-celery", "sw_ver": "5.7.0", "sw_sys": "Linux"}
        return {"freq": 2.0, "active": 3, "processed": self.processed, "loadavg": [1.38, 0.53, 0.25]} | system


class Simulation:
    """Eight prefork workers and two web servers at work on twenty kinds of task.

    Args:
        tasks: How many distinct tasks are published; each gives a little over four events.
        seed: Everything but the time of day follows from it.
    """

    def __init__(self, tasks: int, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311  # it draws run times, not secrets
        self._tasks = tasks
        self._start = time.time() - tasks / TASKS_PER_SECOND
        self._order = count()
        self._agenda: list[Said] = []
        self._nodes = {name: Node(name, 4000 + number) for number, name in enumerate(WORKERS + PUBLISHERS)}

    def messages(self) -> Iterator[Message]:
        """Everything said, in order of time, as messages of the event exchange."""
        for number, worker in enumerate(WORKERS):
            self._say(self._start + number * 0.2, worker, "worker-heartbeat", {})
        for number in range(self._tasks):
            at = self._start + number / TASKS_PER_SECOND
            yield from self._until(at)
            self._publish(at, number)
        yield from self._until(self._start + self._tasks / TASKS_PER_SECOND + HEARTBEAT_SECONDS)
        yield from self._rest()

    def _say(self, at: float, node: str, kind: str, fields: dict[str, Any]) -> None:
        heapq.heappush(self._agenda, Said(at, next(self._order), node, kind, fields))

    def _publish(self, at: float, number: int) -> None:
        """Plan the life of one task: a few are retried, a few fail, the rest succeed."""
        name = TASKS[self._random.randrange(len(TASKS))]
        uuid = new_uuid(self._random)
        retries = 0
        publisher = PUBLISHERS[number % len(PUBLISHERS)]
        while True:
            call = describe(uuid, name, number, retries)
            worker = WORKERS[self._random.randrange(len(WORKERS))]
            end, runtime = self._attempt(at, publisher, worker, call)
            luck = self._random.random()
            if luck >= RETRIES or retries == MAX_RETRIES:
                break
            self._say(end, worker, "task-retried", {"uuid": uuid} | trouble(RETRIED))
            at, publisher, retries = end - 0.002, worker, retries + 1
        if luck < RETRIES + FAILURES:
            error = ERRORS[self._random.randrange(len(ERRORS))]
            self._say(end, worker, "task-failed", {"uuid": uuid} | trouble(error))
        else:
            result = {"uuid": uuid, "result": f"{{'order': {number}, 'state': 'paid'}}", "runtime": runtime}
            self._say(end, worker, "task-succeeded", result)

    def _attempt(self, at: float, publisher: str, worker: str, call: dict[str, Any]) -> tuple[float, float]:
        """Plan one attempt up to its start, and tell when it ends and how long it runs."""
        received = at + self._random.uniform(0.0005, 0.0015)
        started = received + self._random.expovariate(1 / 0.01)
        runtime = self._random.lognormvariate(-3.5, 1.0)
        queue = QUEUES[call["name"].split(".")[1]]
        self._say(at, publisher, "task-sent", call | {"queue": queue, "exchange": "", "routing_key": queue})
        self._say(received, worker, "task-received", call)
        self._say(started, worker, "task-started", {"uuid": call["uuid"]})
        return started + runtime, runtime

    def _until(self, now: float) -> Iterator[Message]:
        while self._agenda and self._agenda[0].at <= now:
            yield from self._message(heapq.heappop(self._agenda))

    def _rest(self) -> Iterator[Message]:
        """What is still to be said, less further heartbeats; then the batches that did not fill up."""
        for said in sorted(self._agenda):
            if said.type != "worker-heartbeat":
                yield from self._message(said)
        for node in self._nodes.values():
            yield from self._flush(node)

    def _message(self, said: Said) -> Iterator[Message]:
        node = self._nodes[said.node]
        if said.type == "worker-heartbeat":
            self._say(said.at + HEARTBEAT_SECONDS, node.name, said.type, {})
            beat = node.event(said._replace(fields=node.heartbeat()))
            yield Message("worker.heartbeat", node.name, encode(beat), 0, 1)
            return
        if said.type == "task-sent":
            yield Message("task.sent", node.name, encode(node.event(said)), 1, 0)
            return
        node.processed += said.type == "task-started"
        node.batch.append(node.event(said))
        if len(node.batch) >= node.batch_size:
            yield from self._flush(node)

    def _flush(self, node: Node) -> Iterator[Message]:
        if node.batch:
            yield Message("task.multi", node.name, encode(node.batch), len(node.batch), 0)
        node.batch = []
        (node.batch_size,) = self._random.choices(BATCH_SIZES, BATCH_WEIGHTS)


def new_uuid(source: random.Random) -> str:
    """A random uuid in Celery's spelling."""
    digits = f"{source.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def describe(uuid: str, name: str, number: int, retries: int) -> dict[str, Any]:
    """The fields that `task-sent` and `task-received` share."""
    return {
        "uuid": uuid,
        "name": name,
        "args": f"({number}, 'customer-{number % 977}')",
        "kwargs": f"{{'currency': 'EUR', 'total': {number % 1000}.50, 'notify': True}}",
        "root_id": uuid,
        "parent_id": uuid if retries else None,
        "retries": retries,
        "eta": None,
        "expires": None,
    }


def trouble(error: tuple[str, str]) -> dict[str, Any]:
    """The fields of a task that raised."""
    return {"exception": error[0], "traceback": FRAMES + error[1]}


def encode(body: object) -> bytes:
    """JSON as kombu spells it."""
    return json.dumps(body).encode()


def messages(events: int) -> Iterator[Message]:
    """Messages of about so many events, 4.2 to a task."""
    return Simulation(max(1, round(events / 4.18))).messages()


def size(corpus: Iterable[Message]) -> tuple[int, int]:
    """How many task events and worker events there are."""
    tasks = workers = 0
    for message in corpus:
        tasks += message.tasks
        workers += message.workers
    return tasks, workers
