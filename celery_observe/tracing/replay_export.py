"""From attempts to a collector: sampled, made into spans and exported over OTLP in a thread of its own.

The reader's thread only puts attempts into a bounded queue: a collector that is slow, or gone, delays nothing there.
The exporter is OpenTelemetry's, set up by its own variables: ``OTEL_EXPORTER_OTLP_*``, ``OTEL_SERVICE_NAME``,
``OTEL_RESOURCE_ATTRIBUTES``.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from celery_observe import __version__
from celery_observe.errors import ExportError
from celery_observe.fact import AttemptsReplayed, Replayed, Traced
from celery_observe.metrics import observer
from celery_observe.otlp.exporters import resource_with
from celery_observe.settings import trace_exporters
from celery_observe.tracing.conventions import LINK, SCHEMA_URL, SCOPE, SERVER_ADDRESS, SERVER_PORT
from celery_observe.tracing.provider import exporters
from celery_observe.tracing.replay import Span, spans_of
from celery_observe.tracing.replay_sampling import Sampler, Sampling

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from celery_observe.broker import BrokerSettings
    from celery_observe.guard import Guard
    from celery_observe.recorder import Recorder
    from celery_observe.settings import Settings

PLUGIN = "replay"
INTERVAL = 0.25
"""Seconds between two looks at what has come."""
MOST_WAITING = 20_000
"""Attempts that wait to be looked at."""
BATCH_BYTES = 1_500_000
"""What is exported at once, roughly: collectors take 4 MiB over gRPC."""
ATTEMPT_BYTES = 1_200
"""What the spans of an attempt take, roughly, beside its traceback."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_WELL, _FAILED = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
_SCOPE = InstrumentationScope(SCOPE, __version__, SCHEMA_URL)


class Replay(threading.Thread):
    """Exports the spans of attempts that came through one broker.

    Raises:
        SettingsError: OpenTelemetry's variables ask for what there is not.
    """

    def __init__(self, broker: BrokerSettings, settings: Settings, recorder: Recorder, guard: Guard) -> None:
        super().__init__(name=f"{PLUGIN}-{broker.name or broker.transport}", daemon=True)
        self.stopping = threading.Event()
        self._recorder = recorder
        self._guard = guard
        self._exporters = tuple(exporters(trace_exporters()))
        self._sampler = Sampler(
            Sampling(settings.replay_ratio, settings.replay_slow),
            self._count,
            most=settings.max_tracked_tasks,
            quiet=settings.workflow_quiet,
        )
        self._server = server_of(broker.url)
        self._waits = settings.replay_waits
        self._resource = resource_with()
        self._inbox: deque[Traced] = deque()
        self._wanted: deque[Traced] = deque()
        self._full = 0
        self._full_told = 0
        recorder.also(Traced, self.offer)
        for outcome in Replayed:
            self._count(outcome, 0)

    def offer(self, traced: Traced) -> None:
        """Take an attempt, if there is room; never waits."""
        if len(self._inbox) < MOST_WAITING:
            self._inbox.append(traced)
        else:
            self._full += 1

    def run(self) -> None:
        """Look until told to stop, then send what is left."""
        while not self.stopping.wait(INTERVAL):
            self._guard.run(PLUGIN, self.look, timed=False)
        self._guard.run(PLUGIN, self.look, timed=False)
        self._sampler.forget()
        for exporter in self._exporters:
            self._guard.run(PLUGIN, exporter.shutdown, timed=False)

    def look(self) -> None:
        """Export what has come. Raises ExportError when it is not taken; the rest waits for the next time."""
        full = self._full - self._full_told
        if full:
            self._full_told += full
            self._count(Replayed.QUEUE_FULL, full)
        while self._inbox or self._wanted:
            now = time.monotonic()
            while self._inbox and len(self._wanted) < BATCH_BYTES // ATTEMPT_BYTES:
                self._wanted += self._sampler.take(self._inbox.popleft(), now)
            if self._wanted:
                self._export(self._batch())
        self._recorder[observer.REPLAY_HELD].set((), len(self._sampler))

    def _batch(self) -> list[Traced]:
        """Take as many attempts as may be exported at once, and one at least."""
        batch, room = [], BATCH_BYTES
        while self._wanted and room > 0:
            traced = self._wanted.popleft()
            batch.append(traced)
            room -= ATTEMPT_BYTES + len(traced.frames or "")
        return batch

    def _export(self, batch: list[Traced]) -> None:
        spans = [
            readable(span, self._resource)
            for traced in batch
            for span in spans_of(traced, self._server, waits=self._waits)
        ]
        refused = [each for each in self._exporters if each.export(spans) is not SpanExportResult.SUCCESS]
        if refused:
            self._count(Replayed.REFUSED, len(batch))
            raise ExportError
        self._count(Replayed.EXPORTED, len(batch))

    def _count(self, outcome: Replayed, count: int) -> None:
        self._recorder.record(AttemptsReplayed(outcome, count))


def server_of(url: str) -> dict[str, str | int]:
    """Return the attributes of a broker, of the first of alternates: its host and port, and nothing else of its URL."""
    try:
        parts = urlsplit(url.split(";", maxsplit=1)[0])
        host, port = parts.hostname, parts.port
    except ValueError:
        return {}
    found: dict[str, str | int] = {SERVER_ADDRESS: host} if host else {}
    return found | {SERVER_PORT: port} if host and port else found


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """Return a span as the exporters want it."""
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace, span.id),
        parent=_context(span.trace, span.parent) if span.parent is not None else None,
        resource=resource,
        attributes=span.attributes,
        events=[Event(each.name, each.attributes, _nanoseconds(each.time)) for each in span.events],
        links=[Link(_context(span.trace, each.span), {LINK: each.why}) for each in span.links],
        kind=SpanKind[span.operation.kind],
        status=_FAILED if span.failed else _WELL,
        start_time=_nanoseconds(span.start),
        end_time=_nanoseconds(span.end),
        instrumentation_scope=_SCOPE,
    )


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=True, trace_flags=_SAMPLED)


def _nanoseconds(time: float) -> int:
    return round(time * 1e9)
