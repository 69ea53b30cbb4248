"""An ETA without a time zone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from celery_observe.findings import Severity
from celery_observe.lint.module import Module, constant, keyword, method
from celery_observe.lint.registry import Hit, rule

BAD = (
    """
from datetime import datetime, timedelta

from celery import shared_task


@shared_task
def remind(cart):
    return cart


def later(cart):
    remind.apply_async((cart,), eta=datetime.now() + timedelta(hours=1))  # bad
    remind.apply_async((cart,), expires=datetime.utcnow() + timedelta(hours=1))  # bad
""",
    """
import datetime as dt

from celery import shared_task


@shared_task(bind=True)
def remind(self, cart):
    due = dt.datetime(2030, 1, 1, 12, 0)
    remind.s(cart).set(eta=due).delay()  # bad
    remind.apply_async((cart,), eta=dt.datetime.strptime(cart["day"], "%Y-%m-%d"))  # bad
    raise self.retry(eta=dt.datetime.fromtimestamp(cart["due"]))  # bad
""",
)
GOOD = (
    """
import datetime
from datetime import timezone
from zoneinfo import ZoneInfo

from celery import shared_task
from django.utils import timezone as django


@shared_task(bind=True)
def remind(self, cart):
    hour = datetime.timedelta(hours=1)
    remind.apply_async((cart,), eta=datetime.datetime.now(timezone.utc) + hour)
    remind.apply_async((cart,), eta=django.now() + hour, expires=3600)
    remind.apply_async((cart,), eta=datetime.datetime.now().astimezone())
    remind.apply_async((cart,), eta=datetime.datetime(2030, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")))
    remind.apply_async((cart,), eta=datetime.datetime.strptime(cart["due"], "%Y-%m-%dT%H:%M%z"))
    raise self.retry(eta=cart["due"])


def note(store):
    store.set(eta=datetime.datetime.now())
""",
)

_ZONE_AT: Final = {"fromtimestamp": 1, "now": 0, "utcfromtimestamp": 9, "utcnow": 9, "today": 9, "combine": 2}
"""Constructors of `datetime`, and which positional argument is the time zone."""
_NAMES: Final = ("eta", "expires")


@rule(
    Severity.WARNING,
    alerts=("CeleryQueueOldestMessageTooOld",),
    metrics=("celery_queue_scheduled", "celery_task_queue_wait_seconds"),
)
def naive_eta(module: Module) -> Iterator[Hit]:
    """A task gets an ETA or an expiry without a time zone.

    Celery sends a naive time as it is, and the worker takes it for one in the `timezone` of the app, UTC by default.
    `datetime.now()` is local time: where the publisher's clock is not on that zone the task runs hours late, at once,
    or expires before it starts. `utcnow()` is right only as long as nobody sets `timezone`.

    Fix: Use `datetime.now(UTC)`, `django.utils.timezone.now()`, or `countdown=`, which has no zone.
    """
    for call in module.nodes(ast.Call):
        for name in _NAMES if _schedules(module, call) else ():
            time = keyword(call, name)
            if time is not None and _is_naive(module, time):
                yield Hit(call, f"{name} has no time zone.")


def _schedules(module: Module, call: ast.Call) -> bool:
    if method(call) in {"apply_async", "send_task"}:
        return True
    if method(call) == "retry":
        return module.task(call) is not None
    return method(call) == "set" and isinstance(call.func, ast.Attribute) and method(call.func.value) in {"s", "si"}


def _is_naive(module: Module, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_naive(module, node.left) or _is_naive(module, node.right)
    return all(value is not None and _makes_naive(module, value) for value in module.values(node))


def _makes_naive(module: Module, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return _makes_naive(module, node.left)
    if not isinstance(node, ast.Call):
        return False
    if module.dotted(node.func) == "datetime.datetime.strptime":
        form = constant(node.args[1]) if len(node.args) > 1 else None
        return isinstance(form, str) and "%z" not in form
    name = module.dotted(node.func).removeprefix("datetime.datetime")
    zone_at = _ZONE_AT.get(name.removeprefix("."), None) if name.startswith(".") else 7
    if name == module.dotted(node.func) or zone_at is None:
        return False
    zones = [each.value for each in node.keywords if each.arg in {None, "tz", "tzinfo"}] + node.args[zone_at:]
    return all(constant(zone) is None for zone in zones)
