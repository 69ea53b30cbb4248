"""A module of the linted source: its syntax tree, and what its expressions stand for. It is never imported."""

from __future__ import annotations

import ast
import datetime as dt
import operator
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from celery_observe.lint.scope import FUNCTIONS, SCOPES, Binding, Function, Reading, Scope

if TYPE_CHECKING:
    from celery_observe.lint.project import Project
    from celery_observe.lint.task import Task

Node = TypeVar("Node", bound=ast.AST)


_DEEPEST: Final = 10
"""How many aliases of aliases are followed."""
_LARGEST: Final = 1e12
_OPERATORS: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_TIMEDELTA: Final = ("days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks")


class Module:
    """A parsed module of a project."""

    def __init__(self, path: str, name: str, tree: ast.Module, project: Project) -> None:
        self.path = path
        self.name = name
        self.tree = tree
        self.project = project
        self._reading = Reading(tree, name, is_package=path.endswith("__init__.py"))
        self._seconds: dict[ast.expr, float | None] = {}

    @property
    def top(self) -> Scope:
        """The scope of the module itself."""
        return self._reading.top

    def nodes(self, kind: type[Node]) -> Iterator[Node]:
        """Return all nodes of a type, in the order of the source."""
        return iter(self._reading.by_type.get(kind, ()))  # type: ignore[arg-type]

    def functions(self) -> Iterator[Function]:
        """Return all functions, those in classes and functions too."""
        yield from self.nodes(ast.FunctionDef)
        yield from self.nodes(ast.AsyncFunctionDef)

    @cached_property
    def tasks(self) -> list[Task]:
        """The tasks that are defined here."""
        return [task for task in self.project.tasks.values() if task.module is self]

    @cached_property
    def _task_of(self) -> dict[ast.AST, Task]:
        return {task.function: task for task in self.tasks}

    def parent(self, node: ast.AST) -> ast.AST | None:
        """Return the node that a node is part of."""
        return self._reading.parents.get(node)

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield what a node is part of, from the inside out."""
        while (above := self._reading.parents.get(node)) is not None:
            yield above
            node = above

    def scope(self, node: ast.AST) -> Scope:
        """Return the scope that a node stands in."""
        below = node
        for above in self.ancestors(node):
            if isinstance(above, SCOPES) and below not in getattr(above, "decorator_list", ()):
                return self._reading.scopes[above]
            below = above
        return self.top

    def scope_of(self, node: ast.AST) -> Scope:
        """Return the scope that a class or function opens."""
        return self._reading.scopes[node]

    def task(self, node: ast.AST) -> Task | None:
        """Return the task that a node is executed by: the innermost whose body it stands in."""
        return next((self._task_of[each] for each in self.ancestors(node) if each in self._task_of), None)

    def function(self, node: ast.AST) -> Function | None:
        """Return the innermost function that a node stands in."""
        return next((each for each in self.ancestors(node) if isinstance(each, FUNCTIONS)), None)

    def bindings(self, name: ast.Name) -> list[Binding]:
        """Return all that a name may be bound to."""
        return self.scope(name).find(name.id)[1]

    def dotted(self, node: ast.AST | None, depth: int = 0) -> str:
        """Return the absolute name that an expression stands for, such as `celery.shared_task`; "" if not known."""
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value, depth)
            return self.project.canonical(f"{base}.{node.attr}") if base else ""
        if not isinstance(node, ast.Name) or depth > _DEEPEST:
            return ""
        scope, bindings = self.scope(node).find(node.id)
        if scope is None:
            return node.id  # a builtin
        known = next((each.dotted for each in bindings if each.dotted), "")
        if known:
            return self.project.canonical(known)
        aliased = [each.value for each in bindings if isinstance(each.value, ast.Name | ast.Attribute)]
        if len(aliased) == len(bindings) == 1 and aliased[0] is not node:
            return self.dotted(aliased[0], depth + 1)
        return f"{self.name}.{node.id}" if scope is self.top else ""

    def callee(self, node: ast.AST | None) -> str:
        """Return the absolute name of what an expression calls, without the call; "" if it calls nothing known."""
        return self.dotted(node.func) if isinstance(node, ast.Call) else ""

    def values(self, node: ast.expr) -> list[ast.expr | None]:
        """Return what an expression may evaluate to, names followed to what they were assigned; None: not known."""
        found: list[ast.expr | None] = []
        pending: list[ast.expr | None] = [node]
        seen = set()
        while pending:
            value = pending.pop()
            if not isinstance(value, ast.Name):
                found.append(value)
            elif value.id not in seen:
                seen.add(value.id)
                pending += [each.value for each in self.bindings(value)] or [None]
        return found or [None]

    def elements(self, name: ast.Name) -> list[ast.expr]:
        """Return what a loop variable may be, where it loops over a list that is written out or comprehended."""
        bindings = self.bindings(name)
        if not bindings or any(each.items is None for each in bindings):
            return []
        looped = [value for each in bindings if each.items is not None for value in self.values(each.items)]
        found: list[ast.expr] = []
        for value in looped:
            if isinstance(value, ast.ListComp | ast.GeneratorExp | ast.SetComp):
                found.append(value.elt)
            elif isinstance(value, ast.List | ast.Tuple | ast.Set):
                found += value.elts
            else:
                return []
        return found

    def seconds(self, node: ast.expr | None) -> float | None:
        """Return the number that an expression is sure to be, a timedelta in seconds; None if that is not known."""
        if node is None or node in self._seconds:
            return self._seconds.get(node) if node is not None else None
        self._seconds[node] = None  # of what is defined by itself
        self._seconds[node] = self._evaluated(node)
        return self._seconds[node]

    def _evaluated(self, node: ast.expr) -> float | None:
        if isinstance(node, ast.Constant):
            number = node.value
            return float(number) if isinstance(number, int | float) and abs(number) < _LARGEST else None
        if isinstance(node, ast.Name):
            values = self.values(node)
            return self.seconds(values[0]) if len(values) == 1 else None
        if isinstance(node, ast.BinOp):
            return self._reckoned(node)
        return self._timedelta(node) if isinstance(node, ast.Call) else None

    def _reckoned(self, node: ast.BinOp) -> float | None:
        left, right = self.seconds(node.left), self.seconds(node.right)
        reckon = _OPERATORS.get(type(node.op))
        if left is None or right is None or reckon is None or (reckon is operator.truediv and not right):
            return None
        result = reckon(left, right)
        return result if abs(result) < _LARGEST else None

    def _timedelta(self, node: ast.Call) -> float | None:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "total_seconds":
            return self.seconds(node.func.value)
        if self.dotted(node.func) != "datetime.timedelta" or any(each.arg is None for each in node.keywords):
            return None
        given = dict(zip(_TIMEDELTA, node.args, strict=False)) | {str(each.arg): each.value for each in node.keywords}
        parts = {name: self.seconds(value) for name, value in given.items() if name in _TIMEDELTA}
        known = {name: value for name, value in parts.items() if value is not None}
        if len(known) < len(parts):
            return None
        try:
            return dt.timedelta(**known).total_seconds()
        except OverflowError:
            return None


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Return the keyword argument of a call; None if it is not given."""
    return next((each.value for each in call.keywords if each.arg == name), None)


def is_open(call: ast.Call) -> bool:
    """Tell whether a call has arguments that are not written there: `*args` or `**kwargs`."""
    return any(each.arg is None for each in call.keywords) or any(isinstance(each, ast.Starred) for each in call.args)


def constant(node: ast.AST | None) -> object:
    """Return the value of a literal; Ellipsis for anything else."""
    return node.value if isinstance(node, ast.Constant) else ...


def method(call: ast.AST | None) -> str:
    """Return the name of the method that an expression calls: `delay` of `task.delay()`; "" if it calls none."""
    return call.func.attr if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else ""
