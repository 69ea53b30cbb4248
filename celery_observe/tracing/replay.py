"""Attempts that have ended → the spans that live tracing would have made of them, as far as events tell.

An attempt is a ``process`` span, or ``discard`` if it never started; its message is a ``publish`` span, if
``task-sent`` was read. Attempts of one task are siblings below its first publish, each linked to the one before; a
task is below the attempt that published it. Ids follow from what events carry: all who read the same events make the
same spans, and nothing has to be remembered.

Pure, and without OpenTelemetry: ``replay_export`` turns these into its objects. Times are Unix seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from celery_observe.attempt import between_hosts
from celery_observe.cause import UNKNOWN
from celery_observe.fact import AttemptId, Outcome
from celery_observe.tracing.conventions import (
    CAUSE,
    CELERY,
    CLIENT_ID,
    CONVERSATION_ID,
    DESTINATION,
    DISCARD,
    END_ESTIMATED,
    ERROR_TYPE,
    ERRORS,
    ETA,
    EXCEPTION,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    MESSAGE_ID,
    OPERATION_NAME,
    OPERATION_TYPE,
    OUTCOME,
    PARENT_ID,
    PREVIOUS_ATTEMPT,
    PROCESS,
    PUBLISH,
    QUEUE_WAIT,
    REDELIVERED,
    RETRIES,
    SYSTEM,
    TASK,
    WAIT,
    WORKER_WAIT,
    Operation,
    span_id_of,
    span_name,
    trace_id_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from celery_observe.fact import Traced

Attribute = str | bool | int | float
Attributes = dict[str, Attribute]

_LATEST = float(1 << 33)
"""In Unix seconds: in the year 2242, and well below what 64 bits hold in nanoseconds."""
_NEVER_STARTED = frozenset({Outcome.REVOKED, Outcome.EXPIRED, Outcome.UNREGISTERED})


class Link(NamedTuple):
    """Another span of the same trace, and what it is to this one."""

    span: int
    why: str


class Event(NamedTuple):
    """What happened during a span."""

    name: str
    time: float
    attributes: Attributes


class Span(NamedTuple):
    """A span that has ended."""

    name: str
    operation: Operation
    trace: int
    id: int
    parent: int | None
    start: float
    end: float
    attributes: Attributes
    links: tuple[Link, ...] = ()
    events: tuple[Event, ...] = ()
    failed: bool = False
    """Whether its status is Error."""


def spans_of(traced: Traced, server: Mapping[str, Attribute], *, waits: bool = False) -> Iterator[Span]:
    """Yield the spans of one attempt, and of its wait if asked for; ``server`` are the attributes of its broker."""
    trace = trace_id_of(traced.root)
    common: Attributes = {
        SYSTEM: CELERY,
        MESSAGE_ID: traced.attempt.uuid,
        CONVERSATION_ID: traced.root,
        TASK: traced.task,
        RETRIES: traced.attempt.retries,
        **server,
    }
    if traced.queue != UNKNOWN:
        common[DESTINATION] = traced.queue
    if traced.parent is not None:
        common[PARENT_ID] = traced.parent.uuid
    eta = _moment(traced.eta)
    if eta is not None:
        common[ETA] = eta
    if traced.published is not None:
        yield _published(traced, traced.published, trace, common)
    if waits and traced.queue_wait is not None and traced.started is not None:
        yield _waited(traced, traced.started, trace, common)
    yield _settled(traced, trace, common)


def operation_of(traced: Traced) -> Operation:
    """Return what a worker did with a message: execute it, or only be done with it."""
    if traced.outcome in _NEVER_STARTED or (traced.outcome is Outcome.REJECTED and traced.started is None):
        return DISCARD
    return PROCESS


def _moment(eta: float | None) -> str | None:
    """Return an ETA as messages have it; None if it is none, or none that a calendar has."""
    try:
        return datetime.fromtimestamp(eta, UTC).isoformat() if eta is not None else None
    except (ValueError, OverflowError, OSError):
        return None


def _published(traced: Traced, at: float, trace: int, common: Attributes) -> Span:
    """Return the span of the message, which took no time as far as events tell.

    ``task-sent`` is made once the message is away (``celery/app/amqp.py: send_task_message``), so that a worker may
    have begun with it before: it was published by then.
    """
    above, at = traced.previous or traced.parent, _clamped(at)
    taken, _ = _times(traced, operation_of(traced))
    if between_hosts(at, taken) is not None:
        at = min(at, taken)
    return Span(
        name=span_name(PUBLISH, traced.task),
        operation=PUBLISH,
        trace=trace,
        id=_span_id(PUBLISH, traced.attempt),
        parent=_span_id(PROCESS, above) if above is not None else None,
        start=at,
        end=at,
        attributes=common | {OPERATION_NAME: PUBLISH.name, OPERATION_TYPE: PUBLISH.type or ""},
    )


def _waited(traced: Traced, started: float, trace: int, common: Attributes) -> Span:
    """Return the span of the time between the publish, or the ETA if that is later, and the start."""
    return Span(
        name=span_name(WAIT, traced.task),
        operation=WAIT,
        trace=trace,
        id=_span_id(WAIT, traced.attempt),
        parent=_parent(traced),
        start=_clamped(started - (traced.queue_wait or 0.0)),
        end=_clamped(started),
        attributes=common | {OPERATION_NAME: WAIT.name},
    )


def _settled(traced: Traced, trace: int, common: Attributes) -> Span:
    """Return the span of what became of the message."""
    operation = operation_of(traced)
    start, end = _times(traced, operation)
    attributes = common | dict(_told(traced, operation))
    failed = traced.outcome in ERRORS
    if failed:
        attributes[ERROR_TYPE] = traced.exception or traced.outcome.value
    return Span(
        name=span_name(operation, traced.task),
        operation=operation,
        trace=trace,
        id=_span_id(operation, traced.attempt),
        parent=_parent(traced),
        start=start,
        end=end,
        attributes=attributes,
        links=tuple(_links(traced)),
        events=tuple(_events(traced, end)),
        failed=failed,
    )


def _told(traced: Traced, operation: Operation) -> Iterator[tuple[str, Attribute]]:
    yield OPERATION_NAME, operation.name
    yield OPERATION_TYPE, operation.type or ""
    yield OUTCOME, traced.outcome.value
    for name, value in (
        (CLIENT_ID, traced.worker or None),
        (CAUSE, traced.cause.value if traced.cause is not None and traced.outcome is not Outcome.RETRIED else None),
        (QUEUE_WAIT, traced.queue_wait),
        (WORKER_WAIT, traced.worker_wait),
        (REDELIVERED, traced.redelivered or None),
        (END_ESTIMATED, traced.estimated or None),
    ):
        if value is not None:
            yield name, value


def _parent(traced: Traced) -> int | None:
    """Return the first publish of the task, if that is known, or else the attempt that published it."""
    if traced.first:
        return _span_id(PUBLISH, AttemptId(traced.attempt.uuid))
    return _span_id(PROCESS, traced.parent) if traced.parent is not None else None


def _times(traced: Traced, operation: Operation) -> tuple[float, float]:
    """Return start and end; where the start is not known, what is known comes as close as possible."""
    known = (traced.ended, traced.started, traced.received, traced.published)
    end = next((time for time in known if time), 0.0)
    start = traced.started
    if start is None and traced.runtime is not None:
        start = end - traced.runtime
    if start is None:
        start = traced.received if traced.received is not None else end
    end = _clamped(end)
    start = end if operation is DISCARD else _clamped(start)
    return start, max(start, end)


def _clamped(time: float) -> float:
    """Return a time that OTLP can tell: a producer may say anything."""
    return min(max(time, 0.0), _LATEST)


def _links(traced: Traced) -> Iterator[Link]:
    if traced.previous is not None:
        yield Link(_span_id(PROCESS, traced.previous), PREVIOUS_ATTEMPT)


def _events(traced: Traced, at: float) -> Iterator[Event]:
    """Yield what was raised: the class and the frames, never the text, which may quote arguments."""
    if traced.exception is not None:
        attributes: Attributes = {EXCEPTION_TYPE: traced.exception}
        if traced.frames is not None:
            attributes[EXCEPTION_STACKTRACE] = traced.frames
        yield Event(EXCEPTION, at, attributes)


def _span_id(operation: Operation, attempt: AttemptId) -> int:
    again = () if attempt.again is None else (attempt.again,)
    return span_id_of(operation, attempt.uuid, attempt.retries, *again)
