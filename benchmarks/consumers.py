"""Who reads the events: the floors, the exporters from PyPI, and celery-observe, each as a command to run."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from services.ports import LOOPBACK, free_port
from services.process import Process

HERE = Path(__file__).parent
DEFAULT_CACHE = Path(tempfile.gettempdir()) / "celery-observe-benchmarks"
QUIET_SECONDS, QUIET_CPU = 0.5, 0.015
SETTLE_SECONDS = 1.5
CPUCLOCK_PROCESS = 2

OURS = "celery-observe"
CELERY_EXPORTER = "celery-exporter"
FLOWER = "Flower"


class Consumer(NamedTuple):
    """One reader of events.

    Attributes:
        name: As in the tables.
        command: With `{python}` (of this environment), `{peers}` (the folder of the peers' programs), `{url}`
            and `{port}` to be filled in.
        samples: Of `/metrics`, those whose sum is how many task events it has counted; none if it counts only some.
        pace: Events a second that it can surely take from a RabbitMQ queue, where they live for five seconds.
    """

    name: str
    command: tuple[str, ...]
    samples: tuple[str, ...] = ()
    pace: float = 0

    @property
    def is_floor(self) -> bool:
        """Whether it is a bare reader without `/metrics`."""
        return "{port}" not in " ".join(self.command)


def floor(name: str, function: str, pace: float = 0) -> Consumer:
    """A bare reader of floors.py."""
    return Consumer(name, ("{python}", str(HERE / "floors.py"), function, "{url}"), pace=pace)


OURS_CONSUMER = Consumer(
    OURS,
    (
        *("{python}", "-P", "-c", "from celery_observe.cli import main; main()", "run"),
        *("--broker", "{url}", "--host", LOOPBACK, "--port", "{port}"),
    ),
    ("celery_observe_events_total",),
)
ONE_OF_MANY_CONSUMER = Consumer(
    f"{OURS}, shard 0 of 1000",
    (*OURS_CONSUMER.command, "--shard", "0/1000"),
)
"""Of nearly all events it finds that they are another shard's."""
CELERY_EXPORTER_CONSUMER = Consumer(
    CELERY_EXPORTER,
    (
        *("{peers}/python", "-c", "from src.cli import cli; cli()"),
        *("--broker-url", "{url}", "--host", LOOPBACK, "--port", "{port}"),
    ),
    (
        *("celery_task_sent_total", "celery_task_received_total", "celery_task_started_total"),
        *("celery_task_succeeded_total", "celery_task_failed_total", "celery_task_retried_total"),
    ),
    pace=1200,
)
FLOWER_CONSUMER = Consumer(
    FLOWER,
    ("{peers}/celery", "-b", "{url}", "flower", f"--address={LOOPBACK}", "--port={port}"),
    ("flower_events_total",),
    pace=1000,
)
REDIS_PROMETHEUS_CONSUMER = Consumer(
    "celery-redis-prometheus",
    ("{peers}/celery", "-b", "{url}", "prometheus", "--host", LOOPBACK, "--port", "{port}"),
)
DECODE_FLOORS = {"redis": "hiredis + msgspec", "rabbitmq": "raw frames + msgspec"}
CONSUMERS = {
    "redis": (
        floor("raw socket", "redis_socket"),
        floor("hiredis", "redis_read"),
        floor(DECODE_FLOORS["redis"], "redis_decode"),
        floor("the same, tuned", "redis_decode_tuned"),
        OURS_CONSUMER,
        ONE_OF_MANY_CONSUMER,
        floor("EventReceiver", "receiver"),
        floor("EventReceiver + State", "state"),
        REDIS_PROMETHEUS_CONSUMER,
        CELERY_EXPORTER_CONSUMER,
        FLOWER_CONSUMER,
    ),
    "rabbitmq": (
        floor(DECODE_FLOORS["rabbitmq"], "amqp_frames"),
        floor("py-amqp + msgspec", "amqp_client"),
        OURS_CONSUMER,
        ONE_OF_MANY_CONSUMER,
        floor("EventReceiver", "receiver", pace=3500),
        CELERY_EXPORTER_CONSUMER,
        FLOWER_CONSUMER,
    ),
}


def peers(cache: Path) -> Path:
    """The folder of the peers' programs, installed once into an environment in `cache`."""
    programs = cache / "peers" / "bin"
    files = [HERE / "requirements.txt", HERE / "overrides.txt"]
    wanted = "".join(file.read_text() for file in files)
    stamp = cache / "peers" / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing the peers into {cache}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", cache / "peers"], check=True)
        for file, option in zip(files, ((), ("--no-deps",)), strict=True):
            subprocess.run([programs / "pip", "install", "-qq", *option, "--requirement", file], check=True)
        stamp.write_text(wanted)
    return programs


class Running(Process):
    """A consumer at work; its CPU time is all threads', user and system, to the nanosecond."""

    def __init__(self, consumer: Consumer, url: str, folder: Path, programs: Path) -> None:
        self.consumer = consumer
        self.port = free_port()
        words = {"python": sys.executable, "peers": programs, "url": url, "port": self.port}
        name = consumer.name.replace(" ", "")
        environment = {"PYTHONPATH": ""} if consumer.command[0].startswith("{peers}") else {}
        super().__init__(name, [word.format(**words) for word in consumer.command], folder, environment)

    def cpu(self) -> float:
        """Seconds of CPU used so far (the clock of another process: see clock_getcpuclockid(3)).

        Raises:
            RuntimeError: it has ended; the message is what it printed.
        """
        if not self.running:
            raise RuntimeError(f"{self.name} ended:\n{self.output}")
        return time.clock_gettime((~self.pid << 3) | CPUCLOCK_PROCESS)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep it from running for the time being."""
        self.send_signal(signal.SIGSTOP)
        yield
        self.send_signal(signal.SIGCONT)

    def memory(self) -> float:
        """Resident megabytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        return int(kilobytes) / 1024

    def quiet(self) -> float:
        """Wait until it does nothing for two spells; the CPU time it had used until then."""
        spells, before = 0, self.cpu()
        while spells < 2:  # noqa: PLR2004  # one could be a pause between two bursts
            time.sleep(QUIET_SECONDS)
            after = self.cpu()
            spells = spells + 1 if after - before < QUIET_CPU else 0
            before = after
        return before

    def page(self) -> str:
        """`/metrics`."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}/metrics", timeout=60) as response:
            return str(response.read().decode())

    def counted(self) -> int | None:
        """How many events it says it has seen, None if it does not; ends a floor, which tells only then."""
        if self.consumer.is_floor:
            self.send_signal(signal.SIGTERM)
            self.wait()
            last = self.output.strip().rpartition("\n")[2]
            return int(last) if last.isdigit() else None
        if not self.consumer.samples:
            return None
        # Some bring their own numbers up to date once a second only.
        time.sleep(SETTLE_SECONDS)
        return self.total(*self.consumer.samples)

    def total(self, *names: str) -> int:
        """The sum of these samples on `/metrics`, less those of worker events."""
        families = text_string_to_metric_families(self.page())
        samples = (sample for family in families for sample in family.samples if sample.name in names)
        return round(sum(each.value for each in samples if each.labels.get("type", "task-").startswith("task-")))


@contextmanager
def quietly(process: Process) -> Iterator[None]:
    """Run it, without the log that it prints for tests when it ends."""
    with redirect_stdout(StringIO()), process, redirect_stdout(sys.__stdout__):
        yield
