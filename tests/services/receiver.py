"""A receiver of alerts that answers as it is told to: well, badly, slowly, or not at all."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any, NamedTuple, Self

from services.certificates import Certificates
from services.ports import LOOPBACK


class Delivery(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its JSON."""
        return json.loads(self.body)


class Receiver:
    """An HTTP server on a free loopback port; a context manager.

    ``answers`` are statuses, one for each request and the last for all that follow; or "hang" (never answer), "reset"
    (break the connection), "garbage" (answer with something that is not HTTP).
    """

    def __init__(
        self, *answers: int | str, headers: Mapping[str, str] | None = None, tls: Certificates | None = None
    ) -> None:
        self.answers = list(answers) or [200]
        self.headers = dict(headers or {})
        self.deliveries: list[Delivery] = []
        self.released = Event()
        """Set it, and what hangs is answered."""
        self._server = _Server((LOOPBACK, 0), _handler(self))
        self._scheme = "https" if tls else "http"
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://{LOOPBACK}:{self._server.server_port}"

    def next_answer(self) -> int | str:
        """Return the answer for a request that has come."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def __enter__(self) -> Self:
        """Start to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and close the port."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Leave the terminal alone: clients that break off are what is tested."""


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Keep the request, and answer it."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.deliveries.append(Delivery(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            answer = receiver.next_answer()
            if answer == "hang":
                receiver.released.wait(60)
            elif answer == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            elif answer == "garbage":
                self.wfile.write(b"\x00 this is no HTTP \xff\r\n\r\n")
            else:
                self._answer(int(answer))

        do_GET = do_POST  # noqa: N815 - the name that the base class looks for; what a redirect would arrive as

        def _answer(self, status: int) -> None:
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Leave the terminal alone."""

    return Handler
