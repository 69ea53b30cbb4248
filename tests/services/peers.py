"""Other exporters as published, in an environment of their own: what `--compat` is compared with."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from services.environments import environment
from services.exporter import Served
from services.ports import LOOPBACK, free_port
from services.process import Process
from services.waiting import eventually

PINNED = Path(__file__).parents[2] / "requirements" / "peers.txt"
# Nothing is resolved: see requirements/peers-overrides.txt. celery-exporter says that it needs Python < 3.13.
INSTALL = ("--require-hashes", "--no-deps", "--ignore-requires-python", "--requirement", str(PINNED))


def programs() -> Path:
    """The folder of the peers' programs; installed in some 15 s if they are not there yet, or other ones."""
    pins = hashlib.sha256(PINNED.read_bytes()).hexdigest()[:12]
    return environment(Path(sys.prefix) / "peers" / pins, *INSTALL) / "bin"


class Families(dict[str, Metric]):
    """One page of `/metrics` by the names of its families; when they were created is left out."""

    @classmethod
    def parse(cls, page: str) -> Families:
        """Read the text format 0.0.4."""
        found = {family.name: family for family in text_string_to_metric_families(page)}
        return cls({name: family for name, family in found.items() if not name.endswith("_created")})


class Peer(Served, Process):
    """Another exporter at work."""

    def wait_ready(self) -> None:
        """Wait until it serves."""
        eventually(lambda: self._serves() or not self.running, timeout=60.0, what=f"{self.name} serves")
        assert self.running, f"{self.name} ended:\n{self.output}"

    def _serves(self) -> bool:
        try:
            return self.get("/")[0] < 500
        except OSError:
            return False


class CeleryExporter(Peer):
    """danihodovic's celery-exporter."""

    def __init__(self, folder: Path, broker: str, *arguments: str) -> None:
        self.port = free_port()
        command = [str(programs() / "python"), "-c", "from src.cli import cli; cli()", "--broker-url", broker]
        command += ["--host", LOOPBACK, "--port", str(self.port), *arguments]
        super().__init__("celery-exporter", command, folder, {"PYTHONPATH": ""})


class Flower(Peer):
    """Flower."""

    def __init__(self, folder: Path, broker: str, *arguments: str) -> None:
        self.port = free_port()
        command = [str(programs() / "celery"), "-b", broker, "flower"]
        command += [f"--address={LOOPBACK}", f"--port={self.port}", *arguments]
        super().__init__("flower", command, folder, {"PYTHONPATH": ""})
