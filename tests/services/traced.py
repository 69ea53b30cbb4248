"""A real worker of `apps.traced`, who publishes to it, and the spans that both have made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.otlp import OtlpReceiver, Span, children_of
from services.worker import Worker

REQUEST = "GET /checkout"
"""The span within which is published."""


class Traced(Worker):
    """A worker of apps.traced that sends its spans to a receiver.

    Args:
        folder: for its log.
        broker: URL.
        otlp: the receiver.
        arguments: more of the command line.
        instrument: settings of `instrument`, `tracing` among them unless it is false; None leaves us out.
        env: more environment variables, for the publisher too.
        options: as of `Worker`.
    """

    def __init__(
        self,
        folder: Path,
        broker: str,
        otlp: OtlpReceiver,
        *arguments: str,
        instrument: Mapping[str, Any] | None = {},
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._otlp = otlp
        super().__init__(folder, broker, *arguments, app="apps.traced", events=False, **options)
        self.env |= {"OTEL_SERVICE_NAME": "worker", **otlp.environment, **(env or {})}
        if instrument is not None:
            self.env["SAMPLE_INSTRUMENT"] = json.dumps({"tracing": True, "port": 0, **instrument})

    def publish(self, *kinds: str, request: str = REQUEST, **env: str) -> Published:
        """Publish from a process that is no worker, each within a span of that name unless it is empty."""
        command = [sys.executable, "-P", "-m", "apps.traced", *kinds]
        environment = {**os.environ, **self.env, "OTEL_SERVICE_NAME": "web", **env}
        if request:
            environment["TRACED_REQUEST"] = request
        done = subprocess.run(
            command, env=environment, cwd=self.folder, check=True, timeout=90, capture_output=True, text=True
        )
        said = dict(line.split() for line in done.stdout.splitlines())
        return Published(self._otlp, int(said.pop("left")), said)


class Published:
    """What was published, and the spans of it."""

    def __init__(self, otlp: OtlpReceiver, left: int, traces: dict[str, str]) -> None:
        self.left = left
        """The id of the span that was current in the end; 0 if none was."""
        self.traces = traces
        """Trace by kind."""
        self._otlp = otlp

    def wait_for(self, kind: str, count: int, timeout: float = 60.0) -> Tree:
        """The trace of what was published of this kind, once it has so many spans."""
        trace = self.traces[kind]
        self._otlp.wait_for(lambda spans: sum(span.trace == trace for span in spans) >= count, timeout)
        return Tree([span for span in self._otlp.spans if span.trace == trace])


class Tree:
    """The spans of one trace."""

    def __init__(self, spans: list[Span]) -> None:
        self.spans = sorted(spans, key=lambda span: span.start)

    def named(self, name: str) -> list[Span]:
        """Those of this name, in the order of their starts."""
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        """The only one of this name."""
        (span,) = self.named(name)
        return span

    def children(self, parent: Span) -> list[str]:
        """The names of what is within a span, in the order of their starts."""
        return [span.name for span in children_of(parent, self.spans)]

    def parent(self, span: Span) -> Span | None:
        """What a span is within; None if that has not come."""
        return next((each for each in self.spans if each.id == span.parent), None)

    def outline(self) -> str:
        """The names, each within its parent's; those without are first."""
        return " ".join(self._outlined(span) for span in self.spans if self.parent(span) is None)

    def _outlined(self, span: Span) -> str:
        inner = [self._outlined(each) for each in children_of(span, self.spans)]
        return f"{span.name}({' '.join(inner)})" if inner else span.name
