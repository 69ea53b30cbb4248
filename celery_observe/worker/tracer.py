"""Around Celery's tracer: attempts that prefork children execute, noted before it is called and reported after.

``task_prerun`` and ``task_postrun`` would do, as they do in other pools; but a child whose caches others use pays more
to have two signals sent than for all that we do at them. The tracer, which sends them, is one function, made of each
task when the child has been forked (``celery/concurrency/prefork.py: process_initializer``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.states import FAILURE, SUCCESS

from celery_observe.worker import executions
from celery_observe.worker.executions import Note, surrounded
from celery_observe.worker.guard import beside, told
from celery_observe.worker.reporter import reporter

Tracer = Callable[..., Any]
"""What traces one task, with its id, arguments and request (``celery/app/trace.py: build_tracer``)."""


@told
def surround(app: Any) -> None:
    """Report the attempts of all tasks of an app from around their tracers; in a child that executes one at a time."""
    for task in app.tasks.values():
        if task.__trace__ is not None:
            task.__trace__ = observed(task, task.__trace__)


def observed(task: Any, trace: Tracer) -> Tracer:
    """Return what traces a task as it is traced, and reports it."""
    switch = reporter.switch

    def trace_task(uuid: str, args: Any, kwargs: Any, request: dict[str, Any] | None = None) -> Any:
        if switch[0] or request is None:
            return trace(uuid, args, kwargs, request)
        note = _begin(uuid)
        try:
            traced = trace(uuid, args, kwargs, request)
        finally:
            surrounded.uuid = surrounded.note = None
        if note is not None:
            _end(task, uuid, request, note, traced)
        return traced

    return trace_task


@beside(amid_task=True)
def _begin(uuid: str) -> Note:
    """Note the start of an attempt."""
    note = surrounded.note = executions.noted()
    surrounded.uuid = uuid
    return note


@beside()
def _end(task: Any, uuid: str, fields: dict[str, Any], note: Note, traced: Any) -> None:
    """Report an attempt by what the tracer returns: the result, ``TraceInfo`` unless it succeeded, and its runtime."""
    executions.settle()
    result, info, runtime, _ = traced
    if info is not None:
        state, retval = info.state, info.retval
    elif isinstance(result, ExceptionInfo):
        state, retval = FAILURE, result.exception
    else:  # without a runtime it was not executed: its result was there already
        state, retval = SUCCESS if runtime is not None else None, result
    if state == FAILURE and note.failure is None and isinstance(result, ExceptionInfo):
        # Celery itself failed, such as at storing a result; its signal of that comes when the task is not current.
        note.failure = executions.explain(result.exception, result)
    executions.report(task, uuid, fields, note, state, retval)
