"""The handlers that run in the worker's main process: what it takes in, refuses, revokes, cancels and kills.

Pool children report what they execute. The main process reports the ends that they cannot: of tasks that never started,
and of those whose child it killed or lost.
"""

from __future__ import annotations

from functools import cache
from operator import itemgetter
from time import time
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from celery import signals
from celery.exceptions import Reject

from celery_observe.fact import Cause, Outcome
from celery_observe.report import Execution, Placement, Refusal
from celery_observe.worker import executions, logs
from celery_observe.worker.arrivals import arrivals, said_by
from celery_observe.worker.canvas import canvas_of
from celery_observe.worker.guard import preceded, receiving
from celery_observe.worker.headers import FIRST_PUBLISHED, PUBLISHED, RECEIVED, RELEASED, seconds_of
from celery_observe.worker.queues import queue_names
from celery_observe.worker.quotation import quotation
from celery_observe.worker.reporter import reporter
from celery_observe.worker.tracing import tracing

if TYPE_CHECKING:
    from celery_observe.cause import Failure
    from celery_observe.fact import Detail

_ended: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""By id, the requests that have ended otherwise than well: Celery forgets one before it sends the signal of its end."""

_REJECTS = "_celery_observe_rejects"
"""Whether the task itself has rejected its message."""

_FIELDS = itemgetter("delivery_info", "root_id", "group_index", "replaced_task_nesting")
_UNSAID: dict[str, Any] = {"delivery_info": None, "root_id": None, "group_index": None, "replaced_task_nesting": None}


@cache
def watch() -> None:
    """Notice each message that is taken, and what becomes of it in this process that no signal tells.

    Signals do not tell which request it is that ends, that a message goes back to the queue, or that a rate limit lets
    a task go on. A receiver of ``task_received`` would do, but to have that signal sent costs more than all we do.
    """
    from celery.worker import request as worker_request  # noqa: PLC0415 - publishers do without
    from celery.worker.consumer import Consumer  # noqa: PLC0415 - as above

    signals.task_received.send = receiving(signals.task_received, received)
    for owner, name, ours in (
        (worker_request, "task_ready", _end),
        (worker_request.Request, "on_failure", _note_failure),
        (worker_request.Request, "reject", _reject),
        (Consumer, "_limit_move_to_pool", _release),
    ):
        setattr(owner, name, preceded(getattr(owner, name), ours))


def received(request: Any) -> None:
    """Remember a message for a task, and when it came; tell of it at once if it belongs to a workflow.

    The main process, whose caches all else has used meanwhile, does this for every task: each step of the interpreter
    counts.
    """
    fields = request._request_dict  # noqa: SLF001 - to ask its property costs as much as to set the time
    now = fields[RECEIVED] = time()
    try:
        delivery, root, index, nesting = _FIELDS(fields)
    except KeyError:  # a message of an older protocol
        delivery, root, index, nesting = _FIELDS(_UNSAID | fields)
    if root != request.id or index is not None or nesting:  # as Celery writes them where a task stands alone
        _place(request, fields, now)
    try:
        next(arrivals[request.name, said_by(delivery)])
    except (KeyError, TypeError):  # a message that Celery did not make
        arrivals.add(request.name, delivery)


def _place(request: Any, fields: dict[str, Any], now: float) -> None:
    canvas = canvas_of(fields)
    if canvas is None:
        return
    reporter.send(
        Placement(
            timestamp=now,
            hostname=request.hostname,
            uuid=request.id,
            name=request.name,
            canvas=canvas,
            queue=queue_names.of(request.delivery_info),
            retries=fields.get("retries") or 0,
            published=seconds_of(fields.get(PUBLISHED)),
            eta=fields.get("eta"),
        )
    )


def _end(request: Any, successful: bool = False, *_: Any, **__: Any) -> None:  # noqa: FBT001, FBT002 - Celery's signature
    """Remember a request whose end Celery is about to tell of (``celery/worker/state.py: task_ready``)."""
    if not successful:
        _ended[request.id] = request


def _release(_consumer: Any, request: Any) -> None:
    """Note when a rate limit lets a task go on."""
    request.request_dict[RELEASED] = time()


def _reject(request: Any, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's signature
    """Report that a message goes back to the queue, or away: first, as it may be delivered again at once."""
    if not request.acknowledged:
        _report(request, request.request_dict, Outcome.REJECTED, requeued=requeue)


def _note_failure(request: Any, exc_info: Any, *_: Any, **__: Any) -> None:
    """Note whether the task itself rejects its message, as its child has told then; Celery forgets why it does."""
    if tracing.spans is not None and request.task.acks_late:
        exception = exc_info.exception
        request.request_dict[_REJECTS] = isinstance(getattr(exception, "exc", exception), Reject)


def _is_told_by_child(request: Any, outcome: Outcome) -> bool:
    return outcome is Outcome.REJECTED and request is not None and request.request_dict.get(_REJECTS, False)


def failed(sender: Any, task_id: str, exception: BaseException, einfo: Any = None, **_: Any) -> None:
    """Note the cause of a failure where it happened; report it from here if that is a child that is gone."""
    if executions.is_executing(sender):
        executions.note_failure(sender, exception, einfo)
    elif not isinstance(exception, Reject):
        request = _ended.get(task_id)
        if request is not None:
            failure, detail = executions.explain(exception, einfo), quotation.of(request.request_dict, einfo)
            _report(request, request.request_dict, Outcome.FAILED, failure, detail=detail)


def retried(sender: Any, request: Any, einfo: Any = None, **_: Any) -> None:
    """Report a task that was cancelled, or retried because its child was lost; other retries are their child's.

    Of one that is called in place nothing is reported.
    """
    if not executions.is_executing(sender) and not request.is_eager:
        outcome = Outcome.CANCELLED if einfo is None else Outcome.RETRIED
        _report(_ended.get(request.id), vars(request), outcome)


def revoked(request: Any, terminated: bool = False, expired: bool = False, **_: Any) -> None:  # noqa: FBT001, FBT002 - a signal's
    """Report a task that was revoked: before it started, or while it ran."""
    before = Outcome.EXPIRED if expired else Outcome.REVOKED
    outcome = Outcome.TERMINATED if terminated else before
    _report(_ended.get(request.id), vars(request), outcome)


def unknown(sender: Any, message: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002 - a signal's
    """Report a message for a task that this worker does not have."""
    headers = message.headers or {}
    report = Execution(
        timestamp=time(),
        hostname=sender.hostname,
        uuid=id,
        name=name,
        outcome=Outcome.UNREGISTERED,
        queue=queue_names.of(message.delivery_info),
        retries=headers.get("retries") or 0,
        exception="NotRegistered",
        cause=Cause.UNREGISTERED,
    )
    if tracing.spans is not None:
        fields = {**headers, "id": id, "hostname": sender.hostname, "delivery_info": message.delivery_info}
        tracing.spans.ended(report, fields)
    reporter.send(report)


def refused(sender: Any, **_: Any) -> None:
    """Report a message that is no task."""
    reporter.send(Refusal(time(), sender.hostname))


def _report(
    request: Any,
    fields: dict[str, Any],
    outcome: Outcome,
    failure: Failure | None = None,
    *,
    detail: Detail | None = None,
    requeued: bool = False,
) -> None:
    """Report the end of an attempt from its request, if it is still there, and the fields of its message."""
    started = request.time_start if request is not None else None
    report = Execution(
        timestamp=time(),
        hostname=fields.get("hostname") or reporter.hostname,
        uuid=fields["id"],
        name=fields.get("shadow") or fields["task"],
        outcome=outcome,
        queue=queue_names.of(fields.get("delivery_info")),
        retries=fields.get("retries") or 0,
        started=started,
        published=seconds_of(fields.get(PUBLISHED)),
        first_published=seconds_of(fields.get(FIRST_PUBLISHED)),
        received=fields.get(RECEIVED),
        eta=fields.get("eta"),
        requeued=requeued,
        exception=failure.exception if failure else None,
        cause=failure.cause if failure else None,
        detail=detail,
        canvas=canvas_of(fields),
    )
    if tracing.spans is not None and not _is_told_by_child(request, outcome):
        tracing.spans.ended(report, fields)
    reporter.send(report)
    logs.ended(report, fields)
