"""A receiver of webhooks, which keeps what it gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple, Self

from services.ports import LOOPBACK


class Call(NamedTuple):
    """One request: its path without the slash, and its JSON."""

    path: str
    body: Any


class Told(NamedTuple):
    """What one notification of Alertmanager said of one alert."""

    receiver: str
    alert: str
    status: str
    """firing or resolved"""
    labels: dict[str, str]
    annotations: dict[str, str]


class Webhook:
    """An HTTP server on a free loopback port; a context manager."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler(self.calls))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens; add a path to tell calls apart."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    def told(self) -> Iterator[Told]:
        """What Alertmanager has said, alert by alert, in order."""
        for call in list(self.calls):
            for alert in call.body["alerts"]:
                labels = alert["labels"]
                yield Told(call.path, labels["alertname"], alert["status"], labels, alert["annotations"])

    def summary(self) -> list[tuple[str, str, str]]:
        """The same, as receiver, alert and status."""
        return [(each.receiver, each.alert, each.status) for each in self.told()]

    def __enter__(self) -> Self:
        """Start to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(calls: list[Call]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Keep the call, and say that it was taken."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            calls.append(Call(self.path.strip("/"), json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Leave the terminal alone."""

    return Handler
