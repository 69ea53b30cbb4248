"""The workers that worker.py compares: one process tree each, at a database of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, Self

import redis
from consumers import HERE, OURS

from celery_observe.metrics.tasks import OUTCOMES
from services.exporter import Served
from services.ports import free_port
from services.process import Process
from services.redis import Redis
from services.waiting import eventually

BARE, CONTROL, EVENTS = "nothing", "nothing, again", "-E"
RECEIVERS = "empty receivers"
OPENTELEMETRY, EXPORTED, MULTIPROCESS = "opentelemetry", "opentelemetry, exported", "multiprocess"
TRACED = f"{OURS} with spans"
CONTESTANTS = {
    BARE: "",
    CONTROL: "",
    EVENTS: "",
    RECEIVERS: "receivers:connect",
    OPENTELEMETRY: "spans:connect",
    EXPORTED: "spans:connect",
    MULTIPROCESS: "multiprocess:connect",
    OURS: "celery_observe:instrument",
    TRACED: "spans:observe",
}
"""What its app calls."""

QUEUE, RESERVOIR, DONE = "celery", "reservoir", "done"


class Spent(NamedTuple):
    """CPU seconds, user and system, all threads."""

    main: float
    child: float

    def __sub__(self, other: Self) -> Spent:
        """What was spent since then, or more than there."""
        return Spent(self.main - other.main, self.child - other.child)

    def __truediv__(self, tasks: int) -> Spent:
        """By task."""
        return Spent(self.main / tasks, self.child / tasks)

    @property
    def total(self) -> float:
        """Of the whole tree."""
        return self.main + self.child


class Contestant(Served, Process):
    """A prefork worker and its tasks: published beforehand, into a reservoir from which slices are poured."""

    def __init__(
        self, name: str, server: Redis, database: int, folder: Path, peers: Path, *arguments: str, collector: str = ""
    ) -> None:
        self.contestant = name
        self.port = free_port()
        self.client = redis.Redis.from_url(server.url_of_database(database), socket_timeout=600)
        self.home = folder / str(database)
        (self.home / "metrics").mkdir(parents=True)
        command = [sys.executable, "-P", "-m", "celery", "-A", "measured", "worker", *arguments]
        environment = {
            "BROKER": server.url_of_database(database),
            "CELERY_OBSERVE_PORT": str(self.port),
            "C_FORCE_ROOT": "1",
            "DONE": DONE,
            "MEASURE": CONTESTANTS[name],
            "OTEL_TRACES_EXPORTER": "none",
            "PEERS": str(next(peers.glob("lib/python*/site-packages"))),
            "PORT": str(self.port),
            "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parent / 'tests'}",
            "TMPDIR": str(self.home),
        }
        if name == EXPORTED:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector
        if name == MULTIPROCESS:
            environment["PROMETHEUS_MULTIPROC_DIR"] = str(self.home / "metrics")
        super().__init__("worker", [*command, *(["-E"] if name == EVENTS else [])], self.home, environment)

    def wait_ready(self) -> None:
        """Wait until its pool is there."""
        eventually(lambda: self._children() or not self.running, 60, what=f"a worker measured by {self.contestant}")

    def publish(self, slices: list[int]) -> None:
        """Publish slices of so many tasks into the reservoir; before it runs."""
        command = [sys.executable, str(HERE / "measured.py"), *map(str, slices)]
        subprocess.run(command, cwd=self.home, env=self.env, check=True)
        self.client.rename(QUEUE, RESERVOIR)

    def pour(self, *slices: int) -> list[Spent]:
        """Have it execute the next slices, of so many tasks, and return what it had spent at the end of each."""
        with self.client.pipeline() as pipeline:
            for _ in range(sum(slices) + len(slices)):
                pipeline.lmove(RESERVOIR, QUEUE, "RIGHT", "LEFT")
            pipeline.execute()
        return [Spent(*json.loads(self.client.blpop([DONE])[1])) for _ in slices]

    def measured(self, lead: int, tasks: int) -> Spent:
        """What a task of the next slice costs, while the worker is at work since so many tasks before."""
        before, after = self.pour(lead, tasks)
        return (after - before) / (tasks + 1)

    def counted(self) -> float | None:
        """How many executions it has counted; None if it does not count."""
        if self.contestant not in {MULTIPROCESS, OURS, TRACED}:
            return None
        return self.metrics().total(OUTCOMES.name)

    def _children(self) -> list[int]:
        threads = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for thread in threads for pid in thread.read_text().split()]
