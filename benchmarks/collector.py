"""An OpenTelemetry Collector that takes all spans and forgets them, in a process of its own: `collector.py PORT`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from services.ports import LOOPBACK, free_port


class Collector(BaseHTTPRequestHandler):
    """Takes whatever is posted."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Read it and say that it was taken."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Leave the terminal alone."""


@contextmanager
def collector(*before: str) -> Iterator[str]:
    """A collector, started by the command `before`; its address."""
    port = free_port()
    with subprocess.Popen((*before, sys.executable, __file__, str(port))) as process:
        yield f"http://{LOOPBACK}:{port}"
        process.terminate()


if __name__ == "__main__":
    ThreadingHTTPServer((LOOPBACK, int(sys.argv[1])), Collector).serve_forever()
