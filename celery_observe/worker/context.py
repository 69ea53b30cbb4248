"""What log entries tell of the task that they belong to, bound to structlog's context while it executes.

That context is made of context variables, so each thread and greenlet has its own, and the async code of a task has its
task's. Where nobody has imported structlog there is nobody to look at it, or to have put anything into it: nothing
happens then. In a worker that is settled before we import structlog ourselves.

What the publisher had bound goes along in a header, if it is on the list of what may: short texts and whole numbers.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from celery_observe.worker.headers import CONTEXT
from celery_observe.worker.queues import queue_names
from celery_observe.worker.reporter import reporter

_BEFORE = "_celery_observe_context"
_OF_THE_TASK = frozenset({"task_id", "task", "root_id", "parent_id", "retries", "queue"})
"""What says nothing of another task, which this one calls in place."""
_OF_LOGGING = {*vars(logging.makeLogRecord({})), "asctime", "event", "level", "logger", "message", "timestamp"}
"""What the entries of logging call something else."""
_UNKNOWN = (None, "")
_LONGEST = 128  # characters of a text
_LARGEST = 2**63 - 1  # whole numbers of AMQP 0-9-1
_TRACEPARENT = re.compile(r"[\da-f]{2}-(?!0{32})([\da-f]{32})-[\da-f]{16}-[\da-f]{2}")
"""W3C Trace Context, 3.2."""


class Carried:
    """What goes along with messages, of what is bound where they are published."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()

    def allow(self, names: Iterable[str]) -> None:
        """Let these go along, and no others; the names of what every entry has mean that, and are left out."""
        self.names = tuple(name for name in names if name not in _OF_LOGGING)

    def of(self, values: Any) -> dict[str, str | int]:
        """Return what may go along of a context, or be taken from a header, whatever that is."""
        if not isinstance(values, Mapping):
            return {}
        found = {name: _plain(values.get(name)) for name in self.names}
        return {name: value for name, value in found.items() if value is not None}


def _plain(value: Any) -> str | int | None:
    """Return a value that any broker carries and any log can show; None if it is none."""
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else None
    if not isinstance(value, str | UUID):
        return None
    text = str(value)
    return text if 0 < len(text) <= _LONGEST and text.isprintable() else None


carried = Carried()
"""The list of this process and its children."""


class Binding:
    """Whether there is a context at all."""

    wanted = True
    """Whether anybody may look at it, if structlog is imported."""

    def settle(self, *, logging: bool) -> None:
        """Want it from now on only if we log, or the app has imported structlog by now."""
        self.wanted = logging or "structlog" in sys.modules

    @property
    def variables(self) -> Any:
        """The module of structlog's that holds it; None without."""
        return sys.modules.get("structlog.contextvars") if self.wanted else None


binding = Binding()
"""That of this process and its children."""


def carry(headers: dict[str, Any], **_: Any) -> None:
    """Send along what is bound here; without any, what the message has already."""
    variables = binding.variables
    if variables is None or not carried.names:
        return
    found = carried.of(variables.get_contextvars())
    if found:
        headers[CONTEXT] = found


def bind(fields: dict[str, Any], known: dict[str, Any]) -> None:
    """Bind what is known of an attempt, which has this request, when it starts; of one that is called in place too."""
    variables = binding.variables
    if variables is None:
        return
    before = fields[_BEFORE] = variables.get_contextvars()
    if before:
        stale = _OF_THE_TASK if fields.get("is_eager") else _OF_THE_TASK.union(carried.names, ("trace_id",))
        variables.unbind_contextvars(*stale.intersection(before).difference(known))
    variables.bind_contextvars(**known)


def restore(task: Any, **_: Any) -> None:
    """Bind what was bound before, and only that, when an attempt ends, whatever it has bound itself."""
    before = vars(task.request_stack.top).pop(_BEFORE, None)
    if before is not None:
        variables = sys.modules["structlog.contextvars"]
        variables.clear_contextvars()
        variables.bind_contextvars(**before)


def describe(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of an attempt, by the fields of its message or request, and what came along with it."""
    known = {
        "task_id": fields.get("id"),
        "task": fields.get("shadow") or fields.get("task"),
        "root_id": fields.get("root_id"),
        "parent_id": fields.get("parent_id"),
        "retries": fields.get("retries") or 0,
        "queue": queue_names.of(fields.get("delivery_info")),
        "worker": reporter.hostname if fields.get("is_eager") else fields.get("hostname") or reporter.hostname,
        "trace_id": live_trace_id() or _sent_trace_id(fields.get("traceparent")),
    }
    return carried.of(fields.get(CONTEXT)) | {name: value for name, value in known.items() if value not in _UNKNOWN}


def live_trace_id(*, recorded: bool = False) -> str | None:
    """Return the id of OpenTelemetry's current trace; None where no span is active, or ``recorded`` if that matters."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    span = trace.get_current_span().get_span_context()
    return f"{span.trace_id:032x}" if span.is_valid and (span.trace_flags.sampled or not recorded) else None


def _sent_trace_id(traceparent: Any) -> str | None:
    match = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return match[1] if match else None
