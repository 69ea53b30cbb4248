"""Where this process's spans go: to the provider that the app has set up, or else to one as ``OTEL_*`` variables say.

Which of them is settled when the first span is made, by which time the app has set up what it will, and anew in each
process: what a child inherits has neither the thread nor the connection that it had. Only ``settings`` reads the
environment for us; the SDK reads its own (sampler, resource, limits, endpoints, …).
"""

from __future__ import annotations

import atexit
import logging
import mmap
import os
import struct
import sys
import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

from celery_observe import __version__
from celery_observe.errors import SettingsError
from celery_observe.masking import mask_text
from celery_observe.otlp.exporters import exporter_of
from celery_observe.settings import GRPC, trace_exporters
from celery_observe.tracing.conventions import SCHEMA_URL, SCOPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds that the end of a process waits for its last spans to be sent."""
_OFFENDED = 30.0
"""Seconds after that was in vain in which no process waits again."""
_INSTRUMENTOR = "opentelemetry.instrumentation.celery"
_DOUBLE = (
    "opentelemetry-instrumentation-celery makes the spans of tasks here, so we make none; "
    "CeleryInstrumentor().uninstrument() lets us, and without tracing=True we do not ask for it"
)


_NO_EXPORTER = (SettingsError, ImportError, ValueError)
"""What says that a variable is wrong, or that something is not installed."""
_ANY: tuple[int | None, int | None] = (None, None)


class Wanted(IdGenerator):
    """Gives spans the ids that are wanted of them, and others those of the generator that was there."""

    def __init__(self, others: IdGenerator) -> None:
        self._others = others
        self._wanted = ContextVar("celery_observe_ids", default=_ANY)

    def want(self, trace_id: int | None, span_id: int | None) -> None:
        """Want these of the next span that is made here; None is any."""
        self._wanted.set((trace_id, span_id))

    def generate_trace_id(self) -> int:
        """Return the id of a trace that begins."""
        return self._wanted.get()[0] or self._others.generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the id of a span, and want no more."""
        wanted = self._wanted.get()[1]
        self._wanted.set(_ANY)
        return wanted or self._others.generate_span_id()


class Patience:
    """Whether it is worth while to wait for the collector, as processes that waited have found; children share it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = mmap.mmap(-1, 8)

    @property
    def is_lost(self) -> bool:
        """Whether somebody has waited in vain of late."""
        return bool(self._clock() < struct.unpack("d", self._until[:8])[0])

    def lose(self) -> None:
        """Tell the others that it was in vain."""
        self._until[:8] = struct.pack("d", self._clock() + _OFFENDED)


class Provider:
    """The one of this process and, each anew, of its children."""

    def __init__(self) -> None:
        self._pid = 0
        self._apart = 0
        self._green = False
        self._tracer: trace.Tracer | None = None
        self._source: Any = None
        self._global: Any = None
        self._is_ours = False
        self._patience = Patience()
        self._told = mmap.mmap(-1, 1)  # one page that all children share
        self._renew()
        os.register_at_fork(after_in_child=self._renew)
        atexit.register(self.close)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    def settle(self, *, apart: bool, green: bool) -> None:
        """Know of what kind this process is, a worker's main one.

        One that stands ``apart`` leaves OpenTelemetry's global provider alone: its children, which inherit it, need
        their own, and it can be set once. Where tasks are executed it is set to ours, unless the app has set one: that
        is where the spans of other instrumentations go, such as of databases. A ``green`` one shares a thread.
        """
        self._apart = os.getpid() if apart else 0
        self._green = green

    def prepare(self) -> bool:
        """Import what exporters need, so that not each child has to; say whether there are any, ours or the app's."""
        try:
            for name in self._exporters() if _is_unset() else ():
                exporter_of("traces", name)
        except _NO_EXPORTER as error:
            self._say_once(f"no spans are made: {error}")
            return False
        return True

    def _exporters(self) -> tuple[str, ...]:
        names = trace_exporters()
        if self._green and GRPC in names:
            raise SettingsError("gRPC would hold up all greenlets: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
        return names

    @property
    def tracer(self) -> trace.Tracer | None:
        """What makes the spans of this process; None if there shall be none."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._open()
        return self._tracer

    def want(self, trace_id: int | None, span_id: int | None) -> None:
        """Want these ids of the next span that ``tracer`` makes, as far as its provider can be asked for any."""
        ids = getattr(self._tracer, "id_generator", None)
        if isinstance(ids, Wanted):
            ids.want(trace_id, span_id)

    def _open(self) -> None:
        self._tracer = self._source = None
        try:
            if _is_double():
                self._say_once(_DOUBLE)
            else:
                self._tracer = self._made()
        except _NO_EXPORTER as error:
            self._say_once(f"no spans are made: {error}")
        finally:
            self._pid = os.getpid()

    def _made(self) -> trace.Tracer:
        found = trace.get_tracer_provider()
        self._is_ours = _is_unset() or found is self._global  # which this process has inherited
        self._source = self._built() if self._is_ours else found
        tracer: trace.Tracer = self._source.get_tracer(SCOPE, __version__, schema_url=SCHEMA_URL)
        ids = getattr(tracer, "id_generator", None)
        if isinstance(ids, IdGenerator) and not isinstance(ids, Wanted):
            tracer.id_generator = Wanted(ids)  # type: ignore[attr-defined]  # of the SDK's, which it is then
        return tracer

    def _built(self) -> TracerProvider:
        source = TracerProvider(shutdown_on_exit=False)
        for exporter in exporters(self._exporters()):
            source.add_span_processor(BatchSpanProcessor(exporter))
        if self._apart != os.getpid() and _is_unset():
            self._global = source
            trace.set_tracer_provider(source)
        return source

    def _say_once(self, text: str) -> None:
        told, self._told[0] = self._told[0], 1
        if not told:
            log.warning("celery-observe: %s", mask_text(text))

    def flush(self, seconds: float = PATIENCE) -> None:
        """Have the spans sent that have ended, and wait so long for it; not if that was in vain of late."""
        self._await("force_flush", seconds)

    def close(self, seconds: float = PATIENCE) -> None:
        """Flush, and end what is ours."""
        self._await("shutdown" if self._is_ours else "force_flush", seconds)

    def _await(self, name: str, seconds: float) -> None:
        call = getattr(self._source, name, None)
        if call is None or self._pid != os.getpid() or self._patience.is_lost:
            return
        thread = threading.Thread(target=call, name="celery-observe-flush", daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            self._patience.lose()


def _is_unset() -> bool:
    """Tell whether nobody has set up OpenTelemetry's global provider."""
    return isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _is_double() -> bool:
    """Tell whether OpenTelemetry's own instrumentation of Celery makes spans here."""
    module = sys.modules.get(_INSTRUMENTOR)
    return module is not None and bool(module.CeleryInstrumentor().is_instrumented_by_opentelemetry)


def exporters(names: Iterable[str]) -> Iterator[SpanExporter]:
    """Yield a new exporter of spans for each of these entry points of OpenTelemetry's, set up by its own variables.

    Raises:
        SettingsError: there is none of that name.
    """
    return (exporter_of("traces", name)() for name in names)


provider = Provider()
"""That of this process."""
