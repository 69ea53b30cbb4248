"""A loop that publishes one task after the other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from celery_observe.findings import Severity
from celery_observe.lint.canvas import PUBLISHING, published
from celery_observe.lint.module import Module, is_open, keyword
from celery_observe.lint.registry import Hit, rule

BAD = (
    """
from celery import shared_task


@shared_task
def refresh(article):
    return article


def refresh_all(articles):
    for article in articles:
        refresh.delay(article)  # bad
    for article in articles:
        price = article["price"]
        if price:
            refresh.apply_async((price,))  # bad
    return [refresh.delay(article) for article in articles]  # bad
""",
)
GOOD = (
    """
from celery import group, shared_task


@shared_task
def refresh(article):
    return article


@shared_task
def forget(article):
    return article


def refresh_all(articles):
    group(refresh.s(article) for article in articles).delay()
    for article in ("book", "lamp"):
        refresh.delay(article)
    for number, article in enumerate(articles):
        refresh.apply_async((article,), countdown=number)
    for article in articles:
        article.save()
        refresh.delay(article.id)
    for article in articles:
        (refresh if article.kept else forget).delay(article.id)
    while articles:
        refresh.delay(articles.pop())
    for start in range(0, len(articles), 100):
        refresh.delay(articles[start : start + 100])
    for article in ARTICLES:
        refresh.delay(article)


ARTICLES = ("book", "lamp")
""",
)

_FEW: Final = 8
"""A literal with so many elements is no bulk."""
_BATCHES: Final = re.compile(r"batch|chunk", re.IGNORECASE)
_WITH_STEP: Final = 3
_OF_EACH: Final = frozenset({"countdown", "eta", "queue", "priority", "task_id", "routing_key", "expires", "link"})
"""Options that differ from one message to the next; a group of such signatures is no shorter than the loop."""


@rule(
    Severity.INFO,
    alerts=("CeleryPublishFailing",),
    metrics=("celery_task_published_total", "celery_task_publish_seconds", "celery_workflow_tasks"),
)
def delay_in_loop(module: Module) -> Iterator[Hit]:
    """A loop does nothing but publish the same task, one message at a time.

    Each call takes a connection from the pool, publishes and waits for the socket; if one fails, those before it have
    been sent and those behind it have not. What was started cannot be waited for, counted or revoked as a whole.

    Fix: `group(task.s(each) for each in items).delay()` publishes all over one connection, has an id, and can be the
    header of a chord; `task.chunks(items, 100)` sends fewer messages.
    """
    for call in module.nodes(ast.Call):
        loop = _loop(module, call)
        found = published(module, call) if loop is not None else None
        if found is None or is_open(call) or any(keyword(call, name) for name in _OF_EACH):
            continue
        if not found.task.overrides(*PUBLISHING):  # a group would not call these
            yield Hit(call, f"The loop publishes {found.task.name} once for each element; a group would do it at once.")


def _loop(module: Module, call: ast.Call) -> ast.AST | None:
    """Return the loop that exists to make this call; None if it does more, or is over few elements."""
    above = module.parent(call)
    if isinstance(above, ast.ListComp | ast.SetComp | ast.GeneratorExp):
        return above if len(above.generators) == 1 and not _is_short(above.generators[0].iter) else None
    statement = above
    while isinstance(above := module.parent(above) if above is not None else None, ast.If) and not above.orelse:
        pass
    if not isinstance(statement, ast.Expr) or not isinstance(above, ast.For) or _is_short(above.iter):
        return None
    return above if all(_is_preparation(each, statement) for each in above.body) and not above.orelse else None


def _is_preparation(node: ast.stmt, publish: ast.stmt) -> bool:
    """Tell whether a statement of the loop is the publish, or only what it needs."""
    if node is publish or isinstance(node, ast.Pass | ast.Continue):
        return True
    if isinstance(node, ast.If):
        return not node.orelse and all(_is_preparation(each, publish) for each in node.body)
    return isinstance(node, ast.Assign) and not any(isinstance(each, ast.Call) for each in ast.walk(node.value))


def _is_short(items: ast.expr) -> bool:
    """Tell whether a loop is over few elements: a literal, a constant, or batches of what is many."""
    if isinstance(items, ast.Tuple | ast.List | ast.Set):
        return len(items.elts) <= _FEW
    name = items.func if isinstance(items, ast.Call) else items
    told = getattr(name, "attr", getattr(name, "id", ""))
    if isinstance(items, ast.Call):
        return bool(_BATCHES.search(told)) or (told == "range" and len(items.args) == _WITH_STEP)
    return bool(told) and told.isupper()
