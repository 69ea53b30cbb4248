"""An argument that does not survive the way to the worker."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from celery_observe.findings import Severity
from celery_observe.lint.canvas import Given, given
from celery_observe.lint.module import Module, constant, keyword
from celery_observe.lint.registry import Hit, rule
from celery_observe.lint.scope import Binding

BAD = (
    """
from celery import shared_task
from shop.models import Order


@shared_task
def ship(order, sort=None):
    return order


def later(number):
    order = Order.objects.get(pk=number)
    ship.delay(order)  # bad
    ship.apply_async(args=[number], kwargs={"sort": lambda line: line.price})  # bad
    for each in Order.objects.filter(paid=True):
        if each.pk:
            print(ship.s(each))  # bad
""",
    """
from celery import Celery
from django.db import models

app = Celery("shop")


class Order(models.Model):
    def save(self, **kwargs):
        super().save(**kwargs)
        ship.delay(self)  # bad
        ship.delay(line for line in kwargs)  # bad


@app.task
def ship(order):
    return order


def sold(session, number):
    ship.delay(session.query(Order).filter_by(number=number).first())  # bad
""",
)
GOOD = (
    """
from celery import shared_task
from shop.models import Order


@shared_task
def ship(order, lines=()):
    return order


@shared_task(serializer="pickle")
def pickled(order):
    return order


def later(number):
    order = Order.objects.get(pk=number)
    ship.delay(order.pk)
    ship.delay(Order.objects.filter(paid=True).count())
    ship.apply_async((number,), {"lines": list(Order.objects.values_list("pk", flat=True))})
    pickled.delay(order)
    for row in Order.objects.values("pk"):
        print(ship.s(row))
    for pk in Order.objects.filter(paid=True).values_list("pk", flat=True):
        print(ship.s(pk))
    order = order.pk
    ship.delay(order)
    sorted(lines, key=lambda line: line) if (lines := [1]) else None
""",
    """
from celery import Celery

app = Celery("shop", task_serializer="pickle")


@app.task
def ship(order):
    return order


def sold(session, number):
    ship.delay(session.query(print).filter_by(number=number).first())
""",
)

_ONE: Final = frozenset({"create", "earliest", "first", "get", "get_or_404", "last", "latest", "one", "one_or_none"})
_MANY: Final = frozenset(
    {"all", "annotate", "distinct", "exclude", "filter", "filter_by", "order_by", "prefetch_related", "select_related"}
)
_PLAIN: Final = frozenset({"values", "values_list", "aggregate", "with_entities", "dates", "datetimes"})
"""What makes rows of plain values of a query."""
_SHORTCUTS: Final = frozenset({"django.shortcuts.get_object_or_404", "django.shortcuts.get_list_or_404"})
_MODELS: Final = ("models.Model", "db.Model", "TimeStampedModel", "models.base.Model")


@rule(
    Severity.CRITICAL,
    metrics=("celery_task_publish_failures_total", "celery_task_failures_total"),
    alerts=("CeleryPublishFailing",),
)
def unserializable_argument(module: Module) -> Iterator[Hit]:
    """A task is given a lambda, a generator, a query or an ORM object.

    Arguments travel as JSON: publishing raises EncodeError. With pickle an ORM object does arrive, as it was when it
    was published: the task writes back what others have changed since, and breaks when the class has changed. The
    rule is quiet where the source asks for pickle.

    Fix: Pass the primary key, and let the task fetch the object.
    """
    if any(
        constant(value) not in {"json", False, None} for _, value in module.project.settings.get("task_serializer", ())
    ):
        return
    for call in module.nodes(ast.Call):
        found = given(module, call)
        if found is not None and _is_json(call, found):
            for value in found.values:
                what = _unserializable(module, value)
                if what:
                    yield Hit(value, f"Task {found.task.name} is given {what}.")


def _is_json(call: ast.Call, found: Given) -> bool:
    serializers = (keyword(call, "serializer"), found.task.options.get("serializer"))
    is_plain = not found.task.overrides("apply_async", "delay", "__call__")
    return is_plain and all(each is None or constant(each) == "json" for each in serializers)


def _unserializable(module: Module, node: ast.expr) -> str:
    if isinstance(node, ast.Lambda):
        return "a lambda"
    if isinstance(node, ast.GeneratorExp):
        return "a generator"
    if not isinstance(node, ast.Name):
        return _queried(module, node)
    if _is_model(module, node):
        return f"{node.id}, an ORM object"
    found = {_bound(module, each) for each in module.bindings(node)}
    return f"{node.id}, {found.pop()}" if len(found) == 1 and "" not in found else ""


def _bound(module: Module, binding: Binding) -> str:
    if binding.value is not None:
        return _queried(module, binding.value)
    return "an ORM object" if binding.items is not None and _queried(module, binding.items) == "a query" else ""


def _queried(module: Module, node: ast.expr) -> str:
    """Tell whether an expression asks an ORM: `Order.objects.filter(…)`, `session.query(Order).first()`."""
    if not isinstance(node, ast.Call):
        return ""
    if module.callee(node) in _SHORTCUTS:
        return "an ORM object"
    methods = list(_chain(node))
    if not methods or _PLAIN.intersection(methods) or not _is_orm(node):
        return ""
    if methods[0] in _ONE:
        return "an ORM object"
    return "a query" if methods[0] in _MANY else ""


def _chain(node: ast.expr) -> Iterator[str]:
    """Yield the methods of a chain of calls, the last first: `first`, `filter` of `x.filter().first()`."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield node.func.attr
        node = node.func.value


def _is_orm(node: ast.expr) -> bool:
    """Tell whether a chain begins at a manager or a session, asked for whole objects."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "query":
            return len(node.args) == 1 and isinstance(node.args[0], ast.Name) and node.args[0].id[:1].isupper()
        node = node.func.value
    return isinstance(node, ast.Attribute) and node.attr in {"objects", "query"} and isinstance(node.value, ast.Name)


def _is_model(module: Module, node: ast.Name) -> bool:
    """Tell whether a name is `self` in a method of a model."""
    function = module.function(node)
    above = module.parent(function) if function is not None else None
    if function is None or not isinstance(above, ast.ClassDef) or not function.args.args or function.decorator_list:
        return False
    bases = [module.dotted(base) for base in above.bases]
    return function.args.args[0].arg == node.id and any(base.endswith(_MODELS) for base in bases)
