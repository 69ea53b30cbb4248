"""The handlers that run for each attempt, where it is executed: in a pool child, thread or greenlet.

``task_prerun`` notes the time, ``task_failure`` the cause, ``task_postrun`` reports. What is noted stands in the
request's own context (``task.request``), which each execution has for itself in every pool. Where a child only
measures, ``tracer`` takes the place of the first and the last.
"""

from __future__ import annotations

import resource
from operator import itemgetter
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

import msgspec
from billiard.einfo import ExceptionWithTraceback

from celery_observe.cause import Failure, diagnose
from celery_observe.fact import Cause, Detail, Outcome
from celery_observe.report import Execution, Running, Success, whole
from celery_observe.worker import canvas, logs
from celery_observe.worker.canvas import TELLING
from celery_observe.worker.context import live_trace_id
from celery_observe.worker.course import Course
from celery_observe.worker.entry import CELERY_ENTRY, DJANGO_ENTRY, entry_of
from celery_observe.worker.guard import Surrounded, tried
from celery_observe.worker.headers import ENTRY, FIRST_PUBLISHED, PUBLISHED, RECEIVED, seconds_of
from celery_observe.worker.interruption import interruption
from celery_observe.worker.labels import labeller
from celery_observe.worker.queues import queue_names
from celery_observe.worker.quotation import quotation
from celery_observe.worker.reporter import reporter
from celery_observe.worker.tracing import tracing

if TYPE_CHECKING:
    from collections.abc import Callable

_NOTE = "_celery_observe"
OUTCOMES = {
    "SUCCESS": Outcome.SUCCEEDED,
    "FAILURE": Outcome.FAILED,
    "RETRY": Outcome.RETRIED,
    "REJECTED": Outcome.REJECTED,
    "IGNORED": Outcome.IGNORED,
}
_SUCCEEDED = Outcome.SUCCEEDED  # to look a member up takes an enumeration as long as ten steps

_ATTEMPT = ("hostname", "shadow", "delivery_info", "retries", "eta", RECEIVED, "root_id")
_LINKED = ("group_index", "chain", "callbacks", "replaced_task_nesting")
_FIELDS = itemgetter(*_ATTEMPT, *_LINKED)
_ROUTE = itemgetter("exchange", "routing_key")
_UNSAID: dict[str, Any] = dict.fromkeys(_ATTEMPT + _LINKED)
_REPLACED = "Replaced by new task"
"""What ``Task.replace`` raises Ignore with (``celery/app/task.py``)."""
_KIB = 1024


class Note(msgspec.Struct, gc=False):
    """What is known of an attempt while it executes."""

    uuid: str | None = None
    """The task's id, where that is not told by where the note stands."""
    started: float = msgspec.field(default_factory=time)
    clock: float = msgspec.field(default_factory=perf_counter)
    cpu: float | None = None
    failure: Failure | None = None
    detail: Detail | None = None
    course: Course | None = None


surrounded = Surrounded[Note]()
"""The attempt that this process executes, if it is noted from around the tracer."""


def _note_of(request: Any) -> Note | None:
    """Return what is noted of the attempt that has this request; None if it is none that is executed here."""
    if request is None:
        return None
    note: Note | None = vars(request).get(_NOTE)
    around = surrounded.note
    if note is None and around is not None and request.id == around.uuid and not request.is_eager:
        return around
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
        note = fields[_NOTE] = Note()
        if meter.clock is not None:
            note.cpu = meter.clock()
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
        published=seconds_of(fields.get(PUBLISHED)),
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
    if interruption.timer is not None:
        interruption.cancel()
    fields = vars(task.request_stack.top)
    note: Note | None = fields.pop(_NOTE, None)
    outcome = OUTCOMES.get(state or "")
    if outcome is None:
        return
    if note is None:
        _end_in_place(task, outcome, retval)
        return
    report = executed(task, task_id, fields, note, outcome, retval)
    execution = whole(report)
    if tracing.spans is not None:
        tracing.spans.ended(execution, fields, task, retval)
    else:
        execution.trace_id = live_trace_id(recorded=True)
    reporter.send(report if execution.trace_id is None else execution)
    if logs.lines.on:
        logs.ended(execution, fields, task, retval)


def executed(
    task: Any, uuid: str, fields: dict[str, Any], note: Note, outcome: Outcome, retval: Any
) -> Success | Execution:
    """Return what is to be reported of an attempt that has ended, by the fields of its request and what was noted.

    Every task pays for this, in a process whose caches others use: each step of the interpreter counts, and what is
    rare is not called to find out.
    """
    try:
        hostname, shadow, delivery, retries, eta, received, root, index, chain, callbacks, nesting = _FIELDS(fields)
        queue = queue_names[_ROUTE(delivery)]
    except (KeyError, TypeError):  # a message of an older protocol
        fields = _UNSAID | fields
        hostname, shadow, delivery, retries, eta, received, root, index, chain, callbacks, nesting = _FIELDS(fields)
        queue = queue_names.of(delivery)
    name = task.name
    # As Celery writes them where a task has no place in a workflow; what differs is looked at closely.
    placed = root != uuid or index is not None or chain or callbacks or nesting or name in TELLING
    scheduled = ENTRY in fields or DJANGO_ENTRY in fields or CELERY_ENTRY in fields
    told = note.cpu is not None or note.course is not None
    if outcome is _SUCCEEDED and not (retries or eta or placed or scheduled or told):
        return Success(  # by place: to match names takes as long as all that is done for them
            time(),
            hostname or reporter.hostname,
            uuid,
            shadow or name,
            queue,
            note.started,
            perf_counter() - note.clock,
            seconds_of(fields.get(PUBLISHED)),
            received,
        )
    execution = Execution(
        time(),
        hostname or reporter.hostname,
        uuid,
        shadow or name,
        outcome,
        queue,
        retries or 0,
        note.started,
        perf_counter() - note.clock,
        seconds_of(fields.get(PUBLISHED)),
        seconds_of(fields.get(FIRST_PUBLISHED)) if retries else None,
        received,
        eta,
    )
    _complete(execution, task, fields, note, retval, placed=bool(placed))
    return execution


def _complete(
    execution: Execution, task: Any, fields: dict[str, Any], note: Note, retval: Any, *, placed: bool
) -> None:
    """Add what there is to tell of an attempt beside its times."""
    if placed:
        execution.canvas = canvas.canvas_of(fields)
        canvas.complete(execution, task, fields)
    if execution.outcome is _SUCCEEDED:
        execution.entry = entry_of(task, fields)
    else:
        _explain(execution, note, retval)
    if note.cpu is not None:
        meter.measure(execution, note.cpu)
    if note.course is not None:
        note.course.end(execution)


def _end_in_place(task: Any, outcome: Outcome, retval: Any) -> None:
    logs.ended_in_place(task, outcome, retval)
    if tracing.spans is not None:
        tracing.spans.ended_in_place(task, outcome, retval)


def _explain(execution: Execution, note: Note, retval: Any) -> None:
    """Add why an attempt did not succeed."""
    if execution.outcome is Outcome.FAILED and note.failure is not None:
        execution.exception, execution.cause = note.failure
        execution.detail = note.detail
    elif execution.outcome is Outcome.REJECTED:
        execution.requeued = bool(getattr(retval, "requeue", False))
    elif execution.outcome is Outcome.IGNORED and getattr(retval, "args", ())[:1] == (_REPLACED,):
        execution.outcome = Outcome.REPLACED
