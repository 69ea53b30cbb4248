"""What events cost the broker: CPU of its processes for each event, with no, one and several readers, and bytes.

Readers take bytes off the socket and look at nothing. What is published is the same each time. With `--tasks`: what
real tasks cost a Redis, with and without the events of their worker.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from consumers import CONSUMERS, DECODE_FLOORS, DEFAULT_CACHE, OURS_CONSUMER, Running, quietly
from corpus import messages
from feed import Feed, feed_for, server_for

from services.process import Process
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

READERS = {"redis": (0, 1, 2, 4), "rabbitmq": (0, 1, 2)}
TICKS = os.sysconf("SC_CLK_TCK")
STARTS = 3.0  # seconds that readers take to have subscribed, after the first has
PAUSE = 0.5  # seconds between two looks at what a server has used
FLOORS = {"redis": "raw socket", "rabbitmq": DECODE_FLOORS["rabbitmq"]}


@dataclass(frozen=True)
class Cost:
    """What one event costs a broker."""

    broker: str
    readers: int
    microseconds: float
    bytes: float  # that are published; each reader gets about as many


def processes(server: Process) -> Iterator[list[str]]:
    """The fields of `/proc/PID/stat`, from the third on, of all that belong to a server."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[2]) == server.pid:  # the process group
            yield fields


def cpu(server: Process) -> float:
    """Seconds of CPU that a server has used so far, with its children."""
    return sum(int(user) + int(system) for user, system in (fields[11:13] for fields in processes(server))) / TICKS


def settled(server: Process) -> float:
    """The same, once it has nothing left to do."""
    before, after = -1.0, cpu(server)
    while after - before > PAUSE / 10:
        time.sleep(PAUSE)
        before, after = after, cpu(server)
    return after


def measure(broker: str, server: Redis | RabbitMQ, feed: Feed, readers: int, events: int) -> Cost:
    """Pour events into a broker that so many read."""
    (floor,) = (each for each in CONSUMERS[broker] if each.name == FLOORS[broker])
    blocks = list(feed.encode(messages(events)))
    published = sum(block.tasks + block.workers for block in blocks)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for number in range(readers):
            consumer = floor._replace(name=f"reader-{number}")
            stack.enter_context(quietly(Running(consumer, server.url, Path(folder), Path(DEFAULT_CACHE))))
        eventually(lambda: feed.listeners() == min(readers, 1), 60, what="somebody reads")  # more are not told
        time.sleep(STARTS)
        before = settled(server)
        feed.pour(blocks)
        spent = settled(server) - before
    size = sum(len(block.data) for block in blocks)
    return Cost(broker, readers, 1e6 * spent / published, size / published)


def measure_all(broker: str, events: int) -> list[Cost]:
    """With no reader, and with more and more."""
    with ExitStack() as stack:
        server = server_for(broker, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.enter_context(quietly(server))
        feed = feed_for(server.url)
        stack.callback(feed.close)
        return [measure(broker, server, feed, readers, events) for readers in READERS[broker]]


def of_tasks(tasks: int, *, events: bool) -> float:
    """Microseconds of Redis for a real task, less what a worker that has nothing to do asks of it."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        server = Redis(folder)
        stack.enter_context(quietly(server))
        running = Running(OURS_CONSUMER, server.url, folder, Path(DEFAULT_CACHE))
        worker = Worker(folder, server.url, pool="prefork", concurrency=2, events=events)
        for process in (running, worker):
            stack.enter_context(quietly(process))
        client = server.client()
        idle = cpu(server)
        time.sleep(STARTS)
        idle, before, began = (cpu(server) - idle) / STARTS, cpu(server), time.monotonic()
        for number in range(tasks):
            worker.send("add", number, number)
        eventually(lambda: not client.exists("celery", "unacked"), 300, what="all tasks have been executed")
        return 1e6 * (cpu(server) - before - idle * (time.monotonic() - began)) / tasks


def table(costs: list[Cost]) -> str:
    """The results as a table of Markdown."""
    lines = ["| broker | readers | µs CPU per event | bytes per event |", "|---|---:|---:|---:|"]
    lines += [f"| {each.broker} | {each.readers} | {each.microseconds:.1f} | {each.bytes:,.0f} |" for each in costs]
    return "\n".join(lines)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=READERS, help="one of them only")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--tasks", type=int, help="measure so many real tasks on Redis instead")
    arguments = parser.parse_args()
    if arguments.tasks:
        for events in (False, True):
            spent = of_tasks(arguments.tasks, events=events)
            print(f"{spent:.0f} µs CPU of Redis per task {'with' if events else 'without'} events of the worker")
        return 0
    brokers = [arguments.broker] if arguments.broker else READERS
    costs = [cost for broker in brokers for cost in measure_all(broker, arguments.events)]
    print(table(costs))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in costs], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
