"""A real Celery worker that is instrumented, and what it serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.exporter import Served
from services.ports import LOOPBACK, free_port
from services.process import Process
from services.waiting import eventually
from services.worker import Worker


class Instrumented(Served, Worker):
    """A worker of apps.instrumented, without task events: its page says all.

    Args:
        folder: for its log.
        broker: URL.
        arguments: more of the command line.
        instrument: the settings that `instrument` is called with; a free port among them.
        env: more environment variables.
        options: as of `Worker`.
    """

    def __init__(
        self,
        folder: Path,
        broker: str,
        *arguments: str,
        instrument: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        settings = {"port": free_port(), **(instrument or {})}
        self.port = int(settings["port"])
        self.serves = "sidecar" not in settings and not (env or {}).get("CELERY_OBSERVE_DISABLED")
        super().__init__(folder, broker, *arguments, **{"app": "apps.instrumented", "events": False, **options})
        self.env |= {"SAMPLE_INSTRUMENT": json.dumps(settings), **(env or {})}

    @property
    def control(self) -> Any:
        """Remote control of the workers of its broker."""
        return self._publisher.control

    def wait_ready(self) -> None:
        """Wait until it consumes and, unless it has a sidecar, serves that it does."""
        super().wait_ready()
        if self.serves:
            eventually(self.is_ready, 60.0, what=f"{self.name} is ready")


class Sidecar(Served, Process):
    """`celery-observe run --listen` on a free loopback port, with more of the command line."""

    def __init__(self, folder: Path, command: list[str], socket: str, *more: str) -> None:
        self.port = free_port()
        arguments = ["run", "--listen", f"unix://{socket}", "--host", LOOPBACK, "--port", str(self.port), *more]
        super().__init__(f"sidecar-{self.port}", [*command, *arguments], folder)

    def wait_ready(self) -> None:
        """Wait until it listens."""
        eventually(self.is_ready, timeout=30.0, what=f"{self.name} is ready")
