"""A task of the linted source, and how it is recognised."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from celery_observe.lint.module import Module, constant, keyword
from celery_observe.lint.scope import FUNCTIONS, Function

if TYPE_CHECKING:
    from celery_observe.lint.project import Project

DECORATORS: Final = frozenset({"celery.shared_task", "celery.app.shared_task", "celery.task", "celery.task.task"})
_METHODS: Final = frozenset({"task", "periodic_task"})
BASES: Final = frozenset({"celery.Task", "celery.app.task.Task", "celery.app.Task", "celery.task.Task"})
APPS: Final = frozenset({"celery.Celery", "celery.app.Celery", "celery.app.base.Celery"})


class Task(NamedTuple):
    """A function that Celery calls in a worker, or the `run` of a class."""

    dotted: str
    function: Function
    module: Module
    options: Mapping[str, ast.expr]
    """Given to the decorator, or attributes of the class or its bases."""
    is_known: bool
    """Whether these are all options: not if they come from `**options`, or from a base that is not in the source."""
    base: str
    """The dotted name of its class; "" if it is Celery's."""
    is_bound: bool
    """Whether its first parameter is the task itself."""

    @property
    def name(self) -> str:
        """The name it is called by in the source."""
        return self.dotted.rpartition(".")[2]

    @property
    def itself(self) -> str:
        """The name of the parameter that is the task, "" if there is none."""
        given = self.function.args
        first = [*given.posonlyargs, *given.args][:1]
        return first[0].arg if self.is_bound and first else ""

    def is_on(self, option: str) -> bool:
        """Tell whether an option is given, and not False, None or empty."""
        value = self.options.get(option)
        return value is not None and bool(constant(value)) and getattr(value, "elts", True) != []

    def overrides(self, *methods: str) -> bool:
        """Tell whether its class, as far as that is in the source, has one of these methods of its own."""
        return any(self.module.project.defines(self.base, name) for name in methods)

    def calls(self) -> Iterator[ast.Call]:
        """Yield all calls in its body."""
        return calls_in(self.function)

    @property
    def is_limited(self) -> bool:
        """Whether it has a time limit, or all tasks have one."""
        is_hard = self.is_on("time_limit") or self.module.project.might_be_on("task_time_limit")
        return is_hard or self.is_softly_limited

    @property
    def is_softly_limited(self) -> bool:
        """Whether it has a soft time limit, or all tasks have one."""
        return self.is_on("soft_time_limit") or self.module.project.might_be_on("task_soft_time_limit")

    def retries(self) -> Iterator[ast.Call]:
        """Yield its calls of `self.retry`."""
        return (call for call in self.calls() if is_retry(self.module, call, self))


def calls_in(function: Function) -> Iterator[ast.Call]:
    """Yield all calls in the body of a function."""
    return (node for each in function.body for node in ast.walk(each) if isinstance(node, ast.Call))


def is_retry(module: Module, call: ast.Call, task: Task | None) -> bool:
    """Tell whether a call is one of `Task.retry`: of the task itself, or of one that is named."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "retry":
        return False
    receiver = call.func.value
    if isinstance(receiver, ast.Name) and task is not None and receiver.id == task.itself:
        return True
    dotted = module.dotted(receiver)
    return dotted in module.project.tasks or dotted == "celery.current_task"


def tasks_of(module: Module) -> Iterator[Task]:
    """Yield the tasks that a module defines."""
    for function in module.functions():
        found = next((each for each in function.decorator_list if _makes_a_task(module, each)), None)
        if found is not None:
            yield _decorated(module, function, found)
    for node in module.nodes(ast.ClassDef):
        run = next((each for each in node.body if isinstance(each, FUNCTIONS) and each.name == "run"), None)
        dotted = module.scope_of(node).dotted
        if run is not None and module.project.is_task_class(dotted):
            options, is_known = module.project.attributes(dotted)
            yield Task(dotted, run, module, options, is_known, base=dotted, is_bound=True)


def _makes_a_task(module: Module, decorator: ast.expr) -> bool:
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    dotted = module.dotted(named)
    if dotted in DECORATORS or dotted in module.project.decorators:
        return True
    values = module.values(named)
    method = values[0] if len(values) == 1 else None
    return isinstance(method, ast.Attribute) and method.attr in _METHODS and module.project.is_app(module, method.value)


def _decorated(module: Module, function: Function, decorator: ast.expr) -> Task:
    given = decorator.keywords if isinstance(decorator, ast.Call) else []
    base = keyword(decorator, "base") if isinstance(decorator, ast.Call) else None
    inherited, is_known = _inherited(module.project, module.dotted(base)) if base is not None else ({}, True)
    return Task(
        dotted=module.scope_of(function).dotted,
        function=function,
        module=module,
        options=inherited | {each.arg: each.value for each in given if each.arg},
        is_known=is_known and all(each.arg for each in given),
        base=module.dotted(base),
        is_bound=any(each.arg == "bind" and constant(each.value) is not False for each in given),
    )


def _inherited(project: Project, base: str) -> tuple[dict[str, ast.expr], bool]:
    return ({}, True) if base in BASES else project.attributes(base)
