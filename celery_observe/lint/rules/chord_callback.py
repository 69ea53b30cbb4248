"""A callback that cannot take what it is called with."""

from __future__ import annotations

from collections.abc import Iterator

from celery_observe.findings import Severity
from celery_observe.lint.canvas import Given, following, signature
from celery_observe.lint.module import Module
from celery_observe.lint.registry import Hit, rule

BAD = (
    """
from celery import chord, group, shared_task


@shared_task
def count(shelf):
    return len(shelf)


@shared_task
def close():
    return "closed"


def take_stock(shelves):
    chord([count.s(shelf) for shelf in shelves], close.s()).delay()  # bad
    (group(count.s(shelf) for shelf in shelves) | close.s()).delay()  # bad
    count.apply_async((shelves[0],), link=close.s())  # bad
""",
    """
from celery import Celery, chain, chord

app = Celery("shop")


@app.task(bind=True)
def add(self, counts, shop):
    return sum(counts)


@app.task
def count(shelf):
    return len(shelf)


def take_stock(shelves):
    chord(count.s(shelf) for shelf in shelves)(add.s(counts=[], shop=1))  # bad
    chain(count.s(shelves), add.si([1])).delay()  # bad
""",
)
GOOD = (
    """
from celery import chain, chord, group, shared_task


@shared_task
def count(shelf):
    return len(shelf)


@shared_task
def close():
    return "closed"


@shared_task(bind=True)
def add(self, counts, shop, *, currency="EUR"):
    return sum(counts)


@shared_task
def anything(*args, **kwargs):
    return args


def take_stock(shelves, options):
    chord([count.s(shelf) for shelf in shelves], close.si()).delay()
    chord([count.s(shelf) for shelf in shelves])(add.s(1, currency="SEK"))
    chain(count.s(shelves), group(anything.s(1), close.si()), anything.s(a=1)).delay()
    chain(close.s(), count.si(shelves), add.s(**options)).delay()
    count.apply_async((shelves,), link=count.s(), link_error=close.si())
""",
)


@rule(
    Severity.CRITICAL,
    alerts=("CeleryErrorBudgetBurn", "CeleryChordsBroken"),
    metrics=("celery_task_failures_total", "celery_workflow_outcomes_total", "celery_chord_waiting"),
)
def chord_callback(module: Module) -> Iterator[Hit]:
    """A callback is called with arguments that it does not take.

    What follows in a chain, the body of a chord and a `link` are called with the result of what came before as their
    first argument, before those given in `s()`; `si()` makes an immutable signature, which gets only its own. A task
    that does not take them fails with TypeError, after all that came before has been done.

    Fix: Use `si()` for a task that does not want the result, `s()` for one that does.
    """
    for follower in following(module):
        found = signature(module, follower.node)
        problem = _problem(found) if found is not None and _is_plain(found) else ""
        if found is not None and problem:
            call = f"{found.task.name}.{'si' if found.is_immutable else 's'}()"
            yield Hit(follower.node, f"{call} {_PLACES[follower.after]} {problem}.")


_PLACES = {
    "chord": "as the body of a chord",
    "chain": "in a chain",
    "link": "as a link",
}


def _is_plain(found: Given) -> bool:
    """Tell whether the task is called with what the signature says: nothing between them changes it."""
    task = found.task
    is_alone = len(task.function.decorator_list) <= 1
    return is_alone and task.is_known and not task.overrides("__call__")


def _problem(found: Given) -> str:
    """Tell what is wrong with the arguments that a callback is called with; "" if nothing is."""
    given = found.task.function.args
    names = [each.arg for each in (*given.posonlyargs, *given.args)][1 if found.task.is_bound else 0 :]
    count = len(found.args) + (not found.is_immutable)
    if found.is_complete and count > len(names) and given.vararg is None:
        result = " with the result of what came before" if not found.is_immutable else ""
        return f"is called with {count} positional arguments{result}, and takes {len(names)}"
    twice = [name for name in names[:count] if name in found.keywords] if found.is_complete else []
    if twice:
        return f"gets its argument {twice[0]} twice"
    needed = names[count : len(names) - len(given.defaults)] if found.is_complete else []
    missing = [name for name in needed if name not in found.keywords]
    return f"is called without its argument {missing[0]}" if missing else ""
