"""A real Flower, as docs/flower.md has it: with basic auth, and what it knows in a file."""

from __future__ import annotations

import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from services.ports import LOOPBACK, free_port
from services.process import Process
from services.waiting import eventually

LOGIN = "admin:correct-horse"


class Flower(Process):
    """Flower on a broker.

    Args:
        folder: for its log and its database.
        broker: URL.
    """

    def __init__(self, folder: Path, broker: str) -> None:
        self.port = free_port()
        options = [f"--address={LOOPBACK}", f"--port={self.port}", "--persistent=True", f"--db={folder / 'flower'}"]
        command = [sys.executable, "-P", "-m", "celery", f"--broker={broker}", "flower", *options]
        super().__init__(f"flower-{self.port}", command, folder, {"FLOWER_BASIC_AUTH": LOGIN})

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{LOOPBACK}:{self.port}"

    def get(self, path: str, login: str = LOGIN) -> tuple[int, str]:
        """GET a path: the status, whatever it is, and the body."""
        authorization = f"Basic {base64.b64encode(login.encode()).decode()}"
        request = urllib.request.Request(f"{self.url}{path}", headers={"Authorization": authorization})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def tasks(self, **which: str) -> dict[str, Any]:
        """What it knows of tasks, by id: of all, or of those of a `taskname`, in a `state`."""
        status, body = self.get(f"/api/tasks?{urlencode({'limit': 1000, **which})}")
        assert status == 200, body
        return dict(json.loads(body))

    def wait_ready(self) -> None:
        """Wait until it serves."""
        eventually(lambda: self._serves() or not self.running, timeout=60.0, what=f"{self.name} serves")
        assert self.running, f"{self.name} ended:\n{self.output}"

    def _serves(self) -> bool:
        try:
            return self.get("/healthcheck")[0] == 200
        except OSError:
            return False
