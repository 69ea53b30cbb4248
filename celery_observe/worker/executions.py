"""The handlers that run for each attempt, where it is executed: in a pool child, thread or greenlet.

``task_prerun`` notes the time, ``task_failure`` the cause, ``task_postrun`` reports. What is noted stands in the
request's own context (``task.request``), which each execution has for itself in every pool.
"""

from __future__ import annotations

import resource
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

import msgspec
from billiard.einfo import ExceptionWithTraceback

from celery_observe.cause import Failure, diagnose
from celery_observe.fact import Cause, Detail, Outcome
from celery_observe.report import Execution, Running
from celery_observe.worker import canvas, logs
from celery_observe.worker.context import live_trace_id
from celery_observe.worker.course import Course
from celery_observe.worker.entry import entry_of
from celery_observe.worker.guard import tried
from celery_observe.worker.headers import FIRST_PUBLISHED, PUBLISHED, RECEIVED
from celery_observe.worker.interruption import interruption
from celery_observe.worker.labels import labeller
from celery_observe.worker.queues import queue_names
from celery_observe.worker.quotation import quotation
from celery_observe.worker.reporter import reporter
from celery_observe.worker.tracing import tracing

if TYPE_CHECKING:
    from collections.abc import Callable

_NOTE = "_celery_observe"
_OUTCOMES = {
    "SUCCESS": Outcome.SUCCEEDED,
    "FAILURE": Outcome.FAILED,
    "RETRY": Outcome.RETRIED,
    "REJECTED": Outcome.REJECTED,
    "IGNORED": Outcome.IGNORED,
}
_REPLACED = "Replaced by new task"
"""What ``Task.replace`` raises Ignore with (``celery/app/task.py``)."""
_KIB = 1024


class _Note(msgspec.Struct):
    """What is known of an attempt while it executes."""

    started: float
    clock: float
    cpu: float | None
    failure: Failure | None = None
    detail: Detail | None = None
    course: Course | None = None


class Meter:
    """Measures what an attempt uses, if asked to."""

    clock: Callable[[], float] | None = None
    """The CPU clock to read: of the process in prefork children, which execute one task at a time, else of the
    thread; None if not asked to, and where greenlets share a thread."""

    def measure(self, report: Execution, before: float) -> None:
        """Complete a report with the CPU seconds used since ``before``, and with the bytes that the process has had.

        Those are the most that it has grown to (``ru_maxrss``, getrusage(2)).
        """
        if self.clock is not None:
            report.cpu = self.clock() - before
            report.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


meter = Meter()
"""The one of this process and its children."""


def begin(task: Any, **_: Any) -> None:
    """Note the start of an attempt. Eager tasks are calls: no message, no queue, no attempt."""
    fields = vars(task.request_stack.top)
    if not fields.get("is_eager"):
        fields[_NOTE] = _Note(time(), perf_counter(), meter.clock() if meter.clock is not None else None)
        if labeller.is_wanted:
            _label(task)


def _label(task: Any) -> None:
    course = course_of(task)
    if course is not None:
        clock = perf_counter()
        labels, failed = tried(labeller.labels_of, task)
        course.label(labels, perf_counter() - clock, failed=failed)


def course_of(task: Any) -> Course | None:
    """Return that of the attempt which this task is executing here, from now on if it has none; None if there is none.

    ``Task.request`` would do, but makes a request where there is none.
    """
    request = task.request_stack.top
    note: _Note | None = vars(request).get(_NOTE) if request is not None else None
    if note is None or reporter.off:
        return None
    if note.course is None:
        note.course = Course(request.hostname or reporter.hostname, _running(task, request, note))
    return note.course


def _running(task: Any, request: Any, note: _Note) -> Running:
    fields = vars(request)
    return Running(
        uuid=request.id,
        name=request.shadow or task.name,
        started=note.started,
        queue=queue_names.of(request.delivery_info),
        retries=request.retries or 0,
        published=fields.get(PUBLISHED),
        received=fields.get(RECEIVED),
        eta=request.eta,
        canvas=canvas.canvas_of(fields),
    )


def is_executing(task: Any) -> bool:
    """Tell whether this task is being executed here, so that its end will be reported here too."""
    request = task.request_stack.top
    return request is not None and _NOTE in vars(request)


def note_failure(task: Any, exception: BaseException, einfo: Any) -> None:
    """Note why the attempt that is being executed here fails."""
    fields = vars(task.request_stack.top)
    note: _Note = fields[_NOTE]
    note.failure = explain(exception, einfo)
    note.detail = quotation.of(fields, einfo)


def explain(exception: BaseException, einfo: Any) -> Failure:
    """Name an exception and its cause; its text, which may hold arguments, is not looked at."""
    if isinstance(exception, ExceptionWithTraceback):
        exception = exception.exc
    if isinstance(exception, SystemExit):  # Celery before 5.7 does not turn it into WorkerLostError
        return Failure("SystemExit", Cause.WORKER_LOST)
    name = getattr(exception, "exc_cls_name", None) or type(exception).__name__
    return diagnose(f"{name}()", str(getattr(einfo, "traceback", "") or ""))


def end(task: Any, task_id: str, state: str | None, retval: Any, **_: Any) -> None:
    """Report the end of an attempt. One that was interrupted has no state: the main process, which did it, tells.

    Every task pays for this, in a process whose caches others use: what is rare is not called to find out.
    """
    if interruption.timer is not None:
        interruption.cancel()
    fields = vars(task.request_stack.top)
    note: _Note | None = fields.pop(_NOTE, None)
    outcome = _OUTCOMES.get(state or "")
    if outcome is None:
        return
    if note is None:
        _end_in_place(task, outcome, retval)
        return
    field = fields.get
    report = Execution(
        timestamp=time(),
        hostname=field("hostname") or reporter.hostname,
        uuid=task_id,
        name=field("shadow") or task.name,
        outcome=outcome,
        queue=queue_names.of(field("delivery_info")),
        retries=field("retries") or 0,
        started=note.started,
        runtime=perf_counter() - note.clock,
        published=field(PUBLISHED),
        first_published=field(FIRST_PUBLISHED),
        received=field(RECEIVED),
        eta=field("eta"),
        canvas=canvas.canvas_of(fields),
    )
    if report.canvas is not None or task.name in canvas.TELLING:
        canvas.complete(report, task, fields)
    if outcome is Outcome.SUCCEEDED:
        report.entry = entry_of(task, fields)
    else:
        _complete(report, note, retval)
    if note.cpu is not None:
        meter.measure(report, note.cpu)
    if note.course is not None:
        note.course.end(report)
    if tracing.spans is not None:
        tracing.spans.ended(report, fields, task, retval)
    else:
        report.trace_id = live_trace_id(recorded=True)
    reporter.send(report)
    if logs.lines.on:
        logs.ended(report, fields, task, retval)


def _end_in_place(task: Any, outcome: Outcome, retval: Any) -> None:
    logs.ended_in_place(task, outcome, retval)
    if tracing.spans is not None:
        tracing.spans.ended_in_place(task, outcome, retval)


def _complete(report: Execution, note: _Note, retval: Any) -> None:
    """Add what there is to tell of an attempt that did not succeed."""
    if report.outcome is Outcome.FAILED and note.failure is not None:
        report.exception, report.cause = note.failure
        report.detail = note.detail
    elif report.outcome is Outcome.REJECTED:
        report.requeued = bool(getattr(retval, "requeue", False))
    elif report.outcome is Outcome.IGNORED and getattr(retval, "args", ())[:1] == (_REPLACED,):
        report.outcome = Outcome.REPLACED
