"""Spans by OpenTelemetry's instrumentation, as its documentation says, or by ours.

They are exported over OTLP to `OTEL_EXPORTER_OTLP_ENDPOINT`, if that is set, else forgotten. `PEERS` is the folder of
its packages.
"""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Callable, Sequence

from celery import signals

site.addsitedir(os.environ["PEERS"])

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from celery_observe import instrument


class Dropping(SpanExporter):
    """Exports to nowhere."""

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Forget."""
        return SpanExportResult.SUCCESS


def provide(**_: object) -> None:
    """Set the provider of this process up."""
    provider = TracerProvider()
    exporter = OTLPSpanExporter() if "OTEL_EXPORTER_OTLP_ENDPOINT" in os.environ else Dropping()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def start(**_: object) -> None:
    """Make spans from now on, in this process."""
    provide()
    CeleryInstrumentor().instrument()


def connect() -> None:
    """Start in each child, once it is there; in who publishes at once."""
    _begin(start)


def observe() -> None:
    """Have celery-observe make spans, and all else that it does, for the same provider."""
    _begin(provide)
    instrument(tracing=True)


def _begin(call: Callable[..., None]) -> None:
    if "worker" in sys.argv:
        signals.worker_process_init.connect(call)
    else:
        call()
