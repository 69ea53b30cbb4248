"""A task that is retried for ever."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from celery_observe.findings import Severity, listed
from celery_observe.lint.module import Module, constant
from celery_observe.lint.registry import Hit, rule
from celery_observe.lint.task import Task, calls_in

BAD = (
    """
from celery import shared_task


@shared_task(autoretry_for=(ConnectionError,), retry_backoff=True, max_retries=None)  # bad
def index(order):
    return order["id"]
""",
    """
from celery import Celery, Task

app = Celery("shop")


class Stubborn(Task):
    abstract = True
    max_retries = None  # bad


@app.task(bind=True, base=Stubborn)
def index(self, order):
    try:
        return order["id"]
    except KeyError as error:
        raise self.retry(exc=error)


class Patient(Task):
    max_retries = None  # bad

    def before_start(self, task_id, args, kwargs):
        if kwargs:
            raise self.retry(countdown=1)


@app.task(base=Patient)
def wait(order):
    return order
""",
)
GOOD = (
    """
from celery import shared_task


@shared_task(autoretry_for=(ConnectionError,), retry_backoff=True, max_retries=8)
def index(order):
    return order["id"]


@shared_task(autoretry_for=(ConnectionError,))
def three_times_by_default(order):
    return order["id"]


@shared_task(max_retries=None)
def never_retried(order):
    return order["id"]


@shared_task(bind=True, max_retries=None)
def counted(self, order):
    if self.request.retries > 100:
        raise ValueError(order["id"])
    raise self.retry(countdown=5)
""",
)


@rule(
    Severity.WARNING,
    alerts=("CeleryRetryStorm",),
    metrics=("celery_task_outcomes_total", "celery_task_total_seconds"),
)
def unbounded_retries(module: Module) -> Iterator[Hit]:
    """A task is retried without an end: `max_retries=None`.

    What can never succeed, such as an order that was deleted, comes back for ever. Such tasks add up until the worker
    does nothing else, and none of them ever fails, so nobody is told. Without `max_retries` Celery tries three times
    more. Tasks that look at `self.request.retries` are taken to end by themselves.

    Fix: Set `max_retries` to what the longest outage needs with `retry_backoff`, and take care of what fails then.
    """
    for limit, tasks in module.project.tasks_by_option("max_retries", module):
        names = [task.name for task in tasks if _is_retried(task) and not _counts(task)]
        if names and constant(limit) is None:
            yield Hit(limit, f"Retried for ever: {listed(names)}.")


def _is_retried(task: Task) -> bool:
    inherited = (call for each in task.module.project.methods(task.base) for call in calls_in(each))
    return (
        task.is_on("autoretry_for")
        or any(True for _ in task.retries())
        or any(ast.unparse(call.func) == "self.retry" for call in inherited)
    )


def _counts(task: Task) -> bool:
    nodes = (node for each in task.function.body for node in ast.walk(each))
    return any(isinstance(node, ast.Attribute) and node.attr == "retries" for node in nodes)
