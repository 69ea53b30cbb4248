"""A worker that a test speaks for: what it accepts, and when it says so, is known exactly."""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack
from typing import Any, Self

from celery import Celery


class ImitatedWorker:
    """Sends the events of a Celery worker, through Celery's own dispatcher; nothing is executed.

    Args:
        broker: URL.
        name: node name.
        conf: Celery settings.
    """

    def __init__(self, broker: str, name: str = "imitated@localhost", **conf: Any) -> None:
        self.name = name
        self.processed = 0
        self.pid = os.getpid()
        self._app = Celery(broker=broker, set_as_current=False)
        self._app.conf.update(conf)
        self._open = ExitStack()
        self._dispatcher: Any = None

    def __enter__(self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._open.close()
        self._app.close()

    def connect(self) -> None:
        """Connect, again if need be; what was sent on a broken connection is not sent again."""
        self._open.close()
        connection = self._open.enter_context(self._app.connection_for_write(connect_timeout=1.0))
        self._dispatcher = self._app.events.Dispatcher(connection, hostname=self.name)
        self._dispatcher.pid = self.pid

    def say(self, type_: str, **fields: Any) -> None:
        """Send one event."""
        self._dispatcher.send(type_, **fields)

    def publish(self, body: bytes, content_type: str) -> None:
        """Publish a body where events are published, as it is."""
        self._dispatcher.producer.publish(
            body,
            routing_key="task.started",
            exchange=self._dispatcher.exchange,
            declare=[self._dispatcher.exchange],
            serializer=None,
            content_type=content_type,
            content_encoding="utf-8" if "json" in content_type else "binary",
        )

    def beat(self, times: int = 1, type_: str = "worker-heartbeat") -> None:
        """Send heartbeats that tell what was accepted so far; nothing executes at these moments."""
        for _ in range(times):
            self.say(type_, processed=self.processed, active=0, freq=2.0, sw_ver="5.7.0", sw_ident="py-celery")

    def accept(self, count: int, *, task: str = "add", tell: bool = True, padding: int = 0) -> None:
        """Accept and finish so many tasks; their events are lost unless `tell`. `padding` makes them that larger."""
        self.processed += count
        for _ in range(count if tell else 0):
            task_id, args = str(uuid.uuid4()), "x" * padding
            self.say("task-received", uuid=task_id, name=task, args=args, retries=0)
            self.say("task-started", uuid=task_id)
            self.say("task-succeeded", uuid=task_id, runtime=0.01, result="None")
