"""What questions to workers cost: time, CPU of ours, by question. Redis is started, the workers are simulated.

PYTHONPATH=tests python benchmarks/workers.py --workers 50 --rounds 20

A question goes out once per interval; in a round each has had its turn.

One process answers for all workers as Celery's do: each command with the reply of a worker that is busy, on the channel
where replies go. So the CPU of the workers is not measured; that of a worker is one message in and one out a command.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from celery import Celery

from celery_observe.broker import BrokerSettings
from celery_observe.metrics import observer
from celery_observe.probes import Sample
from celery_observe.probes.rota import ROUND
from celery_observe.probes.workers import WorkersProbe
from celery_observe.settings import Settings
from services.probed import Heard
from services.redis import Redis
from services.waiting import eventually

TASKS = 100  # registered in each worker
SLOTS = 8


def request(number: int) -> dict[str, Any]:
    """A task as `inspect active` describes it."""
    return {
        "id": f"3f2b1c1e-8a55-4bb5-9f0e-{number:012}",
        "name": f"shop.tasks.task_{number % TASKS}",
        "args": [number, "x" * 100],
        "kwargs": {},
        "hostname": "worker@host",
        "time_start": 1_700_000_000.0,
        "acknowledged": True,
        "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False},
        "worker_pid": 7,
    }


def replies() -> dict[str, Any]:
    """What a worker with all slots taken and its prefetch full answers."""
    names = [f"shop.tasks.task_{number}" for number in range(TASKS)]
    return {
        "active": [request(number) for number in range(SLOTS)],
        "reserved": [request(number) for number in range(SLOTS, 4 * SLOTS)],
        "scheduled": [],
        "active_queues": [{"name": "celery", "routing_key": "celery"}],
        "stats": {
            "pid": 7,
            "uptime": 100,
            "total": dict.fromkeys(names, 1000),
            "prefetch_count": 4 * SLOTS,
            "pool": {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": SLOTS},
            "rusage": {"utime": 1.0, "stime": 1.0, "maxrss": 50_000},
        },
        "conf": {"timezone": "UTC"},
        "registered": names,
    }


def answer(url: str, count: int) -> None:
    """Answer for so many workers until killed."""
    app, texts = Celery(broker=url, set_as_current=False), replies()
    node = app.control.mailbox.Node("worker0@host")
    with app.connection_for_write() as connection:
        node.channel = connection.default_channel

        def take(body: dict[str, Any], _message: Any) -> None:
            wanted = body["destination"]
            for number in range(count):
                name = f"worker{number}@host"
                if wanted is None or name in wanted:
                    node.hostname = name
                    reply_to = body["reply_to"]
                    node.reply(
                        {name: texts[body["method"]]}, reply_to["exchange"], reply_to["routing_key"], body["ticket"]
                    )

        consumer = node.Consumer(channel=node.channel)
        consumer.callbacks = [take]
        with consumer:
            while True:
                connection.drain_events()


class Cost(NamedTuple):
    """Milliseconds of one question."""

    wall: float
    cpu: float


def measure(url: str, count: int, rounds: int) -> tuple[dict[str, list[Cost]], int]:
    """Return the costs of each question, and the number of samples."""
    heard = Heard(beating={f"worker{number}@host" for number in range(count)})
    probe = WorkersProbe(BrokerSettings(url=url), Settings(inspect_timeout=30.0), heard)
    eventually(lambda: any(each.family is observer.WORKERS_ANSWERED and each.value == count for each in probe.ask()))
    costs: defaultdict[str, list[Cost]] = defaultdict(list)
    told: list[Sample] = []
    for _ in range(rounds * ROUND):
        wall, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        told = probe.ask()
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
        asked = {each.labels[0]: each.value for each in told if each.family is observer.WORKERS_ASKED}
        latest = max(asked, key=lambda command: asked[command])
        costs[latest].append(Cost(1000 * (time.perf_counter() - wall), 1000 * spent))
    return costs, len(told)


def main() -> None:
    """Print a line for each question, and one for a round."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Redis(Path(folder)) as server:
        crowd = multiprocessing.Process(target=answer, args=(server.url, given.workers), daemon=True)
        crowd.start()
        time.sleep(1.0)
        costs, samples = measure(server.url, given.workers, given.rounds)
        crowd.terminate()
    medians = {
        command: Cost(statistics.median(each.wall for each in spent), statistics.median(each.cpu for each in spent))
        for command, spent in costs.items()
    }
    for command, cost in medians.items():
        print(f"{given.workers} workers, {command}: {cost.wall:.0f} ms, CPU {cost.cpu:.0f} ms")
    regular = [cost for command, cost in medians.items() if command not in {"conf", "registered"}]
    print(
        f"{given.workers} workers, a round: {sum(each.wall for each in regular):.0f} ms, "
        f"CPU {sum(each.cpu for each in regular):.0f} ms, {samples} samples"
    )


if __name__ == "__main__":
    main()
