"""`celery-observe demo` as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path

from celery_observe.demo.reading import fetch
from services.exporter import Samples
from services.ports import LOOPBACK
from services.process import Process
from services.waiting import eventually

READY = "Ctrl-C ends it."
MARK = "DEMO_MARK"

# What the user has in the environment must neither divert the shop's orders nor configure the exporter.
MISLEADING = {
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    "CELERY_OBSERVE_BROKER": "redis://127.0.0.1:1/0",
    "CELERY_OBSERVE_BASIC_AUTH_FILE": "/nowhere",
    "http_proxy": "http://127.0.0.1:1",
}


def running() -> Iterator[tuple[int, str]]:
    """Yield pid and command line of every process of this machine that has one, as zombies have not."""
    for proc in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if line := (proc / "cmdline").read_bytes():
                yield int(proc.name), line.replace(b"\0", b" ").decode()


def group_of(pid: int) -> int:
    """Return the process group, or 0 when the process has ended meanwhile."""
    with suppress(OSError):
        return os.getpgid(pid)
    return 0


def is_closed(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) != 0


_SIZED = "import os, sys, termios; termios.tcsetwinsize(1, (40, 120)); os.execv(sys.argv[1], sys.argv[1:])"
AT_TERMINAL = f"""\
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, "-c", {_SIZED!r}, *sys.argv[1:]])))
"""
"""Runs a command at a terminal of its own, of 40 lines, of which it prints all."""


class Demo(Process):
    """A demo in a folder that has nothing to do with it; whatever a failing test leaves of it is killed."""

    def __init__(
        self, folder: Path, *options: str, env: Mapping[str, str] | None = None, at_terminal: bool = False
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._groups: set[int] = set()
        command = [sys.executable, "-m", "celery_observe", "demo", *options]
        command = [sys.executable, "-c", AT_TERMINAL, *command] if at_terminal else command
        super().__init__("demo", command, folder, env={**MISLEADING, **(env or {}), MARK: self.mark})

    def wait_output(self, text: str, timeout: float = 120.0) -> None:
        """Wait until it has printed `text`, and remember which process groups it then has."""
        super().wait_output(text, timeout)
        self._groups = {group_of(pid) for pid in self.family}

    @property
    def family(self) -> dict[int, str]:
        """The processes of this demo that are there, zombies aside: pid → command line.

        Known by the mark in their environment or, since the broker's title overwrites its own, by their group.
        """
        return {pid: line for pid, line in running() if self._is_marked(pid) or group_of(pid) in self._groups}

    def _is_marked(self, pid: int) -> bool:
        with suppress(OSError):  # it has ended meanwhile
            return f"{MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return False

    @property
    def page_url(self) -> str:
        """The URL of the live page."""
        return self._said(r"live page +(\S+)")

    @property
    def metrics_port(self) -> int:
        """The port that it says the exporter has."""
        return int(self._said(r"metrics +http://127\.0\.0\.1:(\d+)/metrics"))

    def metrics(self) -> Samples:
        """What the exporter says now, and the sidecar."""
        pages = [fetch(LOOPBACK, port, "/metrics") for port in (self.metrics_port, self.sidecar_port)]
        return Samples.parse("".join(text for status, text in pages if status == HTTPStatus.OK))

    @property
    def sidecar_port(self) -> int:
        """The port that it says the sidecar has."""
        return int(self._said(r"sidecar +http://127\.0\.0\.1:(\d+)/metrics"))

    @property
    def broker_port(self) -> int:
        """The port of the embedded broker."""
        return int(self._said(r"broker +redis://127\.0\.0\.1:(\d+)/0"))

    @property
    def prometheus_url(self) -> str:
        """Where it says that Prometheus serves."""
        return self._said(r"prometheus +(http://[^/]+)/alerts")

    @property
    def alertmanager_url(self) -> str:
        """Where it says that Alertmanager serves."""
        return self._said(r"alerts +(http://\S+)")

    @property
    def flower(self) -> tuple[str, str]:
        """Where it says that Flower serves, and the login as `user:password`."""
        url, user, password = self._groups_of(r"flower +(http://\S+) +user (\w+), password (\S+)")
        return url, f"{user}:{password}"

    @property
    def logs(self) -> Path:
        """Its temporary folder."""
        return Path(self._said(r"logs +(\S+)"))

    @property
    def summary(self) -> list[str]:
        """The lines of the summary that it ends with."""
        return self.output[self.output.index("\nafter ") + 1 :].splitlines()

    def counts(self, heading: str) -> dict[str, int]:
        """A line of the summary such as `causes  exception 3, …`."""
        line = next(line for line in self.summary if line.startswith(heading))
        return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", line.removeprefix(heading))}

    def _said(self, pattern: str) -> str:
        return self._groups_of(pattern)[0]

    def _groups_of(self, pattern: str) -> tuple[str, ...]:
        found = re.search(pattern, self.output)
        assert found, f"{pattern!r} is not in:\n{self.output}"
        return found.groups()

    def assert_gone(self) -> None:
        """Hold that no process, no port and no file of it is left."""
        left = self.family
        assert left == {}
        # A process that is being ended has no command line any more when it closes its sockets.
        for port in (self.metrics_port, self.broker_port):
            eventually(partial(is_closed, port), what=f"port {port} is closed")
        eventually(lambda: not self.logs.exists(), what="its folder is gone")

    def __exit__(self, *exception: object) -> None:
        """Kill all of its processes that there are."""
        super().__exit__(*exception)
        for pid in self.family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
