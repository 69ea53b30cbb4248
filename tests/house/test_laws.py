"""Laws of the code that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

import celery_observe
from house.source import PACKAGE, ROOT, names_used, nodes, python_files

LONGEST_FUNCTION = 50  # lines
ALL_CODE = ("celery_observe", "tests", "scripts", "benchmarks", "dashboards")
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv"}
BROAD = {"Exception", "BaseException"}
GUARDS = {PACKAGE / "guard.py", PACKAGE / "worker" / "guard.py"}


def test_the_public_names_are_these() -> None:
    """What users can import from the package changes only on purpose."""
    assert sorted(celery_observe.__all__) == ["__version__", "instrument"]
    assert all(hasattr(celery_observe, name) for name in celery_observe.__all__)


def test_functions_fit_on_a_screen() -> None:
    """No function is longer than 50 lines."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    too_long = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}"
        for file in python_files(*ALL_CODE)
        for node in nodes(file, *functions)
        if isinstance(node, functions)
        if (node.end_lineno or node.lineno) - node.lineno >= LONGEST_FUNCTION
    ]

    assert not too_long


def catches_everything(handler: ast.AST) -> bool:
    """Whether an except clause names Exception or BaseException, alone or among others, or nothing at all."""
    assert isinstance(handler, ast.ExceptHandler)
    if handler.type is None:
        return True
    return bool(BROAD & {ast.unparse(node) for node in ast.walk(handler.type)})


def test_only_the_guards_catch_everything() -> None:
    """Other modules catch the exceptions that they can name."""
    broad = [
        f"{file.relative_to(ROOT)}:{getattr(handler, 'lineno', 0)}"
        for file in python_files("celery_observe")
        if file not in GUARDS
        for handler in nodes(file, ast.ExceptHandler)
        if catches_everything(handler)
    ]

    assert not broad


def test_only_the_settings_read_the_environment() -> None:
    """Whatever can be set is set in one place."""
    readers = [file for file in python_files("celery_observe") if ENVIRONMENT & names_used(file)]

    assert set(readers) <= {PACKAGE / "settings" / "__init__.py"}


def sleeps(file: Path) -> bool:
    """Whether a module lets real time pass."""
    return bool({"time.sleep", "asyncio.sleep"} & names_used(file))


def test_unit_tests_never_sleep() -> None:
    """A unit test is given a clock."""
    assert not [file for file in python_files("tests/unit") if sleeps(file)]
