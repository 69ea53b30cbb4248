"""A countdown longer than Redis lets a message be held."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from celery_observe.findings import Severity
from celery_observe.lint.module import Module, constant, keyword, method
from celery_observe.lint.project import Project
from celery_observe.lint.registry import Hit, rule

BAD = (
    """
from celery import shared_task

DAY = 24 * 60 * 60


@shared_task(bind=True)
def remind(self, cart):
    if cart["open"]:
        raise self.retry(countdown=2 * DAY)  # bad


def later(cart):
    remind.apply_async((cart,), countdown=DAY)  # bad
""",
    """
from datetime import UTC, datetime, timedelta

from celery import Celery

app = Celery("shop", broker="redis://")
app.conf.broker_transport_options = {"visibility_timeout": 7200}


@app.task
def remind(cart):
    return cart


def later(cart):
    remind.apply_async((cart,), countdown=7000)
    remind.apply_async((cart,), eta=datetime.now(UTC) + timedelta(hours=3))  # bad
""",
)
GOOD = (
    """
from celery import shared_task


@shared_task
def remind(cart):
    return cart


def later(cart, wait):
    remind.apply_async((cart,), countdown=600)
    remind.apply_async((cart,), countdown=3600)
    remind.apply_async((cart,), countdown=wait)
""",
    """
from celery import Celery

app = Celery("shop")
app.conf.update(broker_url="amqp://rabbit.example")


@app.task
def remind(cart):
    return cart


def later(cart):
    remind.apply_async((cart,), countdown=24 * 60 * 60)
""",
    """
from celery import Celery

app = Celery("shop", broker_transport_options={"visibility_timeout": 7 * 24 * 60 * 60})


@app.task(bind=True)
def remind(self, cart):
    remind.apply_async((cart,), countdown=24 * 60 * 60)
""",
)

_DEFAULT: Final = 3600.0
"""Seconds: `Channel.visibility_timeout` of kombu's Redis transport."""
_AMQP: Final = ("amqp:", "amqps:", "pyamqp:", "librabbitmq:")


@rule(
    Severity.WARNING,
    alerts=("CeleryQueueEtaBeyondVisibilityTimeout", "CeleryTasksExecutedTwice"),
    metrics=("celery_queue_eta_beyond_visibility_timeout", "celery_task_duplicate_executions_total"),
)
def countdown_beyond_visibility_timeout(module: Module) -> Iterator[Hit]:
    """A task is to run later than the broker lets a worker hold its message.

    A worker takes a message with an ETA at once and holds it unacknowledged until it is due. Redis and SQS give a
    message that is held for longer than the visibility timeout, on Redis an hour by default, to another worker, and
    after that to a third: the task runs as many times. Other brokers do not; the rule is quiet where the source names
    an AMQP broker.

    Fix: Let something durable remember what is due, such as a row that a periodic task looks at; or set
    `visibility_timeout` in `broker_transport_options` above the longest countdown, and `visibility-timeout` for this
    rule.
    """
    longest = _visibility_timeout(module.project)
    if longest is None:
        return
    for call in module.nodes(ast.Call):
        if method(call) in {"apply_async", "send_task"} or (method(call) == "retry" and module.task(call)):
            wait = _wait(module, call)
            if wait is not None and wait > longest:
                yield Hit(call, f"The wait of {wait:g} s is longer than the visibility timeout of {longest:g} s.")


def _visibility_timeout(project: Project) -> float | None:
    """Return it in seconds; None if there is none, or it is not written in the source."""
    if project.visibility_timeout is not None:
        return project.visibility_timeout
    brokers = [constant(value) for _, value in project.settings.get("broker_url", ())]
    if brokers and all(isinstance(url, str) and url.startswith(_AMQP) for url in brokers):
        return None
    given = [module.seconds(value) for module, value in project.settings.get("visibility_timeout", ())]
    known = [seconds for seconds in given if seconds is not None]
    return max(known, default=_DEFAULT) if len(known) == len(given) else None


def _wait(module: Module, call: ast.Call) -> float | None:
    wait = module.seconds(keyword(call, "countdown"))
    eta = keyword(call, "eta")
    if wait is None and isinstance(eta, ast.BinOp) and isinstance(eta.op, ast.Add) and isinstance(eta.left, ast.Call):
        return module.seconds(eta.right) if method(eta.left) in {"now", "utcnow"} else None
    return wait
