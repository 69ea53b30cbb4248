"""The handlers that run in the worker's main process: what it takes in, refuses, revokes, cancels and kills.

Pool children report what they execute. The main process reports the ends that they cannot: of tasks that never started,
and of those whose child it killed or lost.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject

from celery_observe.fact import Cause, Outcome
from celery_observe.report import MOST_ARRIVALS, Arrival, Execution, Placement, Refusal
from celery_observe.worker import executions, logs
from celery_observe.worker.canvas import canvas_of, watch_release
from celery_observe.worker.guard import harmless
from celery_observe.worker.headers import FIRST_PUBLISHED, PUBLISHED, RECEIVED
from celery_observe.worker.queues import queue_names
from celery_observe.worker.quotation import quotation
from celery_observe.worker.reporter import reporter
from celery_observe.worker.tracing import tracing

if TYPE_CHECKING:
    from celery_observe.cause import Failure
    from celery_observe.fact import Canvas, Detail

_requests: dict[str, weakref.ref[Any]] = {}
"""The requests that this worker holds, by task id: Celery forgets one before it tells of its failure."""

_REJECTS = "_celery_observe_rejects"
"""Whether the task itself has rejected its message."""

_arrived: deque[tuple[str, dict[str, Any]]] = deque()
"""The messages that were taken and not told of yet: task and ``delivery_info``."""


def received(request: Any, sender: Any, **_: Any) -> None:
    """Remember a message for a task, and when it came; tell of it at once if it belongs to a workflow."""
    fields = request.request_dict
    now = fields[RECEIVED] = time.time()
    _requests[fields["id"]] = weakref.ref(request)
    canvas, task = canvas_of(fields), request.task
    if canvas is not None:
        _place(request, fields, canvas, now)
    if sender.task_buckets[task.name]:
        watch_release(request)
    if task.acks_late:
        _watch_rejection(request)
        if tracing.spans is not None:
            _watch_failure(request)
    if len(_arrived) < MOST_ARRIVALS:
        _arrived.append((fields.get("shadow") or fields["task"], fields["delivery_info"]))
    else:
        reporter.dropped += 1


def _place(request: Any, fields: dict[str, Any], canvas: Canvas, now: float) -> None:
    reporter.send(
        Placement(
            timestamp=now,
            hostname=request.hostname,
            uuid=request.id,
            name=request.name,
            canvas=canvas,
            queue=queue_names.of(request.delivery_info),
            retries=fields.get("retries") or 0,
            published=fields.get(PUBLISHED),
            eta=fields.get("eta"),
        )
    )


def arrivals() -> list[Arrival]:
    """Return what was received since the last time; from another thread, which one ``popleft`` each allows."""
    counts = Counter(_kind(*_arrived.popleft()) for _ in range(len(_arrived)))
    return [Arrival(*kind, count) for kind, count in counts.items()]


def _kind(name: str, info: dict[str, Any]) -> tuple[str, str | None, int | None, bool]:
    priority = info.get("priority")
    octet = priority if isinstance(priority, int) and 0 <= priority <= 255 else None  # noqa: PLR2004 - an octet
    return name, queue_names.of(info), octet, bool(info.get("redelivered"))


def forget_gone() -> None:
    """Forget the requests that Celery has let go of: all together, from another thread, rather than each at its end."""
    for uuid, reference in list(_requests.items()):
        if reference() is None:
            forgotten = _requests.pop(uuid)
            if forgotten is not reference:  # received again meanwhile
                _requests.setdefault(uuid, forgotten)


def _request_of(uuid: str) -> Any:
    reference = _requests.get(uuid)
    return reference() if reference is not None else None


def _watch_rejection(request: Any) -> None:
    """Notice that a message acknowledged late goes back to the queue, of which no signal tells."""
    reject, reference = request.on_reject, weakref.ref(request)

    def on_reject(logger: Any, errors: Any, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        _rejected(reference(), requeue=requeue)  # first: the message may be delivered again before `reject` returns
        reject(logger, errors, requeue)

    request.on_reject = on_reject


def _watch_failure(request: Any) -> None:
    """Note whether the task itself rejects its message, as its child has told then; Celery forgets why it does."""
    fail, reference = request.on_failure, weakref.ref(request)

    def on_failure(exc_info: Any, *args: Any, **named: Any) -> Any:
        _note_failure(reference(), exc_info)
        return fail(exc_info, *args, **named)

    request.on_failure = on_failure


@harmless
def _note_failure(request: Any, exc_info: Any) -> None:
    exception = exc_info.exception
    request.request_dict[_REJECTS] = isinstance(getattr(exception, "exc", exception), Reject)


def _is_told_by_child(request: Any, outcome: Outcome) -> bool:
    return outcome is Outcome.REJECTED and request is not None and request.request_dict.get(_REJECTS, False)


@harmless
def _rejected(request: Any, *, requeue: bool) -> None:
    _report(request, request.request_dict, Outcome.REJECTED, requeued=requeue)


def failed(sender: Any, task_id: str, exception: BaseException, einfo: Any = None, **_: Any) -> None:
    """Note the cause of a failure where it happened; report it from here if that is a child that is gone."""
    if executions.is_executing(sender):
        executions.note_failure(sender, exception, einfo)
    elif not isinstance(exception, Reject):
        request = _request_of(task_id)
        if request is not None:
            failure, detail = executions.explain(exception, einfo), quotation.of(request.request_dict, einfo)
            _report(request, request.request_dict, Outcome.FAILED, failure, detail=detail)


def retried(sender: Any, request: Any, einfo: Any = None, **_: Any) -> None:
    """Report a task that was cancelled, or retried because its child was lost; other retries are their child's.

    Of one that is called in place nothing is reported.
    """
    if not executions.is_executing(sender) and not request.is_eager:
        outcome = Outcome.CANCELLED if einfo is None else Outcome.RETRIED
        _report(_request_of(request.id), vars(request), outcome)


def revoked(request: Any, terminated: bool = False, expired: bool = False, **_: Any) -> None:  # noqa: FBT001, FBT002 - a signal's
    """Report a task that was revoked: before it started, or while it ran."""
    before = Outcome.EXPIRED if expired else Outcome.REVOKED
    outcome = Outcome.TERMINATED if terminated else before
    _report(_request_of(request.id), vars(request), outcome)


def unknown(sender: Any, message: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002 - a signal's
    """Report a message for a task that this worker does not have."""
    headers = message.headers or {}
    report = Execution(
        timestamp=time.time(),
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
    reporter.send(Refusal(time.time(), sender.hostname))


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
        timestamp=time.time(),
        hostname=fields.get("hostname") or reporter.hostname,
        uuid=fields["id"],
        name=fields.get("shadow") or fields["task"],
        outcome=outcome,
        queue=queue_names.of(fields.get("delivery_info")),
        retries=fields.get("retries") or 0,
        started=started,
        published=fields.get(PUBLISHED),
        first_published=fields.get(FIRST_PUBLISHED),
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
