"""A receiver of OTLP, over HTTP and gRPC, which keeps the spans and metrics that it gets."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any, NamedTuple, Self

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from services.ports import LOOPBACK
from services.waiting import PATIENCE, eventually

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")
TRACES, METRICS = "/v1/traces", "/v1/metrics"
CUMULATIVE = 2
"""The temporality, as metrics.proto numbers it."""


class Link(NamedTuple):
    """What a span is linked to; ids are hexadecimal."""

    trace: str
    span: str
    attributes: dict[str, Any]


class Moment(NamedTuple):
    """An event of a span; `time` in Unix seconds."""

    name: str
    time: float
    attributes: dict[str, Any]


class Span(NamedTuple):
    """One finished span, as it came; ids are hexadecimal, times Unix seconds."""

    name: str
    kind: str
    """One of KINDS."""
    trace: str
    id: str
    parent: str
    """Empty if it has none."""
    start: float
    end: float
    attributes: dict[str, Any]
    status: str
    """One of STATUSES."""
    message: str
    """That of the status."""
    links: tuple[Link, ...]
    events: tuple[Moment, ...]
    resource: dict[str, Any]
    scope: str
    """The name of what made it."""


class Point(NamedTuple):
    """What one metric said of one label set; times in Unix seconds."""

    name: str
    kind: str
    """`gauge`, `sum` (cumulative and monotonic) or `histogram` (cumulative)."""
    attributes: dict[str, Any]
    start: float
    """0 if there is none."""
    time: float
    value: float
    """Of a histogram, the sum of what it has seen."""
    counts: tuple[int, ...] = ()
    """Of the buckets of a histogram."""
    bounds: tuple[float, ...] = ()
    exemplars: tuple[tuple[str, float], ...] = ()
    """Traces, hexadecimal, and values."""
    unit: str = ""
    description: str = ""


class Push(NamedTuple):
    """One request with metrics: what it says, and who says it."""

    resource: dict[str, Any]
    points: tuple[Point, ...]

    def named(self, name: str) -> list[Point]:
        """Return the points of this metric."""
        return [point for point in self.points if point.name == name]


class Call(NamedTuple):
    """One request: its headers, in lower case, and how many spans it brought."""

    headers: dict[str, str]
    spans: int


class OtlpReceiver:
    """Listens on two free loopback ports; a context manager. All it gets is in `spans` and `pushes`, as it arrived.

    While `refusing` is set it answers 503, and keeps nothing; while `stalled` is set it does not answer.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.refusing = Event()
        self.stalled = Event()
        self._spans: list[Span] = []
        self._pushes: list[Push] = []
        self._lock = Lock()
        self._released = Event()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler(self))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._grpc: grpc.Server | None = None
        self._grpc_port = 0

    @property
    def url(self) -> str:
        """The OTLP endpoint over HTTP (`http/protobuf`), as OTEL_EXPORTER_OTLP_ENDPOINT wants it."""
        return f"http://{LOOPBACK}:{self._server.server_port}"

    @property
    def grpc_url(self) -> str:
        """The OTLP endpoint over gRPC."""
        if self._grpc is None:
            self._grpc = grpc.server(ThreadPoolExecutor(max_workers=2))
            add_TraceServiceServicer_to_server(_Traces(self), self._grpc)
            add_MetricsServiceServicer_to_server(_Metrics(self), self._grpc)
            self._grpc_port = self._grpc.add_insecure_port(f"{LOOPBACK}:0")
            self._grpc.start()
        return f"http://{LOOPBACK}:{self._grpc_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that have the OpenTelemetry SDK send here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    @property
    def spans(self) -> list[Span]:
        """What has come so far."""
        with self._lock:
            return list(self._spans)

    @property
    def pushes(self) -> list[Push]:
        """The metrics that have come so far, push by push."""
        with self._lock:
            return list(self._pushes)

    def named(self, name: str) -> list[Span]:
        """The spans of this name that have come so far."""
        return [span for span in self.spans if span.name == name]

    def wait_for(self, predicate: Callable[[list[Span]], object], timeout: float = PATIENCE) -> list[Span]:
        """Wait until `predicate` holds of the spans that have come, and return them."""
        spans: list[Span] = []

        def holds() -> bool:
            nonlocal spans
            spans = self.spans
            return bool(predicate(spans))

        try:
            eventually(holds, timeout)
        except AssertionError:
            raise AssertionError(f"not within {timeout} s; came: {dict(summary(spans))}") from None
        return spans

    def clear(self) -> None:
        """Forget what has come."""
        with self._lock:
            self._spans.clear()
            self._pushes.clear()
            self.calls.clear()

    def take(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        """Keep what one request to this path brings."""
        if path == METRICS:
            with self._lock:
                self.calls.append(Call(headers, 0))
                self._pushes += _pushes(ExportMetricsServiceRequest.FromString(body))
            return
        spans = list(_spans(ExportTraceServiceRequest.FromString(body)))
        with self._lock:
            self.calls.append(Call(headers, len(spans)))
            self._spans += spans

    def hold(self) -> None:
        """Return when answers may be given."""
        while self.stalled.is_set() and not self._released.wait(0.02):
            pass

    def __enter__(self) -> Self:
        """Start to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and close the ports."""
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if self._grpc is not None:
            self._grpc.stop(None).wait()


def summary(spans: Iterable[Span]) -> Counter[tuple[str, str]]:
    """How many spans there are, by name and kind."""
    return Counter((span.name, span.kind) for span in spans)


def executed(spans: Iterable[Span], operation: str = "process") -> Counter[str]:
    """How often each task was executed, or published, or what `operation` asks for."""
    found = (span.name.partition(" ") for span in spans)
    return Counter(task for word, _, task in found if word == operation)


def children_of(parent: Span, spans: Iterable[Span]) -> list[Span]:
    """The spans whose parent this is, in the order of their starts."""
    found = [span for span in spans if (span.trace, span.parent) == (parent.trace, parent.id)]
    return sorted(found, key=lambda span: span.start)


def _handler(receiver: OtlpReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Keep the spans, and say that they were taken."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.hold()
            known = self.path in (TRACES, METRICS)
            taken = known and not receiver.refusing.is_set()
            if taken:
                body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
                receiver.take(self.path, body, headers)
            response = ExportMetricsServiceResponse if self.path == METRICS else ExportTraceServiceResponse
            answer = response().SerializeToString()
            self.send_response(200 if taken else 503 if known else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Leave the terminal alone."""

    return Handler


class _Servicer:
    path: str
    response: type

    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the protocol
        """Keep what comes, and say that it was taken."""
        self._receiver.hold()
        if self._receiver.refusing.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "refusing")
        self._receiver.take(self.path, request.SerializeToString(), dict(context.invocation_metadata()))
        return self.response()


class _Traces(_Servicer, TraceServiceServicer):
    path, response = TRACES, ExportTraceServiceResponse


class _Metrics(_Servicer, MetricsServiceServicer):
    path, response = METRICS, ExportMetricsServiceResponse


def _pushes(request: Any) -> Iterable[Push]:
    for of_resource in request.resource_metrics:
        metrics = [metric for of_scope in of_resource.scope_metrics for metric in of_scope.metrics]
        points = tuple(point for metric in metrics for point in _points(metric))
        yield Push(_attributes(of_resource.resource.attributes), points)


def _points(metric: Any) -> Iterable[Point]:
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    assert kind == "gauge" or data.aggregation_temporality == CUMULATIVE, f"{metric.name} is not cumulative"
    assert kind != "sum" or data.is_monotonic, f"{metric.name} may fall"
    for point in data.data_points:
        of_histogram = kind == "histogram"
        yield Point(
            name=metric.name,
            kind=kind,
            attributes=_attributes(point.attributes),
            start=point.start_time_unix_nano / 1e9,
            time=point.time_unix_nano / 1e9,
            value=point.sum if of_histogram else point.as_double,
            counts=tuple(point.bucket_counts) if of_histogram else (),
            bounds=tuple(point.explicit_bounds) if of_histogram else (),
            exemplars=tuple((each.trace_id.hex(), each.as_double) for each in point.exemplars),
            unit=metric.unit,
            description=metric.description,
        )


def _spans(request: Any) -> Iterable[Span]:
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield _span(span, resource, of_scope.scope.name)


def _span(span: Any, resource: dict[str, Any], scope: str) -> Span:
    return Span(
        name=span.name,
        kind=KINDS[span.kind],
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        attributes=_attributes(span.attributes),
        status=STATUSES[span.status.code],
        message=span.status.message,
        links=tuple(Link(each.trace_id.hex(), each.span_id.hex(), _attributes(each.attributes)) for each in span.links),
        events=tuple(
            Moment(each.name, each.time_unix_nano / 1e9, _attributes(each.attributes)) for each in span.events
        ),
        resource=resource,
        scope=scope,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind) if kind else None
