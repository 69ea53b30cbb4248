"""What names mean in a module: imports, definitions and what was assigned, scope by scope."""

from __future__ import annotations

import ast
from typing import Final, NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS: Final[tuple[type[ast.FunctionDef], type[ast.AsyncFunctionDef]]] = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES: Final = (*FUNCTIONS, ast.ClassDef, ast.Lambda)
DEEPEST: Final = 300
"""Levels of a syntax tree: a third of the frames that Python has for functions that call themselves."""
_BINDING: Final = frozenset({ast.Name, ast.Import, ast.ImportFrom, ast.ExceptHandler})


class Binding(NamedTuple):
    """What a name stands for after one statement. What is known of it is one of these, or nothing."""

    dotted: str = ""
    """Of an import or a definition: `celery.shared_task`."""
    value: ast.expr | None = None
    """What was assigned, or entered by `with`."""
    items: ast.expr | None = None
    """What a loop takes it from."""


class Scope:
    """A module, class, function or lambda, with the names that it binds."""

    def __init__(self, dotted: str, node: ast.AST, outer: Scope | None = None) -> None:
        self.dotted = dotted
        self.node = node
        self.outer = outer
        self.names: dict[str, list[Binding]] = {}

    def bind(self, name: str, binding: Binding) -> None:
        """Note that a statement of this scope binds a name."""
        self.names.setdefault(name, []).append(binding)

    def find(self, name: str) -> tuple[Scope | None, list[Binding]]:
        """Return the scope that a name is taken from, and all that it is bound to there; (None, []) if to nothing."""
        if name in self.names:
            return self, self.names[name]
        scope = self.outer
        while scope is not None:
            # A method does not see the names of its class.
            if name in scope.names and not isinstance(scope.node, ast.ClassDef):
                return scope, scope.names[name]
            scope = scope.outer
        return None, []


class Reading:
    """One walk through a module: the parent and the scope of each node, and the nodes by type.

    Raises RecursionError if it is nested so deeply that it cannot be reasoned about.
    """

    def __init__(self, tree: ast.Module, name: str, *, is_package: bool) -> None:
        self.top = Scope(name, tree)
        self.parents: dict[ast.AST, ast.AST] = {}
        self.scopes: dict[ast.AST, Scope] = {tree: self.top}
        self.by_type: dict[type[ast.AST], list[ast.AST]] = {}
        self._package = name if is_package else name.rpartition(".")[0]
        self._walk(tree)

    def _walk(self, tree: ast.Module) -> None:
        pending: list[tuple[ast.AST, Scope, int]] = [(tree, self.top, 0)]
        while pending:
            node, scope, depth = pending.pop()
            if depth > DEEPEST:
                raise RecursionError(f"nested more than {DEEPEST} levels deep")
            kind = type(node)
            self.by_type.setdefault(kind, []).append(node)
            inner = self._open(node, scope) if isinstance(node, SCOPES) else scope
            if kind in _BINDING:
                self._bind(node, scope)
            outside = getattr(node, "decorator_list", ())
            for child in _children(node):
                self.parents[child] = node
                pending.append((child, scope if child in outside else inner, depth + 1))

    def _bind(self, node: ast.AST, scope: Scope) -> None:
        """Note what a node binds."""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            scope.bind(node.id, _stored(node, self.parents[node]))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                scope.bind(alias.asname or first, Binding(alias.name if alias.asname else first))
        elif isinstance(node, ast.ImportFrom):
            origin = self._origin(node)
            for alias in node.names:
                scope.bind(alias.asname or alias.name, Binding(f"{origin}.{alias.name}"))
        elif isinstance(node, ast.ExceptHandler) and node.name:
            scope.bind(node.name, Binding())

    def _open(self, node: ast.AST, scope: Scope) -> Scope:
        name = getattr(node, "name", "<lambda>")
        inner = self.scopes[node] = Scope(f"{scope.dotted}.{name}", node, scope)
        if not isinstance(node, ast.Lambda):
            scope.bind(name, Binding(inner.dotted))
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):
            for argument in arguments(node.args):
                inner.bind(argument.arg, Binding())
        return inner

    def _origin(self, node: ast.ImportFrom) -> str:
        """Return the absolute name of the module that is imported from."""
        if not node.level:
            return node.module or ""
        parts = list(filter(None, self._package.split(".")))
        base = parts[: max(0, len(parts) - node.level + 1)]
        return ".".join([*base, *filter(None, [node.module])])


def _children(node: ast.AST) -> list[ast.AST]:
    """Return what a node consists of, the last first; not whether a name is loaded or stored."""
    found: list[ast.AST] = []
    for field in node._fields:
        value = getattr(node, field, None)
        if isinstance(value, list):
            found.extend(each for each in value if isinstance(each, ast.AST))
        elif isinstance(value, ast.AST) and field != "ctx":
            found.append(value)
    found.reverse()
    return found


def arguments(given: ast.arguments) -> list[ast.arg]:
    """Return all parameters of a function."""
    starred = [each for each in (given.vararg, given.kwarg) if each]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *starred]


def _stored(name: ast.Name, parent: ast.AST) -> Binding:
    if isinstance(parent, ast.Assign | ast.AnnAssign | ast.NamedExpr):
        return Binding(value=parent.value)
    if isinstance(parent, ast.withitem):
        return Binding(value=parent.context_expr)
    if isinstance(parent, ast.For | ast.AsyncFor | ast.comprehension) and parent.target is name:
        return Binding(items=parent.iter)
    return Binding()
