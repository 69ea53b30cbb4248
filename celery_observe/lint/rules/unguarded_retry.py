"""A task that repeats what it has already done when it is retried."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from celery_observe.findings import Severity
from celery_observe.lint.canvas import published
from celery_observe.lint.module import Module, method
from celery_observe.lint.registry import Hit, rule
from celery_observe.lint.task import Task, is_retry

BAD = (
    """
import requests
from celery import shared_task


@shared_task(autoretry_for=(OSError,), max_retries=5)
def charge(order):
    requests.post("https://bank.example/charges", json=order, timeout=5)  # bad
    requests.put("https://warehouse.example/orders", json=order, timeout=5)
""",
    """
from celery import Celery
from django.core.mail import send_mail
from shop.models import Payment

app = Celery("shop")


@app.task(bind=True)
def pay(self, order, customers):
    Payment.objects.create(order=order)  # bad
    try:
        for customer in customers:
            send_mail("Thank you", "...", "shop@example.org", [customer])  # bad
    except OSError as error:
        raise self.retry(exc=error)


@app.task(autoretry_for=(OSError,))
def tell(order):
    pack.delay(order)  # bad
    open("printer", "w").write(order)


@app.task
def pack(order):
    return order
""",
)
GOOD = (
    """
import requests
from celery import shared_task
from django.core.mail import send_mail
from shop.models import Payment


@shared_task(autoretry_for=(OSError,), max_retries=5)
def charge(order):
    requests.post("https://bank.example", json=order, headers={"Idempotency-Key": order["id"]}, timeout=5)
    requests.put("https://warehouse.example/orders", json=order, timeout=5)


@shared_task(autoretry_for=(OSError,))
def note(order):
    requests.get("https://warehouse.example/orders", timeout=5)
    requests.post("https://hooks.example", json=order, timeout=5)


@shared_task
def pay(order):
    Payment.objects.create(order=order)
    send_mail("Thank you", "...", "shop@example.org", [order["customer"]])


@shared_task(bind=True)
def once(self, order):
    if Payment.objects.filter(order=order).exists():
        return
    Payment.objects.create(order=order)
    try:
        requests.put("https://warehouse.example/orders", json=order, timeout=5)
    except OSError as error:
        raise self.retry(exc=error)


@shared_task(bind=True)
def in_order(self, order):
    try:
        requests.put("https://warehouse.example/orders", json=order, timeout=5)
    except OSError as error:
        raise self.retry(exc=error)
    send_mail("On its way", "...", "shop@example.org", [order["customer"]])
    print(order)
""",
)

_EFFECTS: Final = {
    "django.core.mail.send_mail": "sends mail",
    "django.core.mail.send_mass_mail": "sends mail",
    "httpx.post": "posts",
    "requests.api.post": "posts",
    "requests.post": "posts",
}
_CREATING: Final = frozenset({"create", "bulk_create"})
_GUARD: Final = re.compile(
    r"idempot|dedup|already|lock|once|unique|get_or|_or_create|exist|processed|sent$|atomic|savepoint|on_commit|select_for"
    r"|rollback|status|state$|done|created$|upsert|nonce",
    re.IGNORECASE,
)
"""Words by which a task is taken to know what it has done."""
_HARMLESS: Final = re.compile(
    r"log|print|warn|debug|info|str$|len$|int$|dict$|list$|format|isoformat|^get$|join|append|now$", re.IGNORECASE
)
"""Calls that do not make a task fail."""


@rule(
    Severity.WARNING,
    alerts=("CeleryTasksExecutedTwice", "CeleryRetryStorm"),
    metrics=("celery_task_outcomes_total", "celery_task_published_total"),
)
def unguarded_retry(module: Module) -> Iterator[Hit]:
    """A task that is retried repeats what it did before it failed.

    A retry runs the task from its first line. What had been posted, sent, created or published before the call that
    failed is posted, sent, created or published again: a customer is charged twice. The rule looks for such a call
    with another behind it, or in a loop, that a retry covers; it is quiet where the task looks whether it has been
    there before, in whatever way it can recognise.

    Fix: Make the effect the last thing that the task does, or a task of its own; or pass an idempotency key; or look
    first whether it has been done.
    """
    for task in module.tasks:
        retried = list(_retried(module, task))
        if not retried or _is_guarded(task):
            continue
        for call in task.calls():
            effect = _effect(module, call)
            if effect and any(_is_repeated(module, task, call, block) for block in retried):
                yield Hit(call, f"Task {task.name} {effect} here, and does so again when what follows is retried.")


def _retried(module: Module, task: Task) -> Iterator[list[ast.stmt]]:
    """Yield the statements whose failure makes the task start again."""
    if task.is_on("autoretry_for"):
        yield task.function.body
        return
    nodes = (node for each in task.function.body for node in ast.walk(each))
    for node in nodes:
        if isinstance(node, ast.Try) and any(_retries(module, task, handler) for handler in node.handlers):
            yield node.body


def _retries(module: Module, task: Task, handler: ast.ExceptHandler) -> bool:
    calls = (node for each in handler.body for node in ast.walk(each) if isinstance(node, ast.Call))
    return any(is_retry(module, call, task) for call in calls)


def _is_guarded(task: Task) -> bool:
    for each in task.function.body:
        for node in ast.walk(each):
            names = (getattr(node, name, None) for name in ("id", "attr", "arg", "value"))
            if any(isinstance(name, str) and _GUARD.search(name) for name in names):
                return True
    return False


def _effect(module: Module, call: ast.Call) -> str:
    """Tell what a call does that is not undone by doing it again; "" if that is nothing known."""
    name = module.callee(call)
    if name in _EFFECTS:
        return _EFFECTS[name]
    if method(call) in _CREATING and isinstance(call.func, ast.Attribute):
        owner = call.func.value
        return "creates a row" if isinstance(owner, ast.Attribute) and owner.attr == "objects" else ""
    found = published(module, call)
    return f"publishes {found.task.name}" if found is not None else ""


def _is_repeated(module: Module, task: Task, effect: ast.Call, block: list[ast.stmt]) -> bool:
    """Tell whether a call that may fail comes after an effect, where its failure is retried."""
    inside = {id(node) for each in block for node in ast.walk(each)}
    below: ast.AST = effect
    for above in module.ancestors(effect):
        if isinstance(above, ast.ExceptHandler | ast.Lambda):
            return False
        if isinstance(above, ast.For | ast.While) and id(above) in inside:
            return True
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(above, name, None)
            if isinstance(statements, list) and below in statements:
                later = statements[statements.index(below) + 1 :]
                if any(id(node) in inside and _may_fail(node) for each in later for node in ast.walk(each)):
                    return True
                if any(isinstance(each, ast.Return | ast.Raise | ast.Break | ast.Continue) for each in later):
                    return False
        if above is task.function:
            break
        below = above
    return False


def _may_fail(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = method(node) or getattr(node.func, "id", "")
    return bool(name) and not _HARMLESS.search(name)
