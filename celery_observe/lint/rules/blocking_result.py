"""A task that waits for another task."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from celery_observe.findings import Severity
from celery_observe.lint.canvas import PUBLISHING, primitive
from celery_observe.lint.module import Module, method
from celery_observe.lint.registry import Hit, rule

BAD = (
    """
from celery import shared_task


@shared_task
def total(orders):
    return sum(price.delay(order).get() for order in orders)  # bad


@shared_task
def price(order):
    return order["pieces"] * 3
""",
    """
from celery import Celery, group
from celery.result import AsyncResult, allow_join_result

app = Celery("shop")


@app.task(bind=True)
def report(self, rows, waiting):
    pending = group(render.s(row) for row in rows)()
    with allow_join_result():
        pages = pending.join()  # bad
    while not self.AsyncResult(waiting).ready():  # bad
        pages.append("")
    return pages, AsyncResult(waiting).wait(timeout=10)  # bad


@app.task
def render(row):
    return str(row)


@app.task
def all_pages(rows):
    pending = [render.delay(rows[0]), render.delay(rows[-1])]
    return collect(pending) + [result.get() for result in pending]  # bad


def collect(rows):
    return render.delay(rows).get()  # bad
""",
)
GOOD = (
    """
from celery import chord, shared_task


def start(orders):
    return chord((price.s(order) for order in orders), total.s()).delay().get(timeout=10)


@shared_task
def price(order):
    return order["pieces"] * 3


@shared_task
def total(prices):
    return sum(prices)
""",
    """
from celery import shared_task


@shared_task
def look(order):
    found = {"colour": "red"}
    price.apply([order]).get()
    [each.get("colour") for each in [found]]
    return found.get("colour"), "".join(order)


@shared_task
def price(order):
    return order["pieces"] * 3
""",
)

_WAITING: Final = frozenset({"get", "wait", "join", "join_native", "wait_for_pending"})
_RESULTS: Final = frozenset({"AsyncResult", "GroupResult", "ResultSet"})


@rule(
    Severity.CRITICAL,
    alerts=("CeleryWorkerSaturated", "CeleryTaskHung"),
    metrics=("celery_task_blocked", "celery_task_blocked_seconds"),
)
def blocking_result(module: Module) -> Iterator[Hit]:
    """A task waits for the result of another task.

    It keeps its slot while it waits. Once all slots are taken by tasks that wait, those they wait for cannot start:
    the worker stands still for ever, and looks busy. Celery raises RuntimeError for `get` inside a task, unless
    `disable_sync_subtasks=False` or `allow_join_result` silences it; then the deadlock is real.

    Fix: Let the workflow wait: `chain` for what comes after, `chord` for what comes after several, `self.replace`
    from inside a task.
    """
    for call in module.nodes(ast.Call):
        if isinstance(call.func, ast.Attribute) and _waits(module, call):
            function = module.function(call)
            task = module.task(call) or (module.project.executed.get(function) if function is not None else None)
            if task is not None and _is_result(module, call.func.value):
                yield Hit(call, f"Task {task.name} waits for the result of another task.")


def _waits(module: Module, call: ast.Call) -> bool:
    if method(call) == "ready":
        return any(isinstance(each, ast.While) and _is_in(call, each.test) for each in module.ancestors(call))
    return method(call) in _WAITING


def _is_in(node: ast.AST, tree: ast.AST) -> bool:
    return any(each is node for each in ast.walk(tree))


def _is_result(module: Module, node: ast.expr) -> bool:
    values = module.elements(node) if isinstance(node, ast.Name) else []
    return all(isinstance(value, ast.Call) and _makes_result(module, value) for value in values or module.values(node))


def _makes_result(module: Module, call: ast.Call) -> bool:
    if method(call) in PUBLISHING or primitive(module, call.func):
        return True
    name = method(call) or module.callee(call).rpartition(".")[2]
    if name not in _RESULTS:
        return False
    dotted = module.callee(call)
    return not dotted or dotted.startswith("celery.") or "celery" in dotted or isinstance(call.func, ast.Attribute)
