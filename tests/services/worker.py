"""A real Celery worker."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import Any

from apps.sample import make_app
from services.process import Process

TESTS = Path(__file__).parents[1]


class Worker(Process):
    """A `celery worker` of an app in tests/apps, with task events on unless `events` is false.

    Args:
        folder: for its log; also its working directory.
        broker: URL.
        arguments: more of the command line, such as "--without-heartbeat".
        app: what `-A` names.
        pool: prefork, threads, gevent or solo.
        concurrency: pool size.
        queues: those it consumes from.
        name: node name; a unique one unless given.
        events: whether `-E` is given.
        python: interpreter of the environment whose Celery is to be run.
        conf: Celery settings on top of the app's own.
    """

    stop_timeout = 15.0

    def __init__(  # noqa: PLR0913  one argument for each thing that a worker can be told
        self,
        folder: Path,
        broker: str,
        *arguments: str,
        app: str = "apps.sample",
        pool: str = "solo",
        concurrency: int = 2,
        queues: tuple[str, ...] = ("celery",),
        name: str = "",
        events: bool = True,
        python: str = sys.executable,
        **conf: Any,
    ) -> None:
        self.broker = broker
        self.node = f"{name or 'w' + uuid.uuid4().hex[:8]}@localhost"
        self._publisher = make_app(broker, **conf)
        command = [python, "-P", "-m", "celery", "-A", app, "worker", "-n", self.node, "-l", "INFO"]
        command += ["-P", pool, "-c", str(concurrency), "-Q", ",".join(queues), *(["-E"] if events else [])]
        environment = {
            "PYTHONPATH": str(TESTS),
            "SAMPLE_BROKER": broker,
            "SAMPLE_CONF": json.dumps(conf),
            "C_FORCE_ROOT": "1",
        }
        super().__init__(self.node.partition("@")[0], [*command, *arguments], folder, environment)

    def wait_ready(self) -> None:
        """Wait until it says that it is ready, which means that it consumes."""
        self.wait_output(f"{self.node} ready.", timeout=60.0)

    def send(self, task: str, *args: Any, **options: Any) -> str:
        """Publish a task to its broker, with the options of `apply_async`; returns the task's id."""
        return str(self._publisher.send_task(task, args, **options).id)

    def revoke(self, task_id: str, *, terminate: bool = False) -> None:
        """Tell all workers of its broker not to run a task, or to end it."""
        self._publisher.control.revoke(task_id, terminate=terminate)

    def __exit__(self, *exception: object) -> None:
        """Stop it and close the publisher's connections."""
        self._publisher.close()
        super().__exit__(*exception)
