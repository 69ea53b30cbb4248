"""The spans of attempts: made where they are executed, or by the main process for those whose end no child can tell.

Whoever executes an attempt begins its span and makes it current, so that spans of databases and HTTP clients are in
it. Its id follows from the task, so that the main process, which has the message too, can tell the end of a span that
was begun in a child it killed or lost. What is kept of a span stands in the request's own context, as in
``executions``.
"""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from celery import signals
from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import INVALID_SPAN, Link, SpanContext, SpanKind, StatusCode, TraceFlags

from celery_observe.attempt import unix_time, waited
from celery_observe.fact import Outcome
from celery_observe.masking import mask_text
from celery_observe.tracing import conventions as names
from celery_observe.tracing.conventions import CALL, DISCARD, PROCESS, WAIT, Operation, span_id_of, trace_id_of
from celery_observe.tracing.provider import provider
from celery_observe.worker.guard import handler, harmless, tried
from celery_observe.worker.headers import ATTEMPT, CHORD, ENTRY, PUBLISHED, RECEIVED, seconds_of
from celery_observe.worker.logs import stack
from celery_observe.worker.queues import queue_names
from celery_observe.worker.reporter import reporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextvars import Token

    from opentelemetry.trace import Span, Tracer

    from celery_observe.report import Execution
    from celery_observe.settings import Settings

_NOTE = "_celery_observe_span"
_TOLD = "_celery_observe_span_told"
_LIKE_TRACEPARENT = re.compile(r"00-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})")
_MOST_LINKS = 128
"""Links to the header of a chord: as many as a span has, unless OTEL_SPAN_LINK_COUNT_LIMIT says otherwise."""
_LONGEST = 2000  # characters of an exception's text
_IF_SAID = (
    (names.PARENT_ID, "parent_id"),
    (names.ETA, "eta"),
    (names.ENTRY, ENTRY),
    (names.GROUP_ID, "group"),
    (names.GROUP_INDEX, "group_index"),
)
"""Attributes that stand in a message as they are, if they do."""
KINDS = {each: SpanKind[each.kind] for each in vars(names).values() if isinstance(each, Operation)}


class Style:
    """How spans are made, as the settings say."""

    links = False
    waits = False
    texts = False

    def settle(self, settings: Settings) -> None:
        """Do so from now on."""
        self.links, self.waits = settings.tracing_links, settings.tracing_waits
        self.texts = settings.tracing_exception_text


style = Style()
"""That of this process and its children."""


class Note:
    """What is kept of the span of an attempt while it executes."""

    __slots__ = ("around", "span", "token")

    def __init__(self, span: Span, around: Context) -> None:
        self.span = span
        self.around = around
        self.token: Token[Context] | None = None


class _Fields(Getter[Any]):
    """Reads the headers of a message from the fields of its request."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        value = carrier.get(key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Any) -> list[str]:
        return list(carrier)


FIELDS = _Fields()
_retried: ContextVar[tuple[str | None, SpanContext | None]] = ContextVar("celery_observe_retried", default=(None, None))
"""The last call here that is to be retried: Celery does so in place, at once (``celery/app/task.py: Task.apply``)."""


def begin(task: Any, **_: Any) -> None:
    """Begin the span of an attempt, or of a task that is called in place, and make it current."""
    tracer = provider.tracer
    if tracer is None:
        return
    fields = vars(task.request_stack.top)
    name = fields.get("shadow") or task.name
    if fields.get("is_eager"):
        note = _called(tracer, name, fields)
    else:
        now = time.time_ns()
        remote = propagate.extract(fields, Context(), FIELDS)
        note = Note(_start(tracer, PROCESS, name, fields, remote, now), remote)
        if style.waits:
            _tell_wait(tracer, name, fields, remote, now)
    fields[_NOTE] = note
    note.token = attach(trace.set_span_in_context(note.span, note.around))


def _called(tracer: Tracer, name: str, fields: Mapping[str, Any]) -> Note:
    """Begin the span of a call, within whatever calls; that of a retry is linked to what it retries."""
    around = trace.set_span_in_context(trace.get_current_span())
    retries = fields.get("retries") or 0
    uuid, before = _retried.get()
    links = [Link(before, {names.LINK: names.PREVIOUS_ATTEMPT})] if retries and before and uuid == fields["id"] else []
    provider.want(None, None)
    attributes = {names.TASK: name, names.RETRIES: retries}
    return Note(tracer.start_span(names.span_name(CALL, name), around, KINDS[CALL], attributes, links), around)


def _start(
    tracer: Tracer, operation: Operation, name: str, fields: Mapping[str, Any], remote: Context, start: int
) -> Span:
    """Begin the span of an attempt: within the one that published it, or in a trace of its own with a link to that."""
    attempt, origin, around = _attempt(fields), trace.get_current_span(remote).get_span_context(), remote
    trace_id = None
    links = [*_header(fields, origin), *_previous(fields)]
    if style.links:
        around = trace.set_span_in_context(INVALID_SPAN, remote)
        trace_id = trace_id_of("\0".join(attempt))
        if origin.is_valid:
            links.append(Link(origin, {names.LINK: names.CREATION}))
    elif not origin.is_valid:
        trace_id = trace_id_of(root_of(fields))
    provider.want(trace_id, span_id_of(operation, *attempt))
    attributes = _attributes(operation, name, fields, start)
    return tracer.start_span(names.span_name(operation, name), around, KINDS[operation], attributes, links, start)


def _attempt(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what tells this attempt from all others, as child and main process know it.

    A task of a group is known by its place in it, so that the body of a chord can link to the whole header.
    """
    info = fields.get("delivery_info") or {}
    again = (str(fields.get(RECEIVED)),) if info.get("redelivered") else ()
    group, index = fields.get("group"), fields.get("group_index")
    subject = _place(group, index) if group and index is not None else str(fields["id"])
    return subject, str(fields.get("retries") or 0), str(fields.get("replaced_task_nesting") or 0), *again


def _place(group: str, index: int) -> str:
    return f"{group}:{index}"


def root_of(fields: Mapping[str, Any]) -> str:
    """Return what all messages have in common that belong to one trace though nobody has begun one."""
    root, own = fields.get("root_id"), fields.get("id")
    return str(root if root and root != own else fields.get("group") or own)


def _header(fields: Mapping[str, Any], origin: SpanContext) -> Iterator[Link]:
    """Yield a link to each task in the header of the chord whose body this is; to its first attempt if it was retried.

    All are of one trace, unless each attempt has its own.
    """
    chord = fields.get(CHORD)
    if not isinstance(chord, dict) or not isinstance(chord.get("size"), int):
        return
    flags = origin.trace_flags if origin.is_valid else TraceFlags(TraceFlags.SAMPLED)
    shared = origin.trace_id if origin.is_valid else trace_id_of(root_of(fields))
    for index in range(min(chord["size"], _MOST_LINKS)):
        attempt = _place(chord.get("group", ""), index), "0", "0"
        trace_id = trace_id_of("\0".join(attempt)) if style.links else shared
        context = SpanContext(trace_id, span_id_of(PROCESS, *attempt), is_remote=True, trace_flags=flags)
        yield Link(context, {names.LINK: names.CHORD_HEADER})


def _previous(fields: Mapping[str, Any]) -> Iterator[Link]:
    """Yield a link to the attempt before."""
    text = fields.get(ATTEMPT)
    match = _LIKE_TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if match is not None:
        trace_id, span_id, flags = (int(part, 16) for part in match.groups())
        context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
        yield Link(context, {names.LINK: names.PREVIOUS_ATTEMPT})


def _attributes(operation: Operation, name: str, fields: Mapping[str, Any], start: int) -> dict[str, Any]:
    """Return what is known of an attempt when it starts, at ``start`` in nanoseconds."""
    info, own = fields.get("delivery_info") or {}, fields.get("id")
    found = {
        names.SYSTEM: names.CELERY,
        names.OPERATION_NAME: operation.name,
        names.OPERATION_TYPE: operation.type,
        names.MESSAGE_ID: own,
        names.CONVERSATION_ID: fields.get("root_id") or own,
        names.CLIENT_ID: fields.get("hostname") or reporter.hostname,
        names.TASK: name,
        names.RETRIES: fields.get("retries") or 0,
    }
    queue, chord = queue_names.of(info), fields.get(CHORD)
    if queue is not None:
        found[names.DESTINATION] = queue
    if info.get("redelivered"):
        found[names.REDELIVERED] = True
    for attribute, field in _IF_SAID:
        value = fields.get(field)
        if value is not None:
            found[attribute] = value
    if isinstance(chord, dict) and chord.get("size") is not None:
        found[names.CHORD_SIZE] = chord["size"]
    if operation is PROCESS:
        found |= _waits(fields, start / 1e9)
    return found


def _waits(fields: Mapping[str, Any], started: float) -> dict[str, float]:
    due = _due(fields)
    queue_wait = waited(seconds_of(fields.get(PUBLISHED)), due, started)
    worker_wait = waited(fields.get(RECEIVED), due, started)
    found = {} if queue_wait is None else {names.QUEUE_WAIT: queue_wait}
    if worker_wait is not None:
        found[names.WORKER_WAIT] = worker_wait
    return found


def _due(fields: Mapping[str, Any]) -> float | None:
    eta = fields.get("eta")
    return unix_time(eta) if eta else None


def _tell_wait(tracer: Tracer, name: str, fields: Mapping[str, Any], remote: Context, now: int) -> None:
    """Make a span of the time since the publish, or the ETA if that was later."""
    seconds = waited(seconds_of(fields.get(PUBLISHED)), _due(fields), now / 1e9)
    if seconds is not None:
        attributes = {names.TASK: name, names.MESSAGE_ID: fields["id"]}
        provider.want(None, None)
        started = now - round(seconds * 1e9)
        tracer.start_span(names.span_name(WAIT, name), remote, KINDS[WAIT], attributes, None, started).end(now)


# -- while it executes


def current_note(task: Any) -> Note | None:
    """Return what is kept of the span of what this task executes here; None if it executes nothing."""
    request = task.request_stack.top
    return vars(request).get(_NOTE) if request is not None else None


def enter(task: Any, state: str | None, ratio: float | None) -> None:
    """Note that an attempt has gone over to a state, None for one of Celery's own, of which so much is done."""
    note = current_note(task)
    if note is not None and note.span.is_recording():
        told = {names.STATE: state, names.PROGRESS: ratio}
        note.span.add_event(names.STATE, {key: value for key, value in told.items() if value is not None})


# -- how it ends


def ended(report: Execution, fields: dict[str, Any], task: Any = None, error: Any = None) -> None:
    """End the span of an attempt that is reported, with what it raised; and tell the report of its trace.

    Without a ``task`` this is the main process, of an attempt that no child tells of.
    """
    note: Note | None = fields.get(_NOTE)
    if note is None:
        if task is None and fields.setdefault(_TOLD, report) is report:  # Celery 5.7 tells of a hard time limit twice
            _tell(report, fields)
        return
    report.trace_id = _trace_id(note.span)
    if note.span.is_recording():
        _conclude(note.span, report.outcome, report.exception, error, task)
        if report.cause is not None:
            note.span.set_attribute(names.CAUSE, report.cause.value)
        note.span.end()


def _tell(report: Execution, fields: dict[str, Any]) -> None:
    """Make the span of an attempt that was begun in a child which is gone, or of a message that was not executed."""
    tracer = provider.tracer
    if tracer is None:
        return
    end = round(report.timestamp * 1e9)
    operation, start = (PROCESS, round(report.started * 1e9)) if report.started is not None else (DISCARD, end)
    remote = propagate.extract(fields, Context(), FIELDS)
    span = _start(tracer, operation, report.name, fields, remote, min(start, end))
    report.trace_id = _trace_id(span)
    if span.is_recording():
        _conclude(span, report.outcome, report.exception)
        if report.cause is not None:
            span.set_attribute(names.CAUSE, report.cause.value)
        span.end(end)


def ended_in_place(task: Any, outcome: Outcome, error: Any) -> None:
    """End the span of a task that was called in place."""
    note = current_note(task)
    if note is not None and note.span.is_recording():
        failed = outcome is Outcome.FAILED and isinstance(error, BaseException)
        _conclude(note.span, outcome, type(error).__name__ if failed else None, error, task)
        note.span.end()
        if outcome is Outcome.RETRIED:
            _retried.set((task.request_stack.top.id, note.span.get_span_context()))


def _conclude(span: Span, outcome: Outcome, exception: str | None, error: Any = None, task: Any = None) -> None:
    """Say how an attempt ended: what it raised, and whether that is an error."""
    span.set_attribute(names.OUTCOME, outcome.value)
    error = getattr(error, "exc", None) if outcome is Outcome.RETRIED else error
    expected = isinstance(error, getattr(task, "throws", None) or ())
    if outcome in names.ERRORS and not expected:
        span.set_status(StatusCode.ERROR)
        if exception is not None:
            span.set_attribute(names.ERROR_TYPE, exception)
    if outcome in {Outcome.FAILED, Outcome.RETRIED}:
        if isinstance(error, BaseException):
            record(span, error)
        elif exception is not None:
            span.add_event(names.EXCEPTION, {names.EXCEPTION_TYPE: exception})


def record(span: Span, error: BaseException) -> None:
    """Tell of an exception: its class and where it was raised, its text only if asked for."""
    kind = type(error)
    module = f"{kind.__module__}." if kind.__module__ != "builtins" else ""
    told = {
        names.EXCEPTION_TYPE: f"{module}{kind.__qualname__}",
        names.EXCEPTION_STACKTRACE: stack(error, texts=False),
    }
    text, _ = tried(str, error) if style.texts else (None, False)  # it is made by code of the user's own
    if text is not None:
        told[names.EXCEPTION_MESSAGE] = mask_text(text[:_LONGEST])
    span.add_event(names.EXCEPTION, told)


def _trace_id(span: Span) -> str | None:
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.trace_flags.sampled else None


def leave(task: Any, **_: Any) -> None:
    """Make current what was so before. A span that has not ended is dropped: the main process tells of it."""
    note: Note | None = vars(task.request_stack.top).pop(_NOTE, None)
    if note is not None and note.token is not None:
        detach(note.token)


def close(**_: Any) -> None:
    """Send what has ended before this child of the pool ends."""
    provider.close()


def flush(**_: Any) -> None:
    """Send what has ended before this worker ends."""
    provider.flush()


FIRST = ((signals.task_prerun, handler(begin, amid_task=True)),)
LAST = (
    (signals.task_postrun, harmless(leave)),  # turned off meanwhile or not
    (signals.worker_process_shutdown, harmless(close)),
    (signals.worker_shutdown, harmless(flush)),
)
