"""Calls of tasks: signatures, what publishes them, and what workflows are made of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final, NamedTuple

from celery_observe.lint.module import Module, constant, is_open, keyword, method
from celery_observe.lint.task import Task

PUBLISHING: Final = frozenset({"delay", "apply_async"})
_MAKING: Final = {"s": False, "si": True, "signature": False, "subtask": False}
"""Methods that make a signature, and whether it is immutable."""
_CHANGING: Final = frozenset({"set", "on_error", "link", "link_error", "stamp"})
"""Methods that return the signature they are called on."""
_CANVAS: Final = {
    f"{package}.{name}": name for package in ("celery", "celery.canvas") for name in ("chain", "chord", "group")
}


class Given(NamedTuple):
    """The arguments that a call gives to a task."""

    task: Task
    args: tuple[ast.expr, ...]
    keywords: dict[str, ast.expr]
    is_complete: bool
    """Whether these are all: not with `*args` or `**kwargs`."""
    is_immutable: bool = False

    @property
    def values(self) -> tuple[ast.expr, ...]:
        """All arguments, whatever they are called."""
        return (*self.args, *self.keywords.values())


def primitive(module: Module, node: ast.AST | None) -> str:
    """Return `chain`, `chord` or `group` if that is what an expression makes, else ""."""
    if isinstance(node, ast.Call) and method(node) in _CHANGING:
        return primitive(module, node.func.value) if isinstance(node.func, ast.Attribute) else ""
    return _CANVAS.get(module.callee(node), "")


def task_named(module: Module, node: ast.AST) -> Task | None:
    """Return the task that an expression names: itself in a bound task, or one of the project."""
    around = module.task(node)
    if around is not None and isinstance(node, ast.Name) and node.id == around.itself:
        return around
    return module.project.tasks.get(module.dotted(node))


def signature(module: Module, node: ast.AST | None) -> Given | None:
    """Return the task and the arguments of a signature, such as `task.s(1).set(queue="q")`; None for anything else."""
    name = method(node)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return None
    if name in _CHANGING:
        changed = signature(module, node.func.value)
        is_frozen = name == "set" and constant(keyword(node, "immutable")) is True
        return changed._replace(is_immutable=True) if changed and is_frozen else changed
    if name not in _MAKING or (task := task_named(module, node.func.value)) is None:
        return None
    if name in {"s", "si"}:
        return _direct(task, node)._replace(is_immutable=_MAKING[name])
    return _packed(task, node)._replace(is_immutable=constant(keyword(node, "immutable")) is True)


def published(module: Module, call: ast.Call) -> Given | None:
    """Return the task and the arguments of `task.delay(…)` or `task.apply_async(…)`; None for anything else."""
    name = method(call)
    if name not in PUBLISHING or not isinstance(call.func, ast.Attribute):
        return None
    task = task_named(module, call.func.value)
    if task is None:
        return signature(module, call.func.value)
    return _direct(task, call) if name == "delay" else _packed(task, call)


def given(module: Module, call: ast.Call) -> Given | None:
    """Return the task and the arguments of a call that publishes a task or makes a signature."""
    return published(module, call) or signature(module, call)


def _direct(task: Task, call: ast.Call) -> Given:
    """Return the arguments of `delay(1, a=2)`."""
    keywords = {each.arg: each.value for each in call.keywords if each.arg}
    return Given(task, tuple(call.args), keywords, not is_open(call))


def _packed(task: Task, call: ast.Call) -> Given:
    """Return the arguments of `apply_async((1,), {"a": 2})`."""
    args = call.args[0] if call.args else keyword(call, "args")
    keywords = call.args[1] if len(call.args) > 1 else keyword(call, "kwargs")
    listed = args.elts if isinstance(args, ast.Tuple | ast.List) else []
    named = _table(keywords) if isinstance(keywords, ast.Dict) else {}
    is_complete = (
        (args is None or isinstance(args, ast.Tuple | ast.List))
        and (keywords is None or len(named) == len(getattr(keywords, "keys", "?")))
        and not any(isinstance(each, ast.Starred) for each in listed)
    )
    return Given(task, tuple(listed), named, is_complete and not is_open(call))


def _table(node: ast.Dict) -> dict[str, ast.expr]:
    pairs = zip(node.keys, node.values, strict=True)
    return {key.value: value for key, value in pairs if isinstance(key, ast.Constant) and isinstance(key.value, str)}


class Following(NamedTuple):
    """A signature that is called with the result of what came before it."""

    node: ast.Call
    after: str
    """What came before: `chord`, `chain` or `link`."""


def following(module: Module) -> Iterator[Following]:
    """Yield the signatures of a module that get the result of another task."""
    for call in module.nodes(ast.Call):
        for node, after in _followers(module, call):
            yield from _unpacked(module, node, after)
    for pipe in module.nodes(ast.BinOp):
        if isinstance(pipe.op, ast.BitOr) and _is_canvas(module, pipe.left):
            yield from _unpacked(module, pipe.right, "chord" if primitive(module, pipe.left) == "group" else "chain")


def _followers(module: Module, call: ast.Call) -> Iterator[tuple[ast.expr, str]]:
    made = _CANVAS.get(module.callee(call), "")
    if made == "chain":
        listed = call.args[0].elts if len(call.args) == 1 and isinstance(call.args[0], ast.List) else call.args
        yield from ((each, "chain") for each in listed[1:])
    elif made == "chord":
        body = call.args[1] if len(call.args) > 1 else keyword(call, "body")
        yield from ((each, "chord") for each in [body] if each is not None)
    elif primitive(module, call.func) == "chord" and call.args:
        yield call.args[0], "chord"
    if method(call) == "apply_async":
        linked = keyword(call, "link")
        listed = linked.elts if isinstance(linked, ast.List | ast.Tuple) else [linked] if linked else []
        yield from ((each, "link") for each in listed)


def _unpacked(module: Module, node: ast.expr, after: str) -> Iterator[Following]:
    """Yield a signature, or those of a group, each of which gets the result."""
    values = module.values(node)
    value = values[0] if len(values) == 1 else None
    if not isinstance(value, ast.Call):
        return
    if primitive(module, value) == "group":
        listed = value.args[0].elts if len(value.args) == 1 and isinstance(value.args[0], ast.List) else value.args
        yield from (Following(each, after) for each in listed if isinstance(each, ast.Call))
    else:
        yield Following(value, after)


def _is_canvas(module: Module, node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr) and _is_canvas(module, node.right)
    return bool(primitive(module, node)) or signature(module, node) is not None
