"""What messages say of the place of their task in a workflow, and which chords a worker finds broken.

``root_id``, ``parent_id`` and ``group`` are headers; ``chain``, ``callbacks`` and ``chord`` stand in the body, which
only publishers and those who execute a task have decoded (``celery/app/amqp.py: as_task_v2``). Of the body of a chord,
which is a signature, the ids are looked at and nothing else.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

from celery._state import get_current_worker_task

from celery_observe.chords import CHORD_UNLOCK
from celery_observe.fact import Canvas, Chord, Stall
from celery_observe.report import ChordFailure
from celery_observe.worker.guard import harmless
from celery_observe.worker.headers import RELEASED, ROOT
from celery_observe.worker.reporter import reporter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from celery_observe.report import Execution

_MOST = 20
"""Ids of a body that are told: one would do, but a group is published in any order."""
_MAPS = frozenset({"celery.map", "celery.starmap"})
TELLING = _MAPS | {CHORD_UNLOCK}
"""Tasks of Celery's own whose arguments say something of others."""
_SAYINGS = (
    ("Dependency ", Stall.HEADER_FAILED),
    ("GroupResult ", Stall.RESULT_EXPIRED),
    ("Cannot restore group", Stall.RESULT_EXPIRED),
    ("Callback error", Stall.BODY_NOT_SENT),
    ("chord_unlock ", Stall.UNLOCK_SPINNING),
)
"""How the messages of ``ChordError`` begin (``celery/backends``, ``celery/app/builtins.py``)."""


def canvas_of(fields: Mapping[str, Any], embed: Mapping[str, Any] | None = None) -> Canvas | None:
    """Return the place of a task by the fields of its message or request; None if it is alone.

    ``embed`` is what the body adds; a request has it among its fields, if the body was decoded.
    """
    get = fields.get
    body = get if embed is None else embed.get
    uuid, index, nesting = get("id"), get("group_index"), get("replaced_task_nesting")
    root = get("root_id") or uuid
    if root == uuid and index is None and not (nesting or body("chain") or body("callbacks")):
        return None
    chain, callbacks, chord = body("chain"), body("callbacks"), body("chord")
    group = get("group") if index is not None else None  # from 5.7 on the body of a chord has that of its header
    return Canvas(
        root=str(root),
        parent=get("parent_id"),
        root_task=get(ROOT),
        group=group,
        index=index,
        nesting=nesting or 0,
        chain=len(chain or ()),
        callbacks=len(callbacks or ()),
        chord=Chord(_first_ids(chord)[:_MOST]) if chord else None,
        released=get(RELEASED),
    )


def _first_ids(signature: Any) -> list[str]:
    """Return the ids of the tasks with which a signature begins, as far as they are given."""
    if not isinstance(signature, dict):
        return []
    options, kwargs, kind = signature.get("options") or {}, signature.get("kwargs") or {}, signature.get("subtask_type")
    inner = kwargs.get("header") if kind == "chord" else kwargs.get("tasks")
    if kind == "chord" and isinstance(inner, dict):
        inner = (inner.get("kwargs") or {}).get("tasks")
    if kind in {"chain", "group", "chord"} and isinstance(inner, list | tuple):
        return [uuid for each in inner[: 1 if kind == "chain" else _MOST] for uuid in _first_ids(each)]
    return [options["task_id"]] if options.get("task_id") else []


def complete(report: Execution, task: Any, fields: Mapping[str, Any]) -> None:
    """Add to the report of an end what the message of the task says of others."""
    place = report.canvas
    if place is not None and place.chord is not None:
        place.chord.expires = _seconds(task.app.conf)
    if task.name == CHORD_UNLOCK:
        place = report.canvas = place or Canvas(root=fields.get("root_id") or fields["id"])
        place.polls = _polled(fields)
    elif task.name in _MAPS:
        kwargs = fields.get("kwargs") or {}
        report.mapped, report.items = kwargs["task"]["task"], len(kwargs["it"])


def _polled(fields: Mapping[str, Any]) -> str | None:
    """Return the group that ``celery.chord_unlock`` asks for, its first argument."""
    return next(iter(fields.get("args") or ()), None)


def _seconds(conf: Any) -> float | None:
    """Return for how long chords are remembered by the result backend; None for ever."""
    expires = conf.get("result_chord_expires")
    expires = conf.get("result_expires") if expires is None else expires
    if isinstance(expires, timedelta):
        return expires.total_seconds()
    return float(expires) if expires else None


def root_task() -> str | None:
    """Return the name of the task with which it began that something is published now, if a task publishes it."""
    task = get_current_worker_task()
    request = task.request_stack.top if task is not None else None
    if request is None:
        return None
    fields = vars(request)
    if fields.get(ROOT) is not None:
        return str(fields[ROOT])
    return str(fields.get("shadow") or task.name) if fields.get("root_id") in {None, fields.get("id")} else None


def watch_chords() -> None:
    """Notice chords that fail, of which no signal tells: wrap what fails them, ``Backend.chord_error_from_stack``."""
    from celery.backends.base import Backend  # noqa: PLC0415 - publishers do without

    fail = Backend.chord_error_from_stack
    if hasattr(fail, "__wrapped__"):
        return

    @wraps(fail)
    def chord_error_from_stack(backend: Any, callback: Any, exc: BaseException | None = None) -> Any:
        _tell(callback, exc if exc is not None else sys.exc_info()[1])
        return fail(backend, callback, exc)

    Backend.chord_error_from_stack = chord_error_from_stack


@harmless
def _tell(callback: Any, error: BaseException | None) -> None:
    if reporter.off:
        return
    said = str(error)
    reason = next((reason for beginning, reason in _SAYINGS if said.startswith(beginning)), Stall.BACKEND)
    task = get_current_worker_task()
    fields = vars(task.request_stack.top) if task is not None and task.request_stack.top is not None else {}
    group = fields.get("group")
    if task is not None and task.name == CHORD_UNLOCK:
        group = _polled(fields)
    body = _first_ids(callback)[:_MOST]
    reporter.send(ChordFailure(time.time(), reporter.hostname, reason, fields.get("root_id"), group, body))
