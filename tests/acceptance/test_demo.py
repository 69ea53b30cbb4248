"""`celery-observe demo` as a user runs it: it shows the product at work and leaves nothing behind.

One at a time: each starts a broker, three workers and the exporter.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from services.ports import LOOPBACK, free_port
from services.process import Process
from services.redis import Redis
from services.waiting import eventually

pytestmark = [
    pytest.mark.workers,
    pytest.mark.xdist_group("demo"),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds what is left in /proc"),
]

READY = "Ctrl-C ends it."
KINDS = {"succeeded", "failed", "retried", "revoked", "expired", "terminated", "unregistered"}
CAUSES = {"exception", "retries_exhausted", "soft_time_limit", "hard_time_limit", "unregistered"}
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


class Demo(Process):
    """A demo in a folder that has nothing to do with it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.mark = uuid.uuid4().hex
        self._groups: set[int] = set()
        command = [sys.executable, "-m", "celery_observe", "demo", *options]
        super().__init__("demo", command, folder, env={**MISLEADING, MARK: self.mark})

    def wait_output(self, text: str, timeout: float = 60.0) -> None:
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
    def metrics_port(self) -> int:
        """The port that it says the exporter has."""
        return int(self._said(r"metrics +http://127\.0\.0\.1:(\d+)/metrics"))

    @property
    def broker_port(self) -> int:
        """The port of the embedded broker."""
        return int(self._said(r"broker +redis://127\.0\.0\.1:(\d+)/0"))

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
        found = re.search(pattern, self.output)
        assert found, f"{pattern!r} is not in:\n{self.output}"
        return found[1]

    def assert_gone(self) -> None:
        """Hold that no process, no port and no file of it is left."""
        left = self.family
        assert left == {}
        for port in (self.metrics_port, self.broker_port):
            with socket.socket() as probe:
                assert probe.connect_ex((LOOPBACK, port)) != 0
        assert not self.logs.exists()


StartDemo = Callable[..., Demo]


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[StartDemo]:
    """Start demos; whatever a failing test leaves of them is killed."""
    with ExitStack() as demos:

        def start(*options: str) -> Demo:
            demo = demos.enter_context(Demo(tmp_path, *options))
            demos.callback(_kill, demo)
            return demo

        yield start


def _kill(demo: Demo) -> None:
    for pid in demo.family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_run_of_set_length_shows_every_kind_of_outcome_and_accounts_for_every_task(
    start_demo: StartDemo,
) -> None:
    """It ends by itself, says what happened on one screen, and nothing of it is left."""
    demo = start_demo("--duration", "15", "--port", "0")
    demo.wait_output(READY)

    assert demo.wait(timeout=90) == 0, demo.output

    assert len(demo.summary) <= 24
    assert max(map(len, demo.summary)) <= 100
    assert demo.counts("outcomes").keys() >= KINDS
    assert demo.counts("causes").keys() >= CAUSES
    assert "3 of 3 workers up" in demo.output
    assert "0 tasks unobserved" in demo.summary[-2]
    assert re.search(r"load published (\d+) = \1 final outcomes \+ 0 in flight: all accounted for", demo.summary[-1])
    demo.assert_gone()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(start_demo: StartDemo, signum: signal.Signals) -> None:
    """Ctrl-C and SIGTERM are how one ends it: the summary comes, the exit code is 0, nothing is left."""
    demo = start_demo("--port", "0")
    demo.wait_output(" 5 s  published")

    demo.send_signal(signum)

    assert demo.wait(timeout=20) == 0, demo.output
    assert "all accounted for" in demo.summary[-1]
    demo.assert_gone()


def test_a_signal_while_it_starts_ends_it_as_well(start_demo: StartDemo) -> None:
    """Who changes their mind need not wait until all is up."""
    demo = start_demo("--port", "0")
    eventually(lambda: len(demo.family) > 3, timeout=30, what="broker, exporter and workers")

    demo.send_signal(signal.SIGINT)

    assert demo.wait(timeout=20) == 0, demo.output
    assert demo.family == {}


def test_nothing_outlives_a_demo_that_was_killed(start_demo: StartDemo) -> None:
    """SIGKILL leaves it no time to clean up, and yet all is gone a moment later."""
    demo = start_demo("--port", "0")
    demo.wait_output(READY)

    demo.send_signal(signal.SIGKILL)

    assert demo.wait(timeout=5) == -signal.SIGKILL
    eventually(lambda: not demo.family, timeout=5, what="the children's end")
    demo.assert_gone()


@pytest.mark.parametrize(
    ("command", "name"),
    [("worker --queues low", "worker low"), ("celery_observe run", "exporter"), ("valkey-server", "broker")],
)
def test_a_child_that_dies_ends_it_with_the_reason(start_demo: StartDemo, command: str, name: str) -> None:
    """It does not go on with a part missing, and shows what the part had to say."""
    demo = start_demo("--port", "0")
    demo.wait_output(READY)
    victim = min(pid for pid, line in demo.family.items() if command in line)

    os.kill(victim, signal.SIGKILL)

    assert demo.wait(timeout=30) == 1
    assert re.search(
        rf"Error: {name} (was killed by SIGKILL|exited with code 1)\. The end of its log:\n  ", demo.output
    )
    demo.assert_gone()


def test_another_port_is_found_when_the_usual_one_is_taken(start_demo: StartDemo) -> None:
    """A running exporter is no hindrance."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else has it: as good
            taken.bind((LOOPBACK, 9808))
            taken.listen()
        demo = start_demo()
        demo.wait_output(READY)
        demo.terminate(timeout=20)

    assert f"Port 9808 is taken: the exporter gets {demo.metrics_port}." in demo.output
    assert demo.metrics_port != 9808


def test_a_port_that_was_asked_for_is_not_replaced(start_demo: StartDemo) -> None:
    """Who names a port wants that one, or to know why not."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        demo = start_demo("--port", str(port))

        assert demo.wait(timeout=20) == 1

    assert f"Error: port {port} is taken" in demo.output
    assert demo.family == {}


def test_a_given_broker_is_used_and_left_running(start_demo: StartDemo, start_redis: Callable[..., Redis]) -> None:
    """The demo plays on any broker that is free for it."""
    redis = start_redis()
    demo = start_demo("--port", "0", "--duration", "3", "--broker", redis.url)

    assert demo.wait(timeout=60) == 0, demo.output

    assert "all accounted for" in demo.summary[-1]
    assert demo.family == {}
    assert redis.running


def test_rabbitmq_will_do_as_well(start_demo: StartDemo, rabbitmq_url: str) -> None:
    """Nothing in the demo is of Redis alone."""
    demo = start_demo("--port", "0", "--duration", "3", "--broker", rabbitmq_url)

    assert demo.wait(timeout=60) == 0, demo.output

    assert "all accounted for" in demo.summary[-1]
    assert demo.family == {}


def test_a_broker_with_someone_elses_messages_is_refused(
    start_demo: StartDemo, start_redis: Callable[..., Redis]
) -> None:
    """The demo's workers would take them, and throw away what they do not know."""
    redis = start_redis()
    with redis.client() as client:
        client.lpush("default", "{}")
    demo = start_demo("--port", "0", "--broker", redis.url)

    assert demo.wait(timeout=30) == 1

    assert "queues of this broker are in use: default" in demo.output
    with redis.client() as client:
        assert client.llen("default") == 1


def test_a_broker_that_is_not_there_is_named_without_its_password(start_demo: StartDemo) -> None:
    """The message says which broker, and nothing that must not be in a log."""
    demo = start_demo("--port", "0", "--broker", f"redis://:hunter2@127.0.0.1:{free_port()}/0")

    assert demo.wait(timeout=60) == 1

    assert "does not answer" in demo.output
    assert "hunter2" not in demo.output
