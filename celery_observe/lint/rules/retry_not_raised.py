"""`self.retry(…)` without `raise`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from celery_observe.findings import Severity
from celery_observe.lint.module import Module, constant, keyword
from celery_observe.lint.registry import Hit, rule
from celery_observe.lint.task import is_retry

BAD = (
    """
from celery import shared_task


@shared_task(bind=True)
def charge(self, order):
    if order["locked"]:
        self.retry(countdown=10)  # bad
    return order["id"]
""",
    """
from celery import Task, current_app as app


class Charge(Task):
    def run(self, order):
        if order["locked"]:
            return self.retry(countdown=10, throw=False)  # bad
        return order["id"]


@app.task
def look(order):
    if order["locked"]:
        look.retry()  # bad
""",
)
GOOD = (
    """
from celery import shared_task
import tenacity


@shared_task(bind=True)
def charge(self, order):
    if order["locked"]:
        raise self.retry(countdown=10)
    tenacity.retry(print)
    order.retry()


def retry(self):
    self.retry()
""",
)


@rule(
    Severity.INFO,
    metrics=("celery_task_outcomes_total",),
)
def retry_not_raised(module: Module) -> Iterator[Hit]:
    """`self.retry(…)` is called, and its result not raised.

    It raises `Retry` by itself, so that the code behind it never runs: neither a reader nor a tool can see that, and
    what is put there by mistake is lost in silence. With `throw=False` it does not raise: the task goes on, is
    counted as a success, and runs again all the same; that is a warning.

    Fix: Write `raise self.retry(…)`.
    """
    for call in module.nodes(ast.Call):
        above = module.parent(call)
        if isinstance(above, ast.Expr | ast.Return) and is_retry(module, call, module.task(call)):
            quiet = keyword(call, "throw")
            if quiet is not None and constant(quiet) is False:
                yield Hit(call, "The task goes on after this retry, and counts as a success.", Severity.WARNING)
            elif isinstance(above, ast.Expr):
                yield Hit(call, "This raises Retry, and does not look as if it did.")
