"""A task that is acknowledged before it runs, and behaves as if it were not."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from celery_observe.findings import Severity, listed
from celery_observe.lint.module import Module, constant, keyword
from celery_observe.lint.registry import Hit, rule
from celery_observe.lint.task import Task

BAD = (
    """
from celery import shared_task
from celery.exceptions import Reject


@shared_task(reject_on_worker_lost=True)  # bad
def resize(picture):
    return picture


@shared_task
def fetch(picture):
    if not picture:
        raise Reject("not there yet", requeue=True)  # bad
    return picture
""",
    """
from celery import Celery

app = Celery("shop")
app.conf.update(task_reject_on_worker_lost=True)  # bad
""",
)
GOOD = (
    """
from celery import shared_task
from celery.exceptions import Reject


@shared_task(acks_late=True, reject_on_worker_lost=True)
def resize(picture):
    if not picture:
        raise Reject("not there yet", requeue=True)
    return picture


@shared_task
def fetch(picture):
    raise Reject("no such picture", requeue=False)
""",
    """
from celery import Celery, shared_task

app = Celery("shop")
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True


@shared_task(reject_on_worker_lost=True)
def resize(picture):
    return picture
""",
)


@rule(
    Severity.WARNING,
    alerts=("CeleryTasksKilled", "CeleryTasksVanished"),
    metrics=("celery_task_failures_total", "celery_task_redeliveries_total"),
)
def early_acknowledgement(module: Module) -> Iterator[Hit]:
    """A task asks to be delivered again, but is acknowledged before it runs.

    `reject_on_worker_lost` and `Reject(requeue=True)` put the message back on the queue. By default Celery
    acknowledges a message before the task starts, so there is nothing left to put back: a task that is killed, or
    rejects itself, is gone.

    Fix: Set `acks_late=True` too, or `task_acks_late` for all; then the task must bear to run twice.
    """
    if module.project.might_be_on("task_acks_late"):
        return
    for setting, (place, value) in _settings(module):
        if place is module:
            yield Hit(value, f"{setting} does nothing without task_acks_late.")
    for option, tasks in module.project.tasks_by_option("reject_on_worker_lost", module):
        names = [task.name for task in tasks if _is_early(task)]
        if names and constant(option) is True:
            yield Hit(option, f"reject_on_worker_lost does nothing without acks_late, for {listed(names)}.")
    for task in filter(_is_early, module.tasks):
        yield from _rejected(task)


def _settings(module: Module) -> Iterator[tuple[str, tuple[Module, ast.expr]]]:
    name = "task_reject_on_worker_lost"
    return ((name, each) for each in module.project.settings.get(name, ()) if constant(each[1]) is True)


def _is_early(task: Task) -> bool:
    return task.is_known and not task.is_on("acks_late")


def _rejected(task: Task) -> Iterator[Hit]:
    for call in task.calls():
        requeue = keyword(call, "requeue") if task.module.callee(call).endswith(".Reject") else None
        if requeue is not None and constant(requeue) is True:
            yield Hit(call, f"Task {task.name} cannot be put back: it was acknowledged before it started.")
