"""The app of canvases, with tasks whose spans are of interest: `python -m apps.traced chord_of_50` publishes one.

`TRACED_BY` says who makes spans: `celery-observe` unless `opentelemetry`, as its documentation says. `TRACED_PROVIDER`
says where the app sets up a provider of its own: `app`, as it is imported, or `child`, in each of the pool; else none.
With `TRACED_REQUEST` what is published is so within a span of that name.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import nullcontext, suppress
from typing import Any

from celery import Task, chain, chord
from celery.exceptions import Reject
from celery.signals import worker_process_init
from kombu.exceptions import EncodeError
from opentelemetry import baggage, context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from apps.canvases import CANVASES, add, app, retry_once, starting, total

__all__ = ["app"]

BY_OPENTELEMETRY = os.environ.get("TRACED_BY") == "opentelemetry"
PROVIDER = os.environ.get("TRACED_PROVIDER")


def provide(**_: Any) -> None:
    """Set a provider up, as apps do."""
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def trace_as_documented(**_: Any) -> None:
    """Do as the documentation of OpenTelemetry's instrumentation says."""
    provide()
    CeleryInstrumentor().instrument()


if BY_OPENTELEMETRY:
    worker_process_init.connect(trace_as_documented, weak=False)
elif PROVIDER == "child":
    worker_process_init.connect(provide, weak=False)
elif PROVIDER == "app":
    provide()


@app.task(name="query")
def query() -> str:
    """Ask a database, whose client is instrumented."""
    tenant = str(baggage.get_baggage("tenant"))
    with trace.get_tracer("database").start_as_current_span("SELECT", attributes={"tenant": tenant}):
        return tenant


@app.task(name="state", bind=True)
def state(self: Task) -> None:
    """Go over to a state of its own."""
    self.update_state(state="CHARGING", meta={"step": 1, "total": 4, "card": "4111 1111"})


@app.task(name="fail_badly")
def fail_badly(secret: str) -> None:
    """Raise something that quotes an argument."""
    raise ValueError(secret)


@app.task(name="fail_expectedly", throws=(LookupError,))
def fail_expectedly() -> None:
    """Raise what it says it may."""
    raise LookupError("as expected")


@app.task(name="reject", acks_late=True)
def reject() -> None:
    """Hand the message back, for good."""
    raise Reject("as asked", requeue=False)


@app.task(name="reject_once", bind=True, acks_late=True)
def reject_once(self: Task) -> None:
    """Hand the message back, once."""
    if not self.request.delivery_info.get("redelivered"):
        raise Reject("as asked", requeue=True)


@app.task(name="die")
def die() -> None:
    """Ask a database, and be killed."""
    query()
    time.sleep(0.5)  # for the span of the database to be sent
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="die_once", bind=True, acks_late=True, reject_on_worker_lost=True)
def die_once(self: Task) -> None:
    """Be killed, be delivered again, and succeed."""
    if not self.request.delivery_info.get("redelivered"):
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="hang", time_limit=1)
def hang() -> None:
    """Work past a hard time limit."""
    time.sleep(30)


@app.task(name="sleep")
def sleep(seconds: float) -> None:
    """Take a known time."""
    time.sleep(seconds)


@app.task(name="publish_in_vain")
def publish_in_vain() -> None:
    """Fail to publish, and ask a database then."""
    with suppress(EncodeError):
        add.delay(object())
    query()


@app.task(name="retry", bind=True)
def retry(self: Task, times: int = 3) -> None:
    """Ask for so many retries, then succeed."""
    if self.request.retries < times:
        raise self.retry(countdown=0, max_retries=times)


@app.task(name="call")
def call() -> None:
    """Call others in place, one of which is retried."""
    add.apply((1, 2))
    retry.apply((1,))


@app.task(name="get")
def get() -> str:
    """Say which trace it is in."""
    return f"{trace.get_current_span().get_span_context().trace_id:032x}"


CANVASES |= {
    "chord_of_50": lambda: chord([add.si(number, 1) for number in range(50)], total.s()),
    "immutable_chord": lambda: chord([add.si(1, 1), retry_once.si(0), add.si(3, 1)], add.si(1, 1)),
    "generated_chord": lambda: chord((add.si(number, 1) for number in range(3)), total.s()),
    "chain_of_5": lambda: chain(add.si(1, 1), add.si(2, 1), retry_once.si(0), query.si(), add.si(3, 1)),
    "chords_in_chain": lambda: chain(add.si(1, 1), chord([add.si(2, 1), add.si(3, 1)], total.s()), query.si()),
    "failure": lambda: fail_badly.si("4111 1111"),
    **{task.name: task.si for task in (add, query, state, fail_expectedly, reject, reject_once, die, die_once, hang)},
    **{task.name: task.si for task in (publish_in_vain, retry, call, get)},
    "later": lambda: add.si(1, 2).set(countdown=1),
    "unserialisable": lambda: add.si(object()),
    "unregistered": lambda: app.signature("nowhere"),
    "expired": lambda: add.si(1, 2).set(expires=-10),
    "custom": lambda: add.si(1, 2).set(headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}),
}
"""What is published, by name."""

for each in ("chord_of_50", "chain_of_5", "publish_in_vain"):
    app.task(name=f"start_{each}")(starting(each))


def publish(kinds: list[str]) -> None:
    """Publish them on behalf of a tenant, each within a span if that is asked for, and say which trace that is."""
    request = os.environ.get("TRACED_REQUEST")
    context.attach(baggage.set_baggage("tenant", "acme"))
    for kind in kinds:
        with trace.get_tracer("web").start_as_current_span(request) if request else nullcontext():
            with suppress(EncodeError):
                starting(kind)()
            print(kind, f"{trace.get_current_span().get_span_context().trace_id:032x}")
    print("left", trace.get_current_span().get_span_context().span_id)


if __name__ == "__main__":
    app.set_current()  # as apps are, but for those of tests
    if BY_OPENTELEMETRY:
        trace_as_documented()
    elif os.environ.get("TRACED_REQUEST") and PROVIDER != "app":
        provide()
    publish(sys.argv[1:])
