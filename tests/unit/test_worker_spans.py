"""What spans are made of, by messages of all kinds; without a worker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chord, signals
from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanContext, StatusCode, TraceFlags

from celery_observe.errors import SettingsError
from celery_observe.fact import Cause, Outcome
from celery_observe.report import AnyReport, Execution
from celery_observe.settings import trace_exporters
from celery_observe.testing import FakeClock
from celery_observe.tracing.provider import Patience, Wanted, exporters, provider
from celery_observe.worker import consumer, creation, spans
from celery_observe.worker.headers import ATTEMPT, CHORD
from celery_observe.worker.reporter import Reporter


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that were made."""
    exporter, source = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    source.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = source.get_tracer("celery_observe")
    assert hasattr(tracer, "id_generator")
    tracer.id_generator = Wanted(tracer.id_generator)
    monkeypatch.setattr(provider, "_tracer", tracer)
    monkeypatch.setattr(provider, "_pid", os.getpid())
    for name in ("links", "waits", "texts"):
        monkeypatch.setattr(spans.style, name, False)
    yield exporter
    assert not trace.get_current_span().get_span_context().is_valid


def request(**fields: Any) -> Any:
    """A task that executes a message with these fields."""
    top = SimpleNamespace(**{"id": "a", "hostname": "w@h", **fields})
    return SimpleNamespace(name="t", throws=(), request_stack=SimpleNamespace(top=top))


def execute(task: Any, outcome: Outcome = Outcome.SUCCEEDED, error: Any = None) -> Execution:
    """Begin and end an attempt; what is reported of it."""
    report = Execution(time.time(), "w@h", "a", "t", outcome, exception=type(error).__name__ if error else None)
    spans.begin(task)
    spans.ended(report, vars(task.request_stack.top), task, error)
    spans.leave(task)
    return report


def only(made: InMemorySpanExporter) -> ReadableSpan:
    """The one span that was made."""
    (span,) = made.get_finished_spans()
    return span


# -- context


class OwnFormat(TextMapPropagator):
    """Writes the context as no standard does."""

    @property
    def fields(self) -> set[str]:
        """Which headers it writes."""
        return {"x-shop"}

    def inject(self, carrier: Any, context: Context | None = None, setter: Any = None) -> None:
        """Write it."""
        found = trace.get_current_span(context).get_span_context()
        setter.set(carrier, "x-shop", f"{found.trace_id:x} {found.span_id:x}")

    def extract(self, carrier: Any, context: Context | None = None, getter: Any = None) -> Context:
        """Read it."""
        trace_id, span_id = (int(part, 16) for part in getter.get(carrier, "x-shop")[0].split())
        found = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1))
        return trace.set_span_in_context(trace.NonRecordingSpan(found), context)


def test_any_propagator_is_used(made: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both to send the context along and to read it."""
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", OwnFormat())
    headers: dict[str, Any] = {"id": "a"}
    creation.publish("t", headers, "", "q")
    creation.published(headers)

    execute(request(**headers))

    publish, process = made.get_finished_spans()
    assert process.parent is not None
    assert publish.context is not None
    assert (process.parent.trace_id, process.parent.span_id) == (publish.context.trace_id, publish.context.span_id)
    assert "traceparent" not in headers


@pytest.mark.parametrize(
    "hostile",
    [
        {CHORD: "many"},
        {CHORD: {"size": "many"}},
        {CHORD: {"size": -1}},
        {ATTEMPT: "00-0-0-0"},
        {ATTEMPT: f"00-{'0' * 32}-{'1' * 16}-01"},
        {ATTEMPT: 7},
        {"traceparent": "nonsense", "tracestate": 7, "baggage": [1]},
        {"delivery_info": None, "retries": None, "eta": "soon"},
    ],
)
def test_whatever_a_message_says_an_attempt_has_its_span(made: InMemorySpanExporter, hostile: dict[str, Any]) -> None:
    """Anybody may publish anything."""
    execute(request(**hostile))

    assert not only(made).links


def test_links_to_a_header_are_bounded(made: InMemorySpanExporter) -> None:
    """However many tasks somebody says it has."""
    execute(request(**{CHORD: {"group": "g", "size": 10**9}}))

    assert len(only(made).links) == 128


def test_the_ids_of_an_attempt_follow_from_its_message(made: InMemorySpanExporter) -> None:
    """So that the main process can tell of it; those of others differ."""
    again = {"delivery_info": {"redelivered": True}, "celery_observe_received": 7.0}
    kinds: list[dict[str, Any]] = [{}, {"id": "b"}, {"retries": 1}, {"replaced_task_nesting": 1}, again]
    grouped = {"group": "g", "group_index": 0}
    for fields in (*kinds, grouped, {**grouped, "group_index": 1}):
        execute(request(**fields))
        execute(request(**fields))

    ids = [span.context.span_id for span in made.get_finished_spans() if span.context is not None]
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == 7


def test_a_report_names_a_trace_only_if_that_is_recorded(made: InMemorySpanExporter) -> None:
    """An exemplar that leads nowhere is none."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    sampled = execute(request(traceparent=f"00-{trace_id}-00f067aa0ba902b7-01"))
    unsampled = execute(request(traceparent=f"00-{trace_id}-00f067aa0ba902b7-00"))

    assert (sampled.trace_id, unsampled.trace_id) == (trace_id, None)
    assert len(made.get_finished_spans()) == 1


# -- how it ends


class UnspeakableError(Exception):
    """One whose text cannot be made."""

    def __str__(self) -> str:
        raise AssertionError("its text was looked at")


@pytest.mark.parametrize("texts", [False, True])
def test_an_exception_whose_text_fails_is_told_without(
    made: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, texts: bool
) -> None:
    """And is not asked for it unless that is wanted."""
    monkeypatch.setattr(spans.style, "texts", texts)

    execute(request(), Outcome.FAILED, UnspeakableError())

    span = only(made)
    assert span.status.status_code is StatusCode.ERROR
    attributes = span.events[0].attributes or {}
    assert str(attributes["exception.type"]).endswith("UnspeakableError")
    assert "exception.message" not in attributes


def test_secrets_in_texts_are_masked(made: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere."""
    monkeypatch.setattr(spans.style, "texts", True)

    execute(request(), Outcome.FAILED, ValueError("redis://me:hunter2@h is gone"))

    assert "hunter2" not in str(only(made).events[0].attributes)


def test_what_is_told_twice_is_one_span(made: InMemorySpanExporter) -> None:
    """Celery 5.7 tells of a hard time limit twice."""
    fields = vars(request().request_stack.top)
    for _ in range(2):
        started = time.time() - 1
        limit = Cause.HARD_TIME_LIMIT
        spans.ended(Execution(time.time(), "w@h", "a", "t", Outcome.FAILED, started=started, cause=limit), fields)

    assert only(made).name == "process t"


# -- publishing


def test_a_message_published_while_another_is_ends_its_own_span(made: InMemorySpanExporter) -> None:
    """Though the other fails, or never comes so far as to have one."""
    outer: dict[str, Any] = {"id": "outer"}
    inner: dict[str, Any] = {"id": "inner"}
    before = get_current()
    creation.publish("outer", outer, "", "q")
    creation.publish("inner", inner, "", "q")
    creation.not_published(ValueError(), ({"id": "another"}, {}, (), None))
    creation.not_published(ValueError(), (inner, {}, (), None))
    creation.published(outer)

    assert get_current() == before
    assert [(span.name, span.status.status_code) for span in made.get_finished_spans()] == [
        ("publish inner", StatusCode.ERROR),
        ("publish outer", StatusCode.UNSET),
    ]


def test_who_publishes_a_chord_tells_its_body_of_the_header() -> None:
    """The group, and how many there are; what the user has given stays."""
    creation.watch_chords()
    app = Celery("t", broker="memory://", backend="cache+memory://", set_as_current=False)
    body = app.signature("total", headers={"tenant": "acme"})
    published: list[dict[str, Any]] = []
    receiver = lambda body, **_: published.append(body[2]["chord"])  # noqa: E731 - it is disconnected by name
    signals.before_task_publish.connect(receiver, weak=False)
    try:
        chord([app.signature("add", (1, 1)) for _ in range(3)], body, app=app).apply_async()
    finally:
        signals.before_task_publish.disconnect(receiver)

    headers = [each["options"]["headers"] for each in published]
    assert [each["tenant"] for each in headers] == ["acme"] * 3
    assert {each[CHORD]["size"] for each in headers} == {3}


def test_a_retry_that_is_called_in_place_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a call, as is what it retries."""
    reports: list[AnyReport] = []
    monkeypatch.setattr(Reporter, "send", lambda _self, report: reports.append(report))
    sender = request(is_eager=True)

    consumer.retried(sender, SimpleNamespace(is_eager=True, id="a", task="t"), einfo=object())

    assert not reports


# -- where they go


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ("otlp_proto_grpc",)),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ("otlp_proto_http",)),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            ("otlp_proto_http",),
        ),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ("console", "otlp_proto_grpc")),
        ({"OTEL_TRACES_EXPORTER": "none"}, ()),
    ],
)
def test_exporters_are_named_as_the_specification_says(environ: dict[str, str], names: tuple[str, ...]) -> None:
    """By OpenTelemetry's own variables."""
    assert trace_exporters(environ) == names


def test_a_protocol_or_exporter_that_is_not_there_is_told() -> None:
    """With the variable that asks for it."""
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_PROTOCOL is one of grpc, http/protobuf"):
        trace_exporters({"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier-pigeon"})
    with pytest.raises(SettingsError, match="OTEL_TRACES_EXPORTER asks for nowhere"):
        list(exporters(["nowhere"]))


def test_ids_are_wanted_of_one_span() -> None:
    """The next has any."""
    ids = Wanted(RandomIdGenerator())
    ids.want(1, 2)

    assert (ids.generate_trace_id(), ids.generate_span_id()) == (1, 2)
    assert ids.generate_trace_id() != 1
    assert ids.generate_span_id() != 2


def test_patience_is_lost_for_a_while() -> None:
    """By all who share it."""
    clock = FakeClock()
    patience = Patience(clock)
    before = patience.is_lost

    patience.lose()

    assert (before, patience.is_lost) == (False, True)
    clock.advance(31.0)
    assert not patience.is_lost
