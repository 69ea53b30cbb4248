"""An `except` that catches what Celery needs to see."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from celery_observe.findings import Severity
from celery_observe.lint.module import Module, constant, keyword
from celery_observe.lint.registry import Hit, rule
from celery_observe.lint.scope import FUNCTIONS
from celery_observe.lint.task import Task, is_retry

BAD = (
    """
from celery import shared_task


@shared_task(bind=True)
def charge(self, order):
    try:
        if order["locked"]:
            raise self.retry(countdown=10)
    except Exception as error:  # bad
        print(error)


@shared_task
def look(order):
    try:
        return order["id"]
    except:  # bad
        return None
""",
    """
from celery import Celery

app = Celery("shop")


@app.task(soft_time_limit=60)
def count(shelves):
    for shelf in shelves:
        try:
            shelf.count()
        except (ValueError, Exception):  # bad
            continue
""",
)
GOOD = (
    """
from celery import shared_task
from celery.exceptions import Retry, SoftTimeLimitExceeded


@shared_task(bind=True)
def charge(self, order):
    try:
        if order["locked"]:
            raise self.retry(countdown=10)
    except Retry:
        raise
    except Exception as error:
        print(error)
    try:
        return order["id"]
    except Exception as error:
        raise self.retry(exc=error)


@shared_task(soft_time_limit=60)
def count(shelves):
    for shelf in shelves:
        try:
            shelf.count()
        except SoftTimeLimitExceeded:
            break
        except Exception:
            continue


@shared_task
def look(order):
    try:
        return order["id"]
    except Exception:
        return None


@shared_task
def close(order):
    try:
        return order["id"]
    except:
        print("no id")
        raise
""",
)

_BROAD: Final = frozenset({"Exception", "BaseException", "builtins.Exception", "builtins.BaseException"})
_RETRY: Final = ("Retry", "TaskPredicate")
_LIMIT: Final = ("SoftTimeLimitExceeded",)


@rule(
    Severity.CRITICAL,
    alerts=("CeleryTasksKilledByTimeLimit", "CeleryTasksExecutedTwice"),
    metrics=("celery_task_outcomes_total", "celery_task_failures_total"),
)
def swallowed_retry(module: Module) -> Iterator[Hit]:
    """A broad `except` in a task catches Retry or SoftTimeLimitExceeded, and does not raise it again.

    Both are exceptions by which a task ends. A `Retry` that is caught has already sent the message: the task goes on,
    counts as a success, and runs again. A soft time limit that is caught is no limit: the task goes on until the hard
    one kills its process. A bare `except` catches the interpreter's own too: `SystemExit`, `KeyboardInterrupt`.

    Fix: Catch what the call can raise; or put `except (Retry, SoftTimeLimitExceeded): raise` before the broad one, or
    the `self.retry` outside the `try`.
    """
    for node in module.nodes(ast.Try):
        task = module.task(node)
        caught = task and _caught(module, node)
        if task and caught and not _raises(module, caught, task):
            message = _swallowed(module, task, node, caught)
            if message:
                yield Hit(caught, message)


def _caught(module: Module, node: ast.Try) -> ast.ExceptHandler | None:
    """Return the first handler that catches everything."""
    return next((each for each in node.handlers if each.type is None or _BROAD & _names(module, each)), None)


def _names(module: Module, handler: ast.ExceptHandler) -> set[str]:
    listed = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {module.dotted(each) for each in listed}


def _raises(module: Module, handler: ast.ExceptHandler, task: Task) -> bool:
    """Tell whether a handler may raise: by itself, or by a retry or another call that is made to end the task."""
    nodes = [node for each in handler.body for node in ast.walk(each)]
    return any(
        isinstance(node, ast.Raise)
        or (isinstance(node, ast.Call) and (is_retry(module, node, task) or module.callee(node) == "sys.exit"))
        for node in nodes
    )


def _swallowed(module: Module, task: Task, node: ast.Try, caught: ast.ExceptHandler) -> str:
    """Tell what a handler that catches everything swallows; "" if it is nothing of Celery's."""
    before = node.handlers[: node.handlers.index(caught)]
    passed = {name.rpartition(".")[2] for each in before for name in _names(module, each)}
    if not passed.intersection(_RETRY) and _retries(module, node, task):
        return f"The retry in this try of task {task.name} is swallowed: the task counts as a success, and runs again."
    if passed.intersection(_LIMIT):
        return ""
    if caught.type is None or any(name.endswith("BaseException") for name in _names(module, caught)):
        return f"This swallows a soft time limit of task {task.name}, SystemExit and all else."
    if task.is_softly_limited and _goes_on(module, node, task):
        return f"This swallows the soft time limit of task {task.name}, which goes on."
    return ""


def _retries(module: Module, node: ast.Try, task: Task) -> bool:
    """Tell whether the body of a try calls `self.retry`, where no inner try catches it."""
    calls = (call for each in node.body for call in ast.walk(each) if isinstance(call, ast.Call))
    return any(
        is_retry(module, call, task)
        and constant(keyword(call, "throw")) is not False
        and next(each for each in module.ancestors(call) if isinstance(each, ast.Try) and _is_tried(call, each)) is node
        for call in calls
    )


def _is_tried(node: ast.AST, within: ast.Try) -> bool:
    """Tell whether a node stands in the body of a try, not in its handlers."""
    return any(node is each for statement in within.body for each in ast.walk(statement))


def _goes_on(module: Module, node: ast.Try, task: Task) -> bool:
    """Tell whether the try is in a loop of the task, so that there is more to do after it."""
    for above in module.ancestors(node):
        if isinstance(above, ast.For | ast.AsyncFor | ast.While):
            return True
        if above is task.function or isinstance(above, FUNCTIONS):
            return False
    return False
