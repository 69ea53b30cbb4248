"""Around Celery's tracer: attempts that prefork children execute, noted before it is called and reported after.

``task_prerun`` and ``task_postrun`` would do, as they do in other pools; but a child whose caches others use pays more
to have two signals sent than for all that we do at them. The tracer, which sends them, is one function, made of each
task when the child has been forked (``celery/concurrency/prefork.py: process_initializer``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo

from celery_observe.fact import Outcome
from celery_observe.worker.executions import OUTCOMES, Note, executed, explain, meter, surrounded
from celery_observe.worker.guard import surrounding, told
from celery_observe.worker.reporter import reporter

_SUCCEEDED = Outcome.SUCCEEDED

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
    return surrounding(task, trace, surrounded, Note if meter.clock is None else _metered, _end)


def _metered(uuid: str) -> Note:
    return Note(uuid, cpu=meter.clock() if meter.clock is not None else None)


def _end(task: Any, uuid: str, fields: dict[str, Any], note: Note, traced: Any) -> None:
    """Report an attempt by what the tracer returns: the result, ``TraceInfo`` unless it succeeded, and its runtime."""
    if traced is None:  # it has raised: the child ends, of which the main process tells
        return
    result, info, runtime, _ = traced
    if info is None and runtime is not None and not isinstance(result, ExceptionInfo):
        reporter.send(executed(task, uuid, fields, note, _SUCCEEDED, result))
    else:
        _end_otherwise(task, uuid, fields, note, result, info)


def _end_otherwise(task: Any, uuid: str, fields: dict[str, Any], note: Note, result: Any, info: Any) -> None:
    if info is not None:
        outcome, retval = OUTCOMES.get(info.state), info.retval
    elif isinstance(result, ExceptionInfo):
        outcome, retval = Outcome.FAILED, result.exception
    else:  # without a runtime it was not executed: its result was there already
        return
    if outcome is None:
        return
    if outcome is Outcome.FAILED and note.failure is None and isinstance(result, ExceptionInfo):
        # Celery itself failed, such as at storing a result; its signal of that comes when the task is not current.
        note.failure = explain(result.exception, result)
    reporter.send(executed(task, uuid, fields, note, outcome, retval))
