"""All that is linted together: tasks, apps, classes and settings, wherever they stand."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from celery_observe.lint.module import Module, constant
from celery_observe.lint.scope import FUNCTIONS, Function
from celery_observe.lint.task import APPS, BASES, Task, calls_in, tasks_of

SETTINGS: Final = frozenset(
    {
        "broker_url",
        "task_acks_late",
        "task_reject_on_worker_lost",
        "task_serializer",
        "task_soft_time_limit",
        "task_time_limit",
        "visibility_timeout",
    }
)
"""The settings that rules ask for. With `CELERY_` before them too; and without `task_`, or with `CELERYD_`, as once."""
_NAMESPACES: Final = 3
"""How many folders above a package, without an `__init__.py`, may be part of its name."""
_LONGEST: Final = 20
"""How many names are followed from module to module."""


class Project:
    """The modules that are linted, and what is known of them together."""

    def __init__(self, *, visibility_timeout: float | None = None, decorators: Iterable[str] = ()) -> None:
        """Take the visibility timeout in seconds, if it is known, and decorators that make tasks, by dotted name."""
        self.visibility_timeout = visibility_timeout
        self.decorators = frozenset(decorators)
        self.modules: dict[str, Module] = {}
        self._names: dict[str, Module] = {}
        self.tasks: dict[str, Task] = {}
        self.settings: dict[str, list[tuple[Module, ast.expr]]] = {}
        self.executed: dict[Function, Task] = {}
        """The functions that tasks are or call, however indirectly, each with one such task."""
        self._apps: set[str] = set()
        self._options: dict[str, dict[Module, dict[ast.expr, list[Task]]]] = {}
        self._owners: dict[ast.expr, Module] = {}
        self._classes: dict[str, tuple[Module, ast.ClassDef]] = {}

    def add(self, path: str, name: str, tree: ast.Module) -> None:
        """Take in a module. Of several with one name, such as scripts, others import the first."""
        unique = f"{name}#{len(self.modules)}" if name in self.modules else name
        self.modules[unique] = Module(path, unique, tree, self)
        folders = path.removesuffix(".py").removesuffix("/__init__").split("/")[: -len(name.split("."))]
        for depth in range(1, _NAMESPACES + 1):
            self._names.setdefault(".".join([*folders[-depth:], name]), self.modules[unique])

    def survey(self) -> None:
        """Look for all that rules ask of other modules, once all are there."""
        for module in self.modules.values():
            for node in module.nodes(ast.ClassDef):
                self._classes[module.scope_of(node).dotted] = module, node
            for name, value in _settings(module):
                self.settings.setdefault(name, []).append((module, value))
        for module in self.modules.values():
            self._apps.update(self._made_apps(module))
        for module in self.modules.values():
            self.tasks.update((task.dotted, task) for task in tasks_of(module))
        self._follow()

    def _follow(self) -> None:
        """Find what tasks call: functions that are called by name, wherever they are defined."""
        functions = {
            module.scope_of(function).dotted: (function, module)
            for module in self.modules.values()
            for function in module.functions()
        }
        # Tasks without a time limit first: what they call is not ended by the limit of another.
        first = sorted(self.tasks.values(), key=lambda task: task.is_limited)
        reached = deque((task.function, task.module, task) for task in first)
        while reached:
            function, module, task = reached.popleft()
            if function not in self.executed:
                self.executed[function] = task
                called = (functions.get(module.callee(call)) for call in calls_in(function))
                reached.extend((*each, task) for each in called if each is not None)

    def canonical(self, dotted: str) -> str:
        """Return the name under which something is defined, for one under which it is imported from elsewhere."""
        for _ in range(_LONGEST):
            prefix, place = self._module_of(dotted)
            if place is None:
                break
            name, _, rest = dotted.removeprefix(f"{prefix}.").partition(".")
            known = next((each.dotted for each in place.top.names.get(name, ()) if each.dotted), f"{place.name}.{name}")
            followed = f"{known}.{rest}" if rest else known
            if followed == dotted:
                break
            dotted = followed
        return dotted

    def _module_of(self, dotted: str) -> tuple[str, Module | None]:
        """Return the module that a name is in, and what it is called there."""
        while dotted := dotted.rpartition(".")[0]:
            module = self.modules.get(dotted) or self._names.get(dotted)
            if module is not None:
                return dotted, module
        return "", None

    def is_app(self, module: Module, node: ast.expr) -> bool:
        """Tell whether an expression is a Celery app, by where it is made, or by its name."""
        values = module.values(node)
        if any(self._is_app_class(module.callee(value)) for value in values if value is not None):
            return True
        dotted = module.dotted(node)
        return dotted in self._apps or "celery" in dotted.lower()

    def _is_app_class(self, dotted: str) -> bool:
        return dotted in APPS or any(base in APPS for base in self._bases(dotted))

    def _made_apps(self, module: Module) -> Iterator[str]:
        for name, bindings in module.top.names.items():
            if any(self._is_app_class(module.callee(each.value)) for each in bindings if each.value is not None):
                yield f"{module.name}.{name}"

    def is_task_class(self, dotted: str) -> bool:
        """Tell whether a class, by its dotted name, derives from Celery's Task."""
        return any(base in BASES or base.endswith("app.Task") for base in self._bases(dotted))

    def _bases(self, dotted: str) -> Iterator[str]:
        """Yield the names of all classes that a class derives from."""
        pending, seen = [dotted], {dotted}
        while pending:
            module, node = self._classes.get(pending.pop(), (None, None))
            if module is None or node is None:
                continue
            found = [name for base in node.bases if (name := module.dotted(base)) not in seen]
            seen.update(found)
            pending += found
            yield from filter(None, found)

    def attributes(self, dotted: str) -> tuple[dict[str, ast.expr], bool]:
        """Return the attributes of a class and of its bases, and whether those are all but Celery's own."""
        if dotted not in self._classes:
            return {}, False
        found: dict[str, ast.expr] = {}
        is_known = True
        for name in [dotted, *self._bases(dotted)]:
            module, node = self._classes.get(name, (None, None))
            if module is not None and node is not None:
                given = dict(_assigned(node.body))
                self._owners.update(dict.fromkeys(given.values(), module))
                found = given | found
            elif name not in BASES and not name.endswith("app.Task"):
                is_known = False
        return found, is_known

    def tasks_by_option(self, option: str, module: Module) -> Iterator[tuple[ast.expr, list[Task]]]:
        """Yield what a module says of an option of tasks: at a task, or in a class of which tasks elsewhere are."""
        if option not in self._options:
            self._options[option] = {}
            for task in self.tasks.values():
                value = task.options.get(option)
                if value is not None:
                    owner = self._owners.get(value, task.module)
                    self._options[option].setdefault(owner, {}).setdefault(value, []).append(task)
        yield from self._options[option].get(module, {}).items()

    def defines(self, dotted: str, name: str) -> bool:
        """Tell whether a class or one of its bases has a method of that name, as far as they are in the source."""
        return any(method.name == name for method in self.methods(dotted))

    def methods(self, dotted: str) -> Iterator[Function]:
        """Yield the methods of a class and of its bases, as far as they are in the source."""
        found = (self._classes[each][1] for each in [dotted, *self._bases(dotted)] if each in self._classes)
        return (node for each in found for node in each.body if isinstance(node, FUNCTIONS))

    def might_be_on(self, setting: str) -> bool:
        """Tell whether a setting is given anywhere, other than as False or None."""
        return any(constant(value) not in {False, None} for _, value in self.settings.get(setting, ()))


def _assigned(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for each in body:
        if isinstance(each, ast.Assign):
            yield from ((target.id, each.value) for target in each.targets if isinstance(target, ast.Name))
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.value is not None:
            yield each.target.id, each.value


def _settings(module: Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield what a module says of settings: assigned, given as a keyword, or in a dictionary."""
    for name, value in _given(module):
        plain = name.lower()
        bare = plain.removeprefix("celery_").removeprefix("celeryd_")
        known = bare if bare in SETTINGS or bare == plain else f"task_{bare}"
        if known in SETTINGS:
            yield known, value


def _given(module: Module) -> Iterator[tuple[str, ast.expr]]:
    for assign in module.nodes(ast.Assign):
        yield from ((name, assign.value) for target in assign.targets if (name := _target(target)))
    for annotated in module.nodes(ast.AnnAssign):
        if annotated.value is not None:
            yield _target(annotated.target), annotated.value
    for given in module.nodes(ast.keyword):
        if given.arg:
            yield given.arg, given.value
    for table in module.nodes(ast.Dict):
        for key, value in zip(table.keys, table.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value


def _target(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    name = constant(node.slice) if isinstance(node, ast.Subscript) else None
    return name if isinstance(name, str) else ""
