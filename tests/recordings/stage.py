"""Play one scenario with a real broker and real workers, and write down every event message.

Runs in the environment of the Celery to be recorded: `python -m recordings.stage`, started by record.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

from recordings.listening import listen_to_rabbitmq, listen_to_redis
from recordings.normalise import Normaliser
from recordings.scenarios import SCENARIOS, Scenario
from recordings.shop import app
from services.process import Process
from services.rabbitmq import RabbitMQ
from services.redis import Redis

TESTS = Path(__file__).parents[1]

#: No recording takes longer than this once the play is over, in seconds.
LIMIT = 20.0


class Stage:
    """A broker, its workers and what is heard of them, until `ending` is closed."""

    def __init__(self, scenario: Scenario, pool: str, folder: Path, ending: ExitStack) -> None:
        self._scenario, self._pool, self._folder, self._ending = scenario, pool, folder, ending
        self.heard: list[tuple[float, Any]] = []
        self.workers: dict[str, Process] = {}
        self.broker = Redis(folder) if scenario.broker == "redis" else RabbitMQ(folder)
        ending.enter_context(self.broker)
        self._listen()
        self._configure()

    def start_worker(self, name: str = "worker") -> None:
        """Start a worker and return when it says that it is online."""
        command = [sys.executable, "-m", "celery", "-A", "recordings.shop", "worker", "-n", f"{name}@host"]
        command += ["-P", self._pool, "-c", str(self._scenario.concurrency), "-E", "--without-mingle"]
        path = {"PYTHONPATH": f"{self._folder}:{TESTS}"}
        worker = Process(name, command, self._folder, {**path, **self._scenario.environment})
        online = self.count("worker-online")
        worker.start()
        self._ending.callback(worker.kill)
        self.workers[name] = worker
        self.wait_for("worker-online", online + 1)

    def count(self, kind: str) -> int:
        """Return how many events of one type were heard so far."""
        return sum(event["type"] == kind for event in self.events())

    def events(self) -> list[dict[str, Any]]:
        """Return the events heard so far, those of lists one by one."""
        bodies = [body for _, body in list(self.heard)]
        return [event for body in bodies for event in (body if isinstance(body, list) else [body])]

    def wait_for(self, kind: str, count: int = 1, seconds: float = 20) -> None:
        """Return when so many events of one type were heard, or the seconds are over."""
        deadline = time.monotonic() + seconds
        while self.count(kind) < count and time.monotonic() < deadline:
            time.sleep(0.05)

    def running_pid(self) -> int:
        """Return the pid of the process that runs the only task, as the worker tells it."""
        [tasks] = app.control.inspect().active().values()
        return int(tasks[0]["worker_pid"])

    def settle(self) -> None:
        """Return when all is over and each living worker has sent two heartbeats since."""
        begin = time.monotonic()
        while (past := time.monotonic() - begin - self._scenario.lasts) < LIMIT:
            if past > 0 and self._is_settled(past):
                return
            time.sleep(0.1)

    def _is_settled(self, past: float) -> bool:
        alive = [name for name, worker in self.workers.items() if worker.running]
        if not alive:
            return past > 3
        beats: list[str] = []
        for event in self.events():
            if event["type"] != "worker-heartbeat":
                beats.clear()
            else:
                beats.append(event["hostname"])
        return all(beats.count(f"{name}@host") > 1 for name in alive)

    def _listen(self) -> None:
        """Note the arrival and the body of each event message, in a thread."""
        ended = threading.Event()

        def note(body: bytes) -> None:
            self.heard.append((time.time(), json.loads(body)))

        if isinstance(self.broker, Redis):
            wait = listen_to_redis(self.broker, note)
        else:
            wait = listen_to_rabbitmq(self.broker, note)

        def run() -> None:
            while not ended.is_set():
                wait()

        listener = threading.Thread(target=run)
        listener.start()
        self._ending.callback(listener.join)
        self._ending.callback(ended.set)

    def _configure(self) -> None:
        """Write the settings that the workers and this process share."""
        settings = {
            "broker_url": self.broker.url,
            "result_backend": self.broker.url if isinstance(self.broker, Redis) else "rpc://",
            "task_send_sent_event": True,
            **self._scenario.settings,
        }
        lines = [f"{key} = {value!r}\n" for key, value in settings.items()]
        (self._folder / "celeryconfig.py").write_text("".join(lines))
        sys.path.insert(0, str(self._folder))


def play(scenario: Scenario, pool: str) -> list[tuple[float, Any]]:
    """Play a scenario and return the messages heard: arrival time and decoded body."""
    with tempfile.TemporaryDirectory(prefix="recording-", ignore_cleanup_errors=True) as folder:
        with redirect_stdout(sys.stderr), ExitStack() as ending:
            stage = Stage(scenario, pool, Path(folder), ending)
            for name in scenario.workers:
                stage.start_worker(name)
            scenario.play(stage)
            stage.settle()
        if not stage.count("worker-online"):
            logs = [worker.log.read_text() for worker in stage.workers.values()]
            raise RuntimeError("no worker came up:\n" + "\n".join(logs))
    return stage.heard


def recording(scenario: Scenario, pool: str) -> str:
    """Play a scenario and return the text of its recording: a header, then a line for each message."""
    heard = play(scenario, pool)
    header = {
        **{package: version(package) for package in ("celery", "kombu", "billiard")},
        "python": platform.python_version(),
        "broker": scenario.broker,
        "pool": pool,
        "scenario": scenario.name,
        "description": scenario.description,
        "crafted": False,
    }
    normaliser = Normaliser(heard[0][0])
    lines = [header, *(normaliser.line(at, body) for at, body in heard)]
    return "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)


def main() -> None:
    """Record one scenario into a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--scenario", required=True)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    text = recording(SCENARIOS[options.scenario], options.pool)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_text(text)


if __name__ == "__main__":
    main()
