"""The rules: each registers itself, one in a file of `celery_observe.lint.rules`."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

from celery_observe.findings import Rule, Severity, rule_of
from celery_observe.lint import rules as package
from celery_observe.lint.module import Module


class Hit(NamedTuple):
    """A place that a rule objects to, and a sentence on what it does there."""

    node: ast.AST
    message: str
    severity: Severity | None = None
    """If it is not that of the rule."""


Look = Callable[[Module], Iterable[Hit]]


class Check(NamedTuple):
    """A rule, the function that looks for it in a module, and its samples of source."""

    rule: Rule
    look: Look
    bad: tuple[str, ...]
    """In these it must find each line that ends with the comment `# bad`, and no other."""
    good: tuple[str, ...]
    """In these it, and every other rule, must find nothing."""


_registered: dict[str, tuple[Rule, Look]] = {}


def rule(severity: Severity, *, alerts: Iterable[str] = (), metrics: Iterable[str] = ()) -> Callable[[Look], Look]:
    """Register the decorated function as the rule of its file. Its docstring is what the rule's page says."""

    def register(look: Look) -> Look:
        name = look.__module__.rpartition(".")[2].replace("_", "-")
        _registered[name] = rule_of(name, severity, look, alerts=alerts, metrics=metrics), look
        return look

    return register


@cache
def checks() -> dict[str, Check]:
    """Return all rules by name."""
    found = {}
    for each in pkgutil.iter_modules(package.__path__, prefix=f"{package.__name__}."):
        module = importlib.import_module(each.name)
        name = each.name.rpartition(".")[2].replace("_", "-")
        found[name] = Check(*_registered[name], bad=module.BAD, good=module.GOOD)
    return found
