"""Notices what tasks say of themselves with ``Task.update_state``, and when they wait for results of others.

Neither has a signal or an event, so the methods are wrapped; they do what they did. ``update_state`` is the same from
Celery 5.3 to 5.7 (``celery/app/task.py``), and so are those that wait (``celery/result.py``).
"""

from __future__ import annotations

from functools import cache, wraps
from typing import TYPE_CHECKING, Any, TypeVar

from celery import states
from celery._state import get_current_task
from celery.app.task import Task
from celery.result import AsyncResult, ResultSet

from celery_observe.worker.course import legible
from celery_observe.worker.executions import course_of
from celery_observe.worker.guard import harmless
from celery_observe.worker.tracing import tracing

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

_PARTS = ("step", "current", "done", "completed", "processed", "progress")
_PERCENTS = ("percent", "percentage")
_LARGEST = 1e15
_WAITING = ((AsyncResult, "get"), (AsyncResult, "wait"), (ResultSet, "join"), (ResultSet, "join_native"))


@cache
def watch() -> None:
    """Notice it from now on, here and in children that are forked."""
    Task.update_state = _noticed(Task.update_state)
    for kind, name in _WAITING:
        if name in vars(kind):
            setattr(kind, name, _timed(getattr(kind, name)))


def _noticed(update: Callable[..., R]) -> Callable[..., R]:
    @wraps(update)
    def pass_on(task: Any, *args: Any, **named: Any) -> R:
        stored = update(task, *args, **named)
        _note(task, *args, **named)
        return stored

    return pass_on


@harmless
def _note(task: Any, task_id: str | None = None, state: Any = None, meta: Any = None, **_: Any) -> None:
    """Note the state, and how much is done. What else is in ``meta`` is not looked at."""
    course = course_of(task)
    if course is None or task_id not in {None, task.request.id}:
        return
    ratio = ratio_of(meta)
    if isinstance(state, str):
        own = None if state in states.ALL_STATES else state
        course.enter(own, ratio)
        if tracing.spans is not None and own is not None:
            tracing.spans.enter(task, legible(own), ratio)
    else:
        course.advance(ratio)


def ratio_of(meta: Any) -> float | None:
    """Return how much is done, from 0 to 1, as the fields say by which this is usually told; None if none does."""
    if not isinstance(meta, dict):
        return None
    part, whole = _first(meta, _PARTS), _first(meta, ("total",))
    if part is None or not whole:
        part, whole = _first(meta, _PERCENTS), 100.0
    if part is None:
        return None
    ratio = part / whole
    return ratio if 0.0 <= ratio <= 1.0 else None


def _first(meta: dict[str, Any], names: tuple[str, ...]) -> float | None:
    """Return the first of these fields that is a number."""
    for name in names:
        value = meta.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST:
            return float(value)
    return None


def _timed(wait: Callable[..., R]) -> Callable[..., R]:
    @wraps(wait)
    def pass_on(*args: Any, **named: Any) -> R:
        _begin_to_wait()
        try:
            return wait(*args, **named)
        finally:
            _go_on()

    return pass_on


@harmless
def _begin_to_wait() -> None:
    task = get_current_task()
    course = course_of(task) if task is not None else None
    if course is not None:
        course.wait()


@harmless
def _go_on() -> None:
    task = get_current_task()
    course = course_of(task) if task is not None else None
    if course is not None:
        course.go_on()
