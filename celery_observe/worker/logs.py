"""One log entry for each point in the life of a task: published, received, started, and how it ended.

They go through the logger ``celery_observe.tasks`` of the standard library, all that is known as fields of the record.
Arguments and results are not among them; nor are the texts of exceptions, which may quote arguments, unless asked for.
Celery's own entries for the same points would double ours, and quote all of these: they are left out.
"""

from __future__ import annotations

import logging
import time
import traceback
from typing import TYPE_CHECKING, Any

from celery_observe.fact import Outcome
from celery_observe.worker import context
from celery_observe.worker.guard import harmless
from celery_observe.worker.headers import PUBLISHED, seconds_of
from celery_observe.worker.queues import queue_names
from celery_observe.worker.reporter import reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_observe.report import Execution
    from celery_observe.settings import Settings

log = logging.getLogger("celery_observe.tasks")

_FRAMES = 20
"""The innermost frames of a traceback that are logged."""
_LINKS = 5
"""Exceptions of a chain of causes that are logged."""
_ENDED = "_celery_observe_ended"
_LEVELS = {
    Outcome.FAILED: logging.ERROR,
    Outcome.UNREGISTERED: logging.ERROR,
    Outcome.REJECTED: logging.WARNING,
    Outcome.TERMINATED: logging.WARNING,
    Outcome.CANCELLED: logging.WARNING,
}


class Lines:
    """Which entries there are."""

    form = "off"
    """The form of the worker's log: console, json, or off, if there are no entries."""
    texts = False
    """Whether they have the texts of exceptions."""

    @property
    def on(self) -> bool:
        """Whether there are any."""
        return self.form != "off"

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        """Log an entry; fields that are None are left out."""
        if self.on and log.isEnabledFor(level):
            log.log(level, event, extra={name: value for name, value in fields.items() if value is not None})


lines = Lines()
"""The ones of this process and its children."""


def set_up(settings: Settings) -> None:
    """Do as the settings say, from now on."""
    context.carried.allow(settings.log_context)
    lines.texts = settings.log_exception_text
    lines.form = settings.logs
    if lines.on:
        for name in _NAMESAKES:
            logging.getLogger(name).addFilter(is_new)


def introduce(task: Any, **_: Any) -> None:
    """Bind what an attempt is called, and log that it starts."""
    if lines.on or context.binding.variables is not None:
        fields = vars(task.request_stack.top)
        known = context.describe(fields)
        context.bind(fields, known)
        lines.write(logging.INFO, "task started", known | {"eager": fields.get("is_eager") or None})


def published(headers: dict[str, Any], exchange: str, routing_key: str, **_: Any) -> None:
    """Log that a task was published, and how long that took; the worker that did it, if one did, is bound."""
    known = context.describe(headers)
    known["queue"] = queue_names[exchange or "", routing_key or ""]
    since = seconds_of(headers.get(PUBLISHED))
    known["seconds"] = time.time() - since if since is not None else None
    known["worker"] = None
    lines.write(logging.INFO, "task published", known)


def not_published(name: str, queue: str | None, kind: type[BaseException]) -> None:
    """Log that publishing a task raised an exception."""
    known = {"task": name, "queue": queue, "exception_type": kind.__name__}
    lines.write(logging.ERROR, "task not published", known)


def received(request: Any, **_: Any) -> None:
    """Log that a worker took a message for a task."""
    info = request.delivery_info
    known = context.describe(request.request_dict)
    known["eta"] = request.request_dict.get("eta")
    known["priority"] = info.get("priority")
    known["redelivered"] = bool(info.get("redelivered")) or None
    lines.write(logging.INFO, "task received", known)


def refused(sender: Any, **_: Any) -> None:
    """Log that a worker got a message that is no task."""
    lines.write(logging.ERROR, "message refused", {"worker": sender.hostname})


def unknown(sender: Any, message: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002 - a signal's
    """Log that a worker got a message for a task that it does not have."""
    known = context.describe(message.headers or {}) | {
        "task": name,
        "task_id": id,
        "worker": sender.hostname,
        "queue": queue_names.of(message.delivery_info),
    }
    _write_end(Outcome.UNREGISTERED, known)


def ended(report: Execution, fields: dict[str, Any], task: Any = None, error: Any = None) -> None:
    """Log how an attempt ended, as it is reported; with the fields of its request and, where it ran, what it raised."""
    if lines.on and not _is_told(report, fields, task):
        known = context.describe(fields) | {
            "worker": report.hostname,
            "queue": report.queue,
            "runtime": report.runtime,
            "requeued": report.requeued or None,
            "cause": report.cause.value if report.cause else None,
            "exception_type": report.exception,
        }
        _write_end(report.outcome, known, task, error)


def _is_told(report: Execution, fields: dict[str, Any], task: Any) -> bool:
    """Tell whether that end has an entry already, or gets one elsewhere.

    The main process says of a message acknowledged late that it went back; all other rejections are said where they
    were raised. Celery 5.7 tells of a hard time limit twice.
    """
    late = task is None or task.acks_late
    if report.outcome is Outcome.REJECTED and late and report.requeued == (task is not None):
        return True
    return fields.setdefault(_ENDED, report) is not report


def ended_in_place(task: Any, outcome: Outcome, error: Any) -> None:
    """Log how an attempt ended that is a call: nothing is reported of it."""
    fields = vars(task.request_stack.top)
    if lines.on and fields.get("is_eager"):
        _write_end(outcome, context.describe(fields) | {"eager": True}, task, error)


def _write_end(outcome: Outcome, known: dict[str, Any], task: Any = None, error: Any = None) -> None:
    level = _LEVELS.get(outcome, logging.INFO)
    error = getattr(error, "exc", error) if outcome is Outcome.RETRIED else error
    if isinstance(error, BaseException) and outcome in {Outcome.FAILED, Outcome.RETRIED}:
        known = known | {"exception_type": known.get("exception_type") or type(error).__name__}
        if isinstance(error, task.throws or ()):
            level = logging.INFO
        elif outcome is Outcome.FAILED:
            known["exception"] = stack(error, texts=lines.texts)
    lines.write(level, f"task {outcome.value}", known | {"outcome": outcome.value})


def stack(error: BaseException, *, texts: bool) -> str:
    """Return where an exception was raised, and what caused it; as Python prints it, but for the texts unless asked."""
    if texts:
        return "".join(traceback.format_exception(error, limit=-_FRAMES)).rstrip()
    return "\n".join(reversed([_where(link) for link in _chain(error)]))


def _where(error: BaseException) -> str:
    frames = traceback.format_tb(error.__traceback__, limit=-_FRAMES)
    return f"Traceback (most recent call last):\n{''.join(frames)}{type(error).__name__}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_LINKS):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# -- what Celery logs of the same

_NAMESAKES = (
    "celery.app.trace",
    "celery.concurrency.base",
    "celery.worker.consumer.consumer",
    "celery.worker.request",
    "celery.worker.strategy",
)
"""The loggers of Celery's own entries."""
_TOLD = (
    "Can't decode message body",
    "Discarding revoked task",
    "Received and deleted unknown message",
    "Received invalid task message",
    "Received unregistered task",
    "Task %s[%s] retry",
    "Task handler raised error",
    "TaskPool: Apply",
)
"""How those begin that ours tell of, or that quote arguments; others have ``data`` (``celery/app/trace.py``)."""
_QUOTING = "Couldn't convert ETA"
"""How that begins which quotes arguments and that ours do not tell of (``celery/worker/strategy.py``)."""


def is_new(record: logging.LogRecord) -> bool:
    """Tell whether an entry of Celery's says what ours do not; a filter. Without ours, everything is new."""
    _judge(record)
    return "_celery_observe_told" not in vars(record)


@harmless
def _judge(record: logging.LogRecord) -> None:
    if reporter.off or not lines.on:
        return
    text = record.msg if isinstance(record.msg, str) else ""
    if "data" in vars(record) or text.startswith(_TOLD):
        record._celery_observe_told = True  # noqa: SLF001 - a name of ours
    elif text.startswith(_QUOTING):
        record.msg, record.args, record.exc_info = "The ETA of a task cannot be converted", (), None
