"""A real Celery beat that is instrumented, and what it serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from services.exporter import Served
from services.ports import free_port
from services.process import Process
from services.waiting import eventually
from services.worker import TESTS

DATABASE = "django_celery_beat.schedulers:DatabaseScheduler"
PERSISTENT = "celery.beat:PersistentScheduler"
REDBEAT = "redbeat.RedBeatScheduler"


class Beat(Served, Process):
    """A `celery beat` with a schedule of its own.

    Args:
        folder: for its log, and for where the scheduler keeps what it sent last.
        broker: URL.
        schedule: entries of `beat_schedule`, as JSON has them.
        arguments: more of the command line.
        scheduler: its class.
        app: what `-A` names.
        instrument: the settings that `instrument` is called with.
        packages: a folder whose packages come before those of this environment, such as another Celery.
        conf: Celery settings on top of the app's own.
    """

    def __init__(
        self,
        folder: Path,
        broker: str,
        schedule: dict[str, Any],
        *arguments: str,
        scheduler: str = PERSISTENT,
        app: str = "apps.instrumented",
        instrument: dict[str, Any] | None = None,
        packages: Path | None = None,
        **conf: Any,
    ) -> None:
        first = free_port()
        self.port = first + 1
        self.folder = folder / f"beat-{self.port}"
        self.folder.mkdir()
        self.serves = app == "apps.instrumented" and "sidecar" not in (instrument or {})
        command = [sys.executable, "-P", "-m", "celery", "-A", app, "beat", "-S", scheduler, "-l", "INFO", "--pidfile="]
        environment = {
            "PYTHONPATH": os.pathsep.join(map(str, filter(None, (TESTS, packages)))),
            "SAMPLE_BROKER": broker,
            "SAMPLE_CONF": json.dumps({"redbeat_redis_url": broker, **conf, "beat_schedule": schedule}),
            "SAMPLE_INSTRUMENT": json.dumps({"port": first, **(instrument or {})}),
        }
        if scheduler == DATABASE:
            environment |= {"DJANGO_SETTINGS_MODULE": "apps.django_settings", "DJANGO_DATABASE": str(folder / "django")}
        super().__init__(f"beat-{self.port}", [*command, *arguments], self.folder, environment)

    def start(self) -> None:
        """Start it, with a database if it needs one."""
        if "DJANGO_DATABASE" in self.env:
            migrate = [sys.executable, "-P", "-m", "django", "migrate", "--verbosity", "0"]
            subprocess.run(migrate, env=self.env, cwd=self.folder, check=True)
        super().start()

    def wait_ready(self) -> None:
        """Wait until it says that it runs and, unless it has a sidecar, serves that it does."""
        self.wait_output("beat: Starting", timeout=60.0)
        if self.serves:
            eventually(self.is_ready, 60.0, what=f"{self.name} is ready")
