"""The examples, started by the commands that they show."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import require
from services.distributions import HOME
from services.environments import environment
from services.exporter import COMMAND, Served
from services.ports import LOOPBACK, free_port
from services.process import Process
from services.redis import Redis
from services.waiting import eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = Path(sys.executable).parent
PROGRAM = "/opt/celery-observe/bin/celery-observe"
OUTCOMES = "celery_task_outcomes_total"
SOCKET = "/tmp/celery-observe.sock"
SUPERVISOR = "supervisor==4.3.0"


class Shown(Served, Process):
    """The one command with this text in the README of an example, in the folder of that example.

    Args:
        folder: for its log.
        example: a folder of examples/.
        text: what tells the command from the others.
        env: what the README has exported, and ours: `PORT` is where it serves, instead of port 8000. The socket of a
            sidecar is `s` in the folder.
    """

    def __init__(self, folder: Path, example: str, text: str, env: dict[str, str]) -> None:
        self.port = int(env["PORT"])
        [block] = re.findall(
            r"^```sh\n(.+?)^```", (EXAMPLES / example / "README.md").read_text(), re.DOTALL | re.MULTILINE
        )
        [line] = [line.partition("#")[0].strip(" &") for line in block.splitlines() if text in line]
        line = (
            f"cd {EXAMPLES / example} && exec {line.replace('8000', str(self.port)).replace(SOCKET, str(folder / 's'))}"
        )
        path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
        env = {"C_FORCE_ROOT": "1", "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **env}
        super().__init__(f"{example}-{self.port}", ["sh", "-c", line], folder, env)

    def wait_serves(self) -> None:
        """Wait until it serves pages or metrics."""
        eventually(self._serves, 60.0, what=f"{self.name} serves")

    def _serves(self) -> bool:
        assert self.running, self.output
        try:
            return self.get("/readyz")[0] != 503
        except OSError:
            return False


Show = Callable[..., Shown]


@pytest.fixture
def show(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Show:
    """Start a command of an example with a broker and a free port."""

    def start(example: str, text: str, **env: str) -> Shown:
        port = str(free_port())
        env = {"BROKER_URL": redis_server.url, "PORT": port, "CELERY_OBSERVE_PORT": port, **env}
        return processes.enter_context(Shown(tmp_path, example, text, env))

    return start


def test_a_plain_app_is_seen_by_its_events(show: Show) -> None:
    """Sixteen of its twenty tasks succeed, and all have a queue and a wait."""
    show("plain", "worker -E")
    page = show("plain", "celery-observe run")
    page.wait_serves()
    page.wait_for(lambda page: page.total("celery_worker_up") == 1, 60.0)

    show("plain", "python tasks.py")

    samples = page.wait_for(lambda page: page.total(OUTCOMES, task="tasks.resize") == 20, 30.0)
    assert samples.value(OUTCOMES, task="tasks.resize", queue="celery", outcome="failed") == 4
    assert samples.value("celery_task_queue_wait_seconds_count", task="tasks.resize", queue="celery") == 20


def test_a_django_project_is_seen_by_its_worker(show: Show) -> None:
    """A view publishes, the worker tells how the task ended and how long it waited."""
    worker, web = show("django", "celery -A shop worker"), show("django", "manage.py")
    worker.wait_serves()
    web.wait_serves()

    assert json.loads(web.get("/orders/1")[1])["task"]

    samples = worker.wait_for(lambda page: page.total(OUTCOMES, task="orders.tasks.place", outcome="succeeded") == 1)
    assert samples.value("celery_task_queue_wait_seconds_count", task="orders.tasks.place", queue="celery") == 1


def test_a_fastapi_app_and_its_worker_report_to_one_sidecar(show: Show, tmp_path: Path) -> None:
    """What was published and how it ended is on one page."""
    env = {"CELERY_OBSERVE_SIDECAR": f"unix://{tmp_path}/s"}
    sidecar = show("fastapi", "--listen")
    sidecar.wait_serves()
    show("fastapi", "celery -A tasks worker", **env)
    web = show("fastapi", "uvicorn", **env)
    web.wait_serves()

    request = urllib.request.Request(f"http://{LOOPBACK}:{web.port}/orders/1", method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["task"]

    samples = sidecar.wait_for(lambda page: page.total(OUTCOMES, task="tasks.place", outcome="succeeded") == 1, 60.0)
    assert samples.value("celery_task_published_total", task="tasks.place", queue="celery") == 1


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit for systemd, with the program of this environment and a file of settings that is there."""
    installed = tmp_path / "celery-observe.service"
    text = (EXAMPLES / "systemd" / "celery-observe.service").read_text()
    assert PROGRAM in text
    installed.write_text(text.replace(PROGRAM, str(PROGRAMS / "celery-observe")))
    return installed


def test_systemd_understands_the_unit(unit: Path) -> None:
    """It warns of nothing, and finds what the service may do harmless."""
    require("systemd-analyze", installed=shutil.which("systemd-analyze") is not None)

    verified = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert not verified.returncode, verified.stderr
    assert unit.name not in verified.stderr
    assert not security.returncode, security.stdout


def test_the_options_of_the_unit_are_accepted(tmp_path: Path) -> None:
    """`run --check` takes them, with the broker from the file of the environment."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep case
    unit.read(EXAMPLES / "systemd" / "celery-observe.service")

    command = unit["Service"]["ExecStart"].replace("/var/lib/celery-observe/", f"{tmp_path}/")

    effective = _check(command, CELERY_OBSERVE_BROKER="redis://:hidden@localhost:6379/0")

    assert "redis://:***@localhost:6379/0" in effective
    assert f"{tmp_path}/losses.json" in effective
    assert unit["Service"]["StateDirectory"] == "celery-observe"


def test_the_options_of_the_program_are_accepted() -> None:
    """The same of supervisord's, with the example of a file of settings."""
    shown = configparser.RawConfigParser()
    shown.read(EXAMPLES / "supervisord" / "celery-observe.conf")
    command = shown["program:celery-observe"]["command"]

    effective = _check(command.replace("/etc/celery-observe.toml", str(EXAMPLES / "celery-observe.toml")))

    assert "localhost:6379/1" in effective


def test_supervisord_runs_the_exporter(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> None:
    """It starts it, starts it again when it is killed, and ends it when it ends."""
    supervisord = processes.enter_context(Supervisord(tmp_path, redis_server.url))
    supervisord.wait_serves()
    [first] = supervisord.children()

    os.kill(first, signal.SIGKILL)

    eventually(lambda: supervisord.children() not in ([], [first]), 30.0, what="it is started again")
    supervisord.wait_serves()
    assert supervisord.terminate() == 0
    assert "stopped: celery-observe (exit status 0)" in supervisord.output


class Supervisord(Served, Process):
    """supervisord with the example, the program of this environment and a free port."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.port = free_port()
        (folder / "celery-observe.toml").write_text(f"broker = [{broker!r}]\n")
        example = (EXAMPLES / "supervisord" / "celery-observe.conf").read_text()
        for shown, here in {
            PROGRAM: str(PROGRAMS / "celery-observe"),
            "/etc/celery-observe.toml": str(folder / "celery-observe.toml"),
            "user=celery-observe\n": "",
            "/var/log/celery-observe.log": str(folder / "celery-observe.log"),
            "9808": str(self.port),
        }.items():
            assert shown in example
            example = example.replace(shown, here)
        config = folder / "supervisord.conf"
        config.write_text(f"[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n{example}")
        program = environment(HOME / "supervisor", SUPERVISOR) / "bin" / "supervisord"
        super().__init__("supervisord", [str(program), "--configuration", str(config)], folder)

    def children(self) -> list[int]:
        """The ids of the processes that it runs."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def wait_serves(self) -> None:
        """Wait until what it runs has its broker."""
        eventually(self.is_ready, 60.0, what="the exporter under supervisord is ready")


def _check(command: str, **env: str) -> str:
    program, *options = command.split()
    assert program == PROGRAM
    checked = subprocess.run(
        [*COMMAND, *options, "--check"],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stderr
    return checked.stdout
