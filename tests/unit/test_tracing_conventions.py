"""What spans are called and say is what OpenTelemetry's conventions say, and ids follow from what is known."""

from __future__ import annotations

from uuid import UUID

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv.attributes import error_attributes, exception_attributes, server_attributes
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind

from celery_observe.tracing import conventions
from celery_observe.tracing.conventions import DISCARD, PROCESS, PUBLISH, Operation, span_id_of, span_name, trace_id_of

OPERATIONS = [each for each in vars(conventions).values() if isinstance(each, Operation)]
STANDARD = {
    value
    for module in (messaging_attributes, error_attributes, exception_attributes, server_attributes)
    for name, value in vars(module).items()
    if name.isupper()
}


def test_attributes_are_of_the_conventions_or_ours() -> None:
    """And no name of ours looks like one of theirs."""
    named = {value for name, value in vars(conventions).items() if name.isupper() and isinstance(value, str)}
    dotted = {value for value in named if "." in value and "://" not in value}

    assert dotted - STANDARD == {value for value in dotted if value.startswith("celery.")}
    assert Schemas.V1_44_0.value == conventions.SCHEMA_URL


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_types_and_kinds_are_of_the_conventions(operation: Operation) -> None:
    """An operation without a type is none of messaging."""
    kinds = {
        "send": SpanKind.PRODUCER,
        "process": SpanKind.CONSUMER,
        "settle": SpanKind.CLIENT,
        None: SpanKind.INTERNAL,
    }

    assert SpanKind[operation.kind] is kinds[operation.type]
    assert operation.type in {None, *(each.value for each in messaging_attributes.MessagingOperationTypeValues)}


def test_a_span_is_named_after_its_task() -> None:
    """Most queues hold all kinds of tasks."""
    assert span_name(PUBLISH, "shop.pay") == "publish shop.pay"


def test_ids_follow_from_what_is_known() -> None:
    """They are the same everywhere, and differ by each part."""
    assert trace_id_of("a") == trace_id_of("a") != trace_id_of("b")
    ids = {
        span_id_of(operation, uuid, retries)
        for operation in (PUBLISH, PROCESS, DISCARD)
        for uuid in ("a", "b")
        for retries in (0, 1)
    }

    assert len(ids) == 12
    assert all(0 < each < 1 << 64 for each in ids)
    assert 0 < trace_id_of("a") < 1 << 128


@pytest.mark.parametrize("root", ["", "order 42", "\ud800", "x" * 10_000])
def test_any_id_has_a_trace(root: str) -> None:
    """Users choose ids of tasks as they like."""
    assert 0 < trace_id_of(root) < 1 << 128


def test_samplers_can_rely_on_the_bits() -> None:
    """Those of a UUID would not do: two of its lower 64 are always the same."""
    sampler = TraceIdRatioBased(0.25)

    taken = [
        sampler.should_sample(None, trace_id_of(str(UUID(int=number))), "t").decision is Decision.RECORD_AND_SAMPLE
        for number in range(2000)
    ]

    assert 400 < sum(taken) < 600
