"""What is bound of a task, and what comes along from its publisher."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from opentelemetry import trace

from celery_observe.worker import context, logs
from celery_observe.worker.headers import CONTEXT

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(autouse=True)
def nothing_else_bound(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has a context of its own, and a list of two names."""
    monkeypatch.setattr(context, "carried", context.Carried())
    monkeypatch.setattr(context, "binding", context.Binding())
    context.carried.allow(["request_id", "shop"])
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


def bound() -> dict[str, Any]:
    """What is bound here."""
    return structlog.contextvars.get_contextvars()


def make_task(**fields: Any) -> Any:
    """Return a task with a request on its stack."""
    request = {"id": "i", "task": "t", "root_id": "r", "hostname": "w@h", **fields}
    return SimpleNamespace(request_stack=SimpleNamespace(top=SimpleNamespace(**request)))


@pytest.mark.parametrize("value", ["req-7", "x" * 128, "größe", 0, -7, 2**63 - 1, True])
def test_short_texts_and_numbers_go_along(value: Any) -> None:
    """As they are."""
    assert context.carried.of({"request_id": value}) == {"request_id": value}


def test_a_uuid_goes_along_as_text() -> None:
    """Many request ids are one."""
    value = uuid.uuid4()

    assert context.carried.of({"request_id": value}) == {"request_id": str(value)}


@pytest.mark.parametrize(
    "value", [None, "", "x" * 129, "a\nb", "\x1b[31m", "\ud800", 2**63, 1.5, b"req", ["req"], {"a": "b"}, object()]
)
def test_nothing_else_goes_along(value: Any) -> None:
    """No broker could be upset by it, and no log."""
    assert context.carried.of({"request_id": value, "password": "hunter2"}) == {}


@pytest.mark.parametrize("header", [None, "text", 7, ["request_id"], {7: "req"}])
def test_a_header_that_is_none_is_ignored(header: Any) -> None:
    """Publishers may send anything."""
    assert context.carried.of(header) == {}


def test_what_entries_of_logging_have_cannot_be_named() -> None:
    """Such names are left out of the list."""
    context.carried.allow(["event", "level", "message", "name", "args", "shop"])

    assert context.carried.names == ("shop",)


def test_what_is_bound_is_sent_along() -> None:
    """If it is on the list."""
    structlog.contextvars.bind_contextvars(request_id="req-7", password="hunter2")
    headers: dict[str, Any] = {"id": "i"}

    context.carry(headers)

    assert headers == {"id": "i", CONTEXT: {"request_id": "req-7"}}


@pytest.mark.parametrize("header", [{}, {CONTEXT: {"shop": "north"}}])
def test_a_message_keeps_what_it_has_if_nothing_is_bound(header: dict[str, Any]) -> None:
    """As that of a retry does; and an empty list sends nothing."""
    headers = dict(header)

    context.carry(headers)
    structlog.contextvars.bind_contextvars(request_id="req-7")
    context.carried.allow([])
    context.carry(headers)

    assert headers == header


def test_a_task_is_bound_while_it_executes() -> None:
    """With what came along; then all is as before, whatever the task has bound and unbound itself."""
    structlog.contextvars.bind_contextvars(service="shop", shop="of this process")
    task = make_task(
        delivery_info={"exchange": "", "routing_key": "q"}, retries=2, **{CONTEXT: {"request_id": "req-7"}}
    )

    logs.introduce(task)
    amid = bound()
    structlog.contextvars.bind_contextvars(order=7)
    structlog.contextvars.unbind_contextvars("service", "task_id")
    context.restore(task)

    assert amid == {
        "service": "shop",
        "task_id": "i",
        "task": "t",
        "root_id": "r",
        "retries": 2,
        "queue": "q",
        "worker": "w@h",
        "request_id": "req-7",
    }
    assert bound() == {"service": "shop", "shop": "of this process"}


def test_a_task_called_in_place_shares_the_request_of_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has an id of its own, no queue, and the caller's worker and trace."""
    monkeypatch.setattr("celery_observe.worker.context.reporter.hostname", "w@h")
    caller = make_task(
        parent_id="p",
        delivery_info={"routing_key": "q"},
        traceparent=f"00-{TRACE_ID}-00f067aa0ba902b7-01",
        **{CONTEXT: {"request_id": "req-7"}},
    )
    callee = make_task(id="i2", task="t2", is_eager=True, hostname="h")

    logs.introduce(caller)
    outside = bound()
    logs.introduce(callee)
    inside = bound()
    context.restore(callee)

    assert inside == {
        "task_id": "i2",
        "task": "t2",
        "root_id": "r",
        "retries": 0,
        "worker": "w@h",
        "request_id": "req-7",
        "trace_id": TRACE_ID,
    }
    assert bound() == outside
    context.restore(caller)
    assert bound() == {}


def test_the_active_span_says_which_trace_it_is() -> None:
    """And not the header, which may be of the trace that it began in."""
    span = trace.NonRecordingSpan(trace.SpanContext(int(TRACE_ID, 16), 7, is_remote=False))
    fields = {"traceparent": f"00-{'a' * 32}-00f067aa0ba902b7-01"}

    assert context.describe(fields)["trace_id"] == "a" * 32
    with trace.use_span(span):
        assert context.describe(fields)["trace_id"] == TRACE_ID


@pytest.mark.parametrize("header", [7, "", f"00-{'0' * 32}-00f067aa0ba902b7-01", f"00-{TRACE_ID}", b"00"])
def test_a_trace_that_is_none_is_not_named(header: Any) -> None:
    """W3C's Trace Context says what one looks like."""
    assert "trace_id" not in context.describe({"traceparent": header})


def test_nothing_is_bound_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither logs are asked for, nor has the app imported structlog when its worker starts."""
    monkeypatch.delitem(sys.modules, "structlog")
    task, headers = make_task(), dict[str, Any]()

    context.binding.settle(logging=False)
    logs.introduce(task)
    context.carry(headers)
    context.restore(task)

    assert (bound(), headers) == ({}, {})
    context.binding.settle(logging=True)
    logs.introduce(task)
    assert bound()["task_id"] == "i"
