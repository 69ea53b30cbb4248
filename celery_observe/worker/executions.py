"""The handlers that run for each attempt, where it is executed: in a pool child, thread or greenlet.

``task_prerun`` notes the time, ``task_failure`` the cause, ``task_postrun`` reports. What is noted stands in the
request's own context (``task.request``), which each execution has for itself in every pool. Where a child only
measures, ``tracer`` takes the place of the first and the last.
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


class Note(msgspec.Struct):
    """What is known of an attempt while it executes."""

    started: float
    clock: float
    cpu: float | None
    failure: Failure | None = None
    detail: Detail | None = None
    course: Course | None = None


class Surrounded:
    """The attempt that a child executes, if that is noted from around the tracer; one at a time."""

    uuid: str | None = None
    note: Note | None = None


surrounded = Surrounded()
"""That of this process."""


def _note_of(request: Any) -> Note | None:
    """Return what is noted of the attempt that has this request; None if it is none that is executed here."""
    if request is None:
        return None
    note: Note | None = vars(request).get(_NOTE)
    if note is None and request.id == surrounded.uuid and not request.is_eager:
        return surrounded.note
    return note


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
    """Note the start of an attempt, unless that was done. Eager tasks are calls: no message, no queue, no attempt."""
    fields = vars(task.request_stack.top)
    if not fields.get("is_eager") and surrounded.note is None:
        fields[_NOTE] = noted()
        if labeller.is_wanted:
            _label(task)


def noted() -> Note:
    """Return what is to be noted when an attempt starts."""
    return Note(time(), perf_counter(), meter.clock() if meter.clock is not None else None)


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
    note = _note_of(request)
    if note is None or reporter.off:
        return None
    if note.course is None:
        note.course = Course(request.hostname or reporter.hostname, _running(task, request, note))
    return note.course


def _running(task: Any, request: Any, note: Note) -> Running:
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
    return _note_of(task.request_stack.top) is not None


def note_failure(task: Any, exception: BaseException, einfo: Any) -> None:
    """Note why the attempt that is being executed here fails."""
    request = task.request_stack.top
    note = _note_of(request)
    if note is not None:
        note.failure = explain(exception, einfo)
        note.detail = quotation.of(vars(request), einfo)


def explain(exception: BaseException, einfo: Any) -> Failure:
    """Name an exception and its cause; its text, which may hold arguments, is not looked at."""
    if isinstance(exception, ExceptionWithTraceback):
        exception = exception.exc
    if isinstance(exception, SystemExit):  # Celery before 5.7 does not turn it into WorkerLostError
        return Failure("SystemExit", Cause.WORKER_LOST)
    name = getattr(exception, "exc_cls_name", None) or type(exception).__name__
    return diagnose(f"{name}()", str(getattr(einfo, "traceback", "") or ""))


def end(task: Any, task_id: str, state: str | None, retval: Any, **_: Any) -> None:
    """Report the end of an attempt. One that was interrupted has no state: the main process, which did it, tells."""
    settle()
    fields = vars(task.request_stack.top)
    note: Note | None = fields.pop(_NOTE, None)
    if note is not None:
        report(task, task_id, fields, note, state, retval)
    elif state in _OUTCOMES:
        _end_in_place(task, _OUTCOMES[state], retval)


def settle() -> None:
    """Have what was to come at a task that has ended come no more."""
    if interruption.timer is not None:
        interruption.cancel()


def report(task: Any, uuid: str, fields: dict[str, Any], note: Note, state: str | None, retval: Any) -> None:
    """Report the end of an attempt in one of Celery's states, by the fields of its request and what was noted.

    Every task pays for this, in a process whose caches others use: what is rare is not called to find out.
    """
    outcome = _OUTCOMES.get(state or "")
    if outcome is None:
        return
    field = fields.get
    execution = Execution(
        timestamp=time(),
        hostname=field("hostname") or reporter.hostname,
        uuid=uuid,
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
    if execution.canvas is not None or task.name in canvas.TELLING:
        canvas.complete(execution, task, fields)
    if outcome is Outcome.SUCCEEDED:
        execution.entry = entry_of(task, fields)
    else:
        _complete(execution, note, retval)
    if note.cpu is not None:
        meter.measure(execution, note.cpu)
    if note.course is not None:
        note.course.end(execution)
    if tracing.spans is not None:
        tracing.spans.ended(execution, fields, task, retval)
    else:
        execution.trace_id = live_trace_id(recorded=True)
    reporter.send(execution)
    if logs.lines.on:
        logs.ended(execution, fields, task, retval)


def _end_in_place(task: Any, outcome: Outcome, retval: Any) -> None:
    logs.ended_in_place(task, outcome, retval)
    if tracing.spans is not None:
        tracing.spans.ended_in_place(task, outcome, retval)


def _complete(execution: Execution, note: Note, retval: Any) -> None:
    """Add what there is to tell of an attempt that did not succeed."""
    if execution.outcome is Outcome.FAILED and note.failure is not None:
        execution.exception, execution.cause = note.failure
        execution.detail = note.detail
    elif execution.outcome is Outcome.REJECTED:
        execution.requeued = bool(getattr(retval, "requeue", False))
    elif execution.outcome is Outcome.IGNORED and getattr(retval, "args", ())[:1] == (_REPLACED,):
        execution.outcome = Outcome.REPLACED
