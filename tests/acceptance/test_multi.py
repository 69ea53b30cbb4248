"""`celery multi` starts workers that run on by themselves, several on one host with one configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from apps.sample import make_app
from services.exporter import COMMAND, Samples, Served
from services.instrumented import Sidecar
from services.ports import free_port
from services.redis import Redis
from services.waiting import eventually

TESTS = Path(__file__).parents[1]
OUTCOMES = "celery_task_outcomes_total"
NAMES = ("w1", "w2")


class Page(Served):
    """What a worker serves that nobody holds."""

    def __init__(self, port: int) -> None:
        self.name = f"port {port}"
        self.port = port

    def is_gone(self) -> bool:
        """Whether nobody serves it any more."""
        try:
            self.get("/healthz")
        except OSError:
            return True
        return False


class Multi:
    """Two workers of apps.instrumented, as `celery multi` runs them."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.env = {
            "PYTHONPATH": str(TESTS),
            "SAMPLE_BROKER": broker,
            "CELERY_OBSERVE_PORT": str(self.port),
            "C_FORCE_ROOT": "1",
        }
        self.pages = Page(self.port), Page(self.port + 1)

    def __call__(self, verb: str, *names: str) -> None:
        """Run `celery multi VERB w1 w2`."""
        command = [sys.executable, "-m", "celery", "-A", "apps.instrumented", "multi", verb, *(names or NAMES)]
        files = [f"--pidfile={self.folder}/%n.pid", f"--logfile={self.folder}/%n.log"]
        options = ["-P", "prefork", "-c", "1", "-l", "INFO", "--without-mingle"]
        done = subprocess.run(
            [*command, *files, *options],
            cwd=self.folder,
            env={**os.environ, **self.env},
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def pid(self, name: str) -> int:
        """The process id of a worker; 0 if it does not run."""
        file = self.folder / f"{name}.pid"
        return int(file.read_text()) if file.exists() else 0

    def log(self, name: str) -> str:
        """What a worker has logged."""
        return (self.folder / f"{name}.log").read_text()

    def kill(self) -> None:
        """End what is left of them."""
        for name in NAMES:
            with suppress(ProcessLookupError):
                if pid := self.pid(name):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def multi(redis_server: Redis, tmp_path: Path) -> Iterator[Multi]:
    """Two workers; ended after the test."""
    workers = Multi(tmp_path, redis_server.url)
    yield workers
    workers.kill()


def total(pages: tuple[Page, ...], task: str) -> float:
    """How often a task has succeeded on all workers."""
    return sum(page.metrics().total(OUTCOMES, task=task, outcome="succeeded") for page in pages)


def workers_of(samples: Samples) -> set[str]:
    """The names of the workers that are up on a page."""
    return {dict(labels)["worker"] for (name, labels), up in samples.items() if name == "celery_worker_up" and up}


def test_each_serves_on_a_port_of_its_own(multi: Multi, redis_server: Redis) -> None:
    """The next free one after that in the environment; a restarted worker takes the one that is free."""
    multi("start")
    for page in multi.pages:
        eventually(page.is_ready, 30.0, what=f"{page.name} is ready")
    with make_app(redis_server.url) as app:
        for _ in range(10):
            app.send_task("add", (1, 2))
    eventually(lambda: total(multi.pages, "add") == 10, what="all tasks are counted, by one or the other")
    served = [workers_of(page.metrics()) for page in multi.pages]

    multi("restart", "w1")
    for page in multi.pages:
        eventually(page.is_ready, 30.0, what=f"{page.name} is ready again")

    assert [workers_of(page.metrics()) for page in multi.pages] == served
    assert len(set.union(*served)) == 2
    multi("stopwait")
    assert all(page.is_gone() for page in multi.pages)
    assert all("Traceback" not in multi.log(name) for name in NAMES)


def test_they_can_share_a_page(multi: Multi, redis_server: Redis, tmp_path: Path) -> None:
    """That of a sidecar, whose port is the only one."""
    address = str(tmp_path / "s")
    multi.env |= {"SAMPLE_INSTRUMENT": json.dumps({"sidecar": f"unix://{address}"})}
    with Sidecar(tmp_path, COMMAND, address) as sidecar:
        multi("start")
        sidecar.wait_for(lambda page: len(workers_of(page)) == 2, 30.0)

        with make_app(redis_server.url) as app:
            for _ in range(10):
                app.send_task("add", (1, 2))

        sidecar.wait_for(lambda page: page.total(OUTCOMES, task="add", outcome="succeeded") == 10)
        multi("stopwait")
        sidecar.wait_for(lambda page: page.total("celery_worker_up") == 0)
        assert all(page.is_gone() for page in multi.pages)
