"""The spans of messages as they are published, by web processes, beat and tasks, and what messages carry of them.

The context goes along as the app's propagators write it. A retry keeps that of the first publish, so that attempts
stand side by side however many there are, and names the span of the attempt that asked for it.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from celery import signals
from celery._state import get_current_task
from celery.canvas import group
from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, StatusCode

from celery_observe.tracing import conventions as names
from celery_observe.tracing.conventions import BEAT, PUBLISH, trace_id_of
from celery_observe.tracing.provider import provider
from celery_observe.worker.guard import handler, harmless
from celery_observe.worker.headers import ATTEMPT, CHORD
from celery_observe.worker.queues import queue_names
from celery_observe.worker.spans import FIELDS, KINDS, current_note, record, root_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from opentelemetry.trace import Span


class _Publish:
    """A span that is current while something is published."""

    __slots__ = ("before", "headers", "span", "token")

    def __init__(self, span: Span, headers: dict[str, Any], before: _Publish | None) -> None:
        self.span = span
        self.headers = headers
        self.before = before
        self.token: Token[Context] | None = None


_publishing: ContextVar[_Publish | None] = ContextVar("celery_observe_publishing", default=None)
"""What is being published here, innermost first: one message may be published while another is."""
_sending: ContextVar[tuple[Span, Token[Context]] | None] = ContextVar("celery_observe_sending", default=None)
"""The span of the entry that beat is sending."""


def publish(sender: str, headers: dict[str, Any], exchange: str | None, routing_key: str | None, **_: Any) -> None:
    """Begin the span of a message that is about to be published, make it current, and send its context along."""
    tracer = provider.tracer
    if tracer is None:
        return
    carried = any(field in headers for field in propagate.get_global_textmap().fields)
    retried = _names_attempt(headers)
    found = {
        names.SYSTEM: names.CELERY,
        names.OPERATION_NAME: PUBLISH.name,
        names.OPERATION_TYPE: PUBLISH.type,
        names.DESTINATION: queue_names[exchange or "", routing_key or ""],
        names.MESSAGE_ID: headers.get("id"),
        names.CONVERSATION_ID: headers.get("root_id") or headers.get("id"),
        names.TASK: sender,
        names.RETRIES: headers.get("retries") or 0,
        names.PARENT_ID: headers.get("parent_id"),
        names.ETA: headers.get("eta"),
        names.GROUP_ID: headers.get("group"),
        names.GROUP_INDEX: headers.get("group_index"),
    }
    attributes = {key: value for key, value in found.items() if value is not None}
    context = trace.set_span_in_context(trace.get_current_span())
    alone = not trace.get_current_span().get_span_context().is_valid
    links = _creation(headers) if carried and not retried else []
    provider.want(trace_id_of(root_of(headers)) if alone and headers.get("group") else None, None)
    span = tracer.start_span(names.span_name(PUBLISH, sender), context, KINDS[PUBLISH], attributes, links)
    context = trace.set_span_in_context(span)
    if not carried:
        propagate.inject(headers, context)
    publishing = _Publish(span, headers, _publishing.get())
    _publishing.set(publishing)
    publishing.token = attach(context)


def _names_attempt(headers: dict[str, Any]) -> bool:
    """Name the attempt that publishes its own retry in the headers of that, and say whether this is one."""
    task = get_current_task()
    note = current_note(task) if task is not None else None
    if note is None or task.request_stack.top.id != headers.get("id"):
        return False
    if (headers.get("retries") or 0) <= (task.request_stack.top.retries or 0):
        return False
    context = note.span.get_span_context()
    headers[ATTEMPT] = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    return True


def _creation(headers: dict[str, Any]) -> list[Link]:
    """Return a link to the context that whoever publishes has put into the message."""
    context = trace.get_current_span(propagate.extract(headers, Context(), FIELDS)).get_span_context()
    return [Link(context, {names.LINK: names.CREATION})] if context.is_valid else []


def published(headers: dict[str, Any], **_: Any) -> None:
    """End the span of a message that was published."""
    publishing = _publishing.get()
    if publishing is not None and publishing.headers is headers:
        _end(publishing)


def not_published(error: BaseException, message: Any) -> None:
    """End the span of a message that could not be published, if it has come so far: of that there is no signal."""
    publishing = _publishing.get()
    if publishing is not None and publishing.headers is message[0]:
        if publishing.span.is_recording():
            fail(publishing.span, error)
        _end(publishing)


def fail(span: Span, error: BaseException) -> None:
    """Say of a span that this was raised in it."""
    span.set_attribute(names.ERROR_TYPE, type(error).__name__)
    span.set_status(StatusCode.ERROR)
    record(span, error)


def _end(publishing: _Publish) -> None:
    _publishing.set(publishing.before)
    if publishing.token is not None:
        detach(publishing.token)
    publishing.span.end()


# -- beat


def begin_entry(entry: str, lateness: float | None) -> None:
    """Begin a trace with a span for an entry that beat sends, so late after it was due, and make that current."""
    tracer = provider.tracer
    if tracer is None:
        return
    attributes: dict[str, Any] = {names.ENTRY: entry}
    if lateness is not None:
        attributes[names.LATENESS] = lateness
    provider.want(None, None)
    span = tracer.start_span(names.span_name(BEAT, entry), Context(), KINDS[BEAT], attributes)
    _sending.set((span, attach(trace.set_span_in_context(span))))


def end_entry(error: BaseException | None = None) -> None:
    """End it; with what was raised if it could not be sent."""
    sending = _sending.get()
    if sending is not None:
        span, token = sending
        _sending.set(None)
        detach(token)
        if error is not None and span.is_recording():
            fail(span, error)
        span.end()


# -- chords


@cache
def watch_chords() -> None:
    """Have the message of the body of a chord name the header, of which only who publishes the chord knows the size.

    ``group._freeze_group_tasks`` is where a group is told which chord it is the header of (``celery/canvas.py``, from
    5.3 to 5.7). The header of a generator is not counted, for that would exhaust it.
    """
    freeze = getattr(group, "_freeze_group_tasks", None)
    if freeze is None:
        return
    group._freeze_group_tasks = _noticed(freeze)  # noqa: SLF001 - there is no other place


def _noticed(freeze: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(freeze)
    def freeze_noticed(*args: Any, **named: Any) -> Any:
        frozen = freeze(*args, **named)
        _name_header(frozen, named.get("chord"))
        return frozen

    return freeze_noticed


@harmless
def _name_header(frozen: Any, body: Any) -> None:
    if isinstance(body, dict) and isinstance(frozen[1], list):
        options = body["options"]
        options["headers"] = {**(options.get("headers") or {}), CHORD: {"group": frozen[0], "size": len(frozen[1])}}


FIRST = ((signals.before_task_publish, handler(publish, amid_task=True)),)
LAST = ((signals.after_task_publish, harmless(published)),)  # turned off meanwhile or not
