"""The observers of the demo: the exporter, which reads events, and the sidecar, to which workers and beat report."""

from __future__ import annotations

import http.client
import sys

from celery_observe.demo.processes import LOOPBACK, Child, Children, free_port, is_free
from celery_observe.demo.reading import fetch
from celery_observe.errors import DemoError


class Observer:
    """A `celery-observe run` and where it serves.

    It leaves the port to whoever is faster to take it, unless `port` is the one that the user asked for.
    """

    def __init__(self, name: str, arguments: list[str], *, port: int, asked_for: bool = False) -> None:
        self.name = name
        self.port = port
        self._arguments = arguments
        self._asked_for = asked_for
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{LOOPBACK}:{self.port}"

    def tend(self, children: Children) -> None:
        """Start it again, on another port, if it died because its own was taken meanwhile."""
        died = self._child is not None and self._child.ended
        if died and not self._asked_for and not is_free(self.port):
            self.port = free_port()
            self.start(children)

    def start(self, children: Children) -> None:
        """Start it."""
        run = [sys.executable, "-m", "celery_observe", "run", "--port", str(self.port)]
        self._child = children.start(self.name, [*run, *self._arguments])

    @property
    def ready(self) -> bool:
        """Whether its numbers are being kept up to date."""
        try:
            status, _ = fetch(LOOPBACK, self.port, "/readyz")
        except (OSError, http.client.HTTPException):
            return False
        return status == http.HTTPStatus.OK

    def page(self) -> str:
        """Return its /metrics.

        Raises:
            DemoError: it does not answer.
        """
        try:
            status, text = fetch(LOOPBACK, self.port, "/metrics")
        except (OSError, http.client.HTTPException) as error:
            raise DemoError(f"the {self.name} does not answer: {error}") from error
        if status != http.HTTPStatus.OK:
            raise DemoError(f"the {self.name} answers /metrics with status {status}")
        return text
