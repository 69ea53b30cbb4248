"""OpenTelemetry's instrumentation as its documentation says, with an exporter that forgets: the least its users have.

`PEERS` is the folder of its packages.
"""

from __future__ import annotations

import os
import site
from collections.abc import Sequence

from celery import signals

site.addsitedir(os.environ["PEERS"])

from opentelemetry import trace
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)


class Dropping(SpanExporter):
    """Exports to nowhere."""

    def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Forget."""
        return SpanExportResult.SUCCESS


def start(**_: object) -> None:
    """Make spans from now on, in this process."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Dropping()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


def connect() -> None:
    """Start in each child, once it is there."""
    signals.worker_process_init.connect(start)
