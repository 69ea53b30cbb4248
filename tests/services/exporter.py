"""The product itself, run as users run it."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from services.ports import LOOPBACK, free_port
from services.process import Process
from services.waiting import PATIENCE, eventually

# Whatever is importable as celery_observe: the installed wheel under `make test`.
COMMAND = [sys.executable, "-P", "-c", "from celery_observe.cli import main; main()"]

Labels = frozenset[tuple[str, str]]


class Samples(dict[tuple[str, Labels], float]):
    """One page of `/metrics`: sample name and labels → value."""

    @classmethod
    def parse(cls, page: str) -> Samples:
        """Read the text format 0.0.4 with the parser of prometheus_client."""
        families = text_string_to_metric_families(page)
        return cls(
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in families
            for sample in family.samples
        )

    def select(self, name: str, /, **labels: str) -> list[float]:
        """The values of all samples of this name that carry at least these labels."""
        wanted = labels.items()
        return [value for (other, own), value in self.items() if other == name and wanted <= own]

    def value(self, name: str, /, **labels: str) -> float | None:
        """The one such sample's value, None if there is none: absent is not zero."""
        values = self.select(name, **labels)
        assert len(values) <= 1, f"{len(values)} samples of {name} carry {labels}"
        return values[0] if values else None

    def total(self, name: str, /, **labels: str) -> float:
        """The sum over all such samples, 0 if there is none."""
        return sum(self.select(name, **labels))


class Served:
    """What a process serves on a loopback port."""

    name: str
    port: int

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """GET a path: the status, whatever it is, and the body; `_` in header names stands for `-`."""
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.port}{path}",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self) -> Samples:
        """What `/metrics` says now."""
        status, page = self.get("/metrics")
        assert status == 200, page
        return Samples.parse(page)

    def readiness(self) -> tuple[int, Any]:
        """Status and JSON of `/readyz`."""
        status, body = self.get("/readyz")
        return status, json.loads(body)

    def wait_for(self, predicate: Callable[[Samples], object], timeout: float = PATIENCE) -> Samples:
        """Scrape until `predicate` holds; returns the page for which it did."""
        return self.time_scrapes(predicate, timeout)[0]

    def time_scrapes(self, predicate: Callable[[Samples], object], timeout: float = PATIENCE) -> tuple[Samples, float]:
        """Scrape until `predicate` holds; the page for which it did, and the seconds that the slowest scrape took."""
        page, slowest = Samples(), 0.0

        def holds() -> bool:
            nonlocal page, slowest
            started = time.monotonic()
            page = self.metrics()
            slowest = max(slowest, time.monotonic() - started)
            return bool(predicate(page))

        eventually(holds, timeout, what=f"{predicate!r} on /metrics of {self.name}")
        return page, slowest

    def is_ready(self) -> bool:
        """Whether `/readyz` is green; not if nobody serves it."""
        try:
            return self.readiness()[0] == 200
        except OSError:
            return False

    def wait_until_ready(self, timeout: float = PATIENCE) -> None:
        """Wait until `/readyz` is green: connected, and counting."""
        eventually(lambda: self.readiness()[0] == 200, timeout, what=f"{self.name} is ready")


class Exporter(Served, Process):
    """`celery-observe run` on a free loopback port.

    Args:
        folder: for its log; also its working directory.
        brokers: each given as `--broker`.
        arguments: more of the command line.
        env: more environment variables.
        command: the product itself.
    """

    def __init__(
        self,
        folder: Path,
        *brokers: str,
        arguments: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.port = free_port()
        command = [*command, "run", "--host", LOOPBACK, "--port", str(self.port)]
        command += [word for broker in brokers for word in ("--broker", broker)]
        super().__init__(f"exporter-{self.port}", [*command, *arguments], folder, env)

    def wait_ready(self) -> None:
        """Wait until it serves `/healthz`; the broker need not be there."""
        eventually(lambda: self._healthy() or not self.running, timeout=30.0, what=f"{self.name} is healthy")
        assert self.running, f"{self.name} ended:\n{self.output}"

    def _healthy(self) -> bool:
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False
