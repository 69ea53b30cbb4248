"""What a round of the queue probes costs: time, CPU of ours and of Redis, round trips. Servers are started for it.

PYTHONPATH=tests python benchmarks/probes.py --queues 200 --rounds 30
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from kombu import Connection, Queue
from redis.connection import AbstractConnection

from services.probed import Heard, Probed
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.waiting import eventually

BODY = "W1tdLCB7fSwgeyJjYWxsYmFja3MiOiBudWxsfV0="
HEADERS = {
    "lang": "py",
    "task": "shop.tasks.ship",
    "id": "3f2b1c1e-8a55-4bb5-9f0e-2f6f6f7a9d11",
    "eta": None,
    "retries": 0,
}
SEPARATOR = "\x06\x16"


class Cost(NamedTuple):
    """What one round costs, the median of all; times in milliseconds."""

    case: str
    wall: float
    cpu: float
    server: float | None
    round_trips: float | None
    samples: int


def message(**headers: object) -> str:
    """A message as kombu stores it, with about as many headers as Celery sends."""
    padding = {f"header_{number}": None for number in range(14)}
    return json.dumps({"body": BODY, "headers": HEADERS | padding | headers, "properties": {"delivery_mode": 2}})


def fill_redis(server: Redis, queues: int, held: int) -> None:
    """Bind the queues, put five messages into each, and let workers hold some."""
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(queues):
            name = f"queue-{number}"
            pipe.sadd(f"_kombu.binding.{name}", SEPARATOR.join((name, "", name)))
            pipe.lpush(name, *[message()] * 5)
        hold(pipe, queues, held, "first")
        pipe.execute()


def hold(pipe: Any, queues: int, held: int, batch: str) -> None:
    """Replace what workers hold."""
    pipe.delete("unacked", "unacked_index")
    for number in range(held):
        tag, queue = f"{batch}-7a9d11-8a55-4bb5-9f0e-{number}", f"queue-{number % queues}"
        pipe.hset("unacked", tag, f'[{message(eta="2100-01-01T00:00:00+00:00")}, "", "{queue}"]')
        pipe.zadd("unacked_index", {tag: time.time()})


@contextmanager
def sends() -> Iterator[list[int]]:
    """Count how often redis-py sends."""
    count, send = [0], AbstractConnection.send_packed_command

    def counted(self: AbstractConnection, *args: Any, **kwargs: Any) -> None:
        count[0] += 1
        send(self, *args, **kwargs)

    AbstractConnection.send_packed_command = counted  # type: ignore[method-assign]
    try:
        yield count
    finally:
        AbstractConnection.send_packed_command = send  # type: ignore[method-assign]


def cpu() -> float:
    """Seconds of CPU of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(
    case: str,
    probed: Probed,
    rounds: int,
    *,
    place: int = 0,
    server_cpu: Callable[[], float] | None = None,
    before: Callable[[int], object] = lambda _round: None,
) -> Cost:
    """Ask again and again."""
    probed.ask(place)
    walls, cpus, servers, trips = [], [], [], []
    for number in range(rounds):
        before(number)
        served = server_cpu() if server_cpu else 0.0
        with sends() as sent:
            started, used = time.perf_counter(), cpu()
            probed.ask(place)
            walls.append(time.perf_counter() - started)
            cpus.append(cpu() - used)
            trips.append(sent[0])
        servers.append((server_cpu() if server_cpu else 0.0) - served)
    wall, own, server = (statistics.median(times) * 1000 for times in (walls, cpus, servers))
    with_server = server_cpu is not None
    return Cost(
        case,
        wall,
        own,
        server if with_server else None,
        statistics.median(trips) if with_server else None,
        len(probed.told),
    )


def measure_redis(folder: Path, arguments: argparse.Namespace) -> Iterator[Cost]:
    """All cases on Redis."""
    for case, steps, held, fresh in (
        ("4 priorities", 4, 0, False),
        ("10 priorities", 10, 0, False),
        ("4 priorities, 1,000 held, as before", 4, 1000, False),
        ("4 priorities, 1,000 held, all new", 4, 1000, True),
        ("4 priorities, 10,000 held, as before", 4, 10_000, False),
    ):
        with Redis(folder) as server, server.client() as client:
            fill_redis(server, arguments.queues, held)
            options = {"priority_steps": list(range(steps))}
            probed = Probed(server.url, Heard(consumed={}), options, max_series=10_000)

            def served(client: Any = client) -> float:
                info = client.info("cpu")
                return float(info["used_cpu_user"] + info["used_cpu_sys"])

            def renew(number: int, client: Any = client, held: int = held, fresh: bool = fresh) -> None:  # noqa: FBT001  bound early, as the loop goes on
                if fresh:
                    with client.pipeline(transaction=False) as pipe:
                        hold(pipe, arguments.queues, held, str(number))
                        pipe.execute()

            yield measure(f"Redis, {case}", probed, arguments.rounds, server_cpu=served, before=renew)
            probed.close()


def measure_rabbitmq(folder: Path, arguments: argparse.Namespace) -> Iterator[Cost]:
    """Over AMQP, and through the management API."""
    with RabbitMQ(folder) as server:
        names = [f"queue-{number}" for number in range(arguments.queues)]
        with Connection(server.url) as connection:
            for name in names:
                Queue(name)(connection.channel()).declare()
        management = f"http://127.0.0.1:{server.management_port}"
        probed = Probed(server.url, Heard(set(names)), management_url=(management,))
        eventually(lambda: len(probed.ask().told) > arguments.queues, what="statistics are there")
        yield measure("RabbitMQ, AMQP (a round trip each)", probed, arguments.rounds, place=1)
        yield measure("RabbitMQ, management API", probed, arguments.rounds)
        probed.close()


def row(cost: Cost) -> str:
    """One row of a Markdown table."""
    server = "" if cost.server is None else f"{cost.server:.1f}"
    trips = "" if cost.round_trips is None else f"{cost.round_trips:.0f}"
    return f"| {cost.case} | {cost.wall:.1f} | {cost.cpu:.1f} | {server} | {trips} | {cost.samples} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):  # servers show their logs
        costs = [*measure_redis(Path(folder), arguments), *measure_rabbitmq(Path(folder), arguments)]
    print(f"{arguments.queues} queues, medians of {arguments.rounds} rounds\n")
    print("| | ms | CPU ms | CPU ms of Redis | round trips | samples |\n|---|---|---|---|---|---|")
    print("\n".join(map(row, costs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
