"""The handlers that run where tasks are published: web processes, beat, and workers themselves.

Each message gets the time of its publish as a header, by which its worker knows the wait. A retry carries the headers
of the attempt before, so the time is overwritten, never defaulted, and that of the first publish is kept.
"""

from __future__ import annotations

import socket
import time
from functools import wraps
from typing import TYPE_CHECKING, Any

from celery.app.amqp import AMQP

from celery_observe.report import Publication
from celery_observe.worker import logs
from celery_observe.worker.canvas import canvas_of, root_task
from celery_observe.worker.guard import harmless, watched
from celery_observe.worker.headers import FIRST_PUBLISHED, PUBLISHED, RECEIVED, RELEASED, ROOT, seconds_of, stamped_now
from celery_observe.worker.queues import queue_names
from celery_observe.worker.reporter import reporter
from celery_observe.worker.tracing import tracing

if TYPE_CHECKING:
    from collections.abc import Callable


def stamp(headers: dict[str, Any], **_: Any) -> None:
    """Write the time of the publish into the headers of a message, just before it is published."""
    before = headers.get(PUBLISHED)
    headers[PUBLISHED] = stamped_now()
    headers.pop(RECEIVED, None)
    headers.pop(RELEASED, None)
    if headers.get("retries"):
        headers.setdefault(FIRST_PUBLISHED, before)
    else:
        headers.pop(FIRST_PUBLISHED, None)
    if headers.get("root_id") != headers.get("id") and ROOT not in headers:
        root = root_task()
        if root is not None:
            headers[ROOT] = root


def published(
    sender: str, headers: dict[str, Any], exchange: str, routing_key: str, body: Any = None, **_: Any
) -> None:
    """Report a message that was published."""
    if not reporter.has_listener:
        return
    now = time.time()
    since = seconds_of(headers.get(PUBLISHED))
    seconds = now - since if since is not None else None
    report = Publication(now, _hostname(), sender, _queue(exchange, routing_key), seconds)
    canvas = canvas_of(headers, body[-1] if isinstance(body, list | tuple) else {})
    if canvas is not None:
        report.uuid, report.retries, report.eta = headers["id"], headers.get("retries") or 0, headers.get("eta")
        report.canvas = canvas
    reporter.send(report)


def watch_failures(app: Any = None) -> None:
    """Notice publishes that raise, of which no signal tells: wrap what publishes.

    ``AMQP.send_task_message`` is made by ``_create_task_sender`` when an app first publishes
    (``celery/app/amqp.py``, the same from 5.3 to 5.7); a Celery without it reports no failures. An ``app`` that has
    published already has made its own.
    """
    create = getattr(AMQP, "_create_task_sender", None)
    if create is None or hasattr(create, "__wrapped__"):
        return

    @wraps(create)
    def create_watched(amqp: AMQP) -> Callable[..., Any]:
        return watched(create(amqp), _not_published)

    AMQP._create_task_sender = create_watched  # noqa: SLF001 - the one place through which all publishes go
    made = vars(vars(app).get("amqp", object)).get("send_task_message") if app is not None else None
    if made is not None:
        app.amqp.send_task_message = watched(made, _not_published)


@harmless
def _not_published(error: BaseException, producer: Any, name: str, message: Any, *args: Any, **named: Any) -> None:
    _failed(error, producer, name, message, *args, **named)
    if tracing.creation is not None:
        tracing.creation.not_published(error, message)


@harmless
def _failed(error: BaseException, _producer: Any, name: str, *_: Any, queue: Any = None, **__: Any) -> None:
    """Report the class of what a publish raised."""
    if reporter.off:
        return
    queue = str(getattr(queue, "name", queue)) if queue else None
    logs.not_published(name, queue, type(error))
    if reporter.has_listener:
        reporter.send(Publication(time.time(), _hostname(), name, queue, exception=type(error).__name__))


def _queue(exchange: str | None, routing_key: str | None) -> str | None:
    return queue_names[exchange or "", routing_key or ""]


def _hostname() -> str:
    return reporter.hostname or f"publisher@{socket.gethostname()}"
