"""Laws of the code that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

import celery_observe
from house.source import PACKAGE, ROOT, imports, names_used, nodes, python_files

LONGEST_FUNCTION = 50  # lines
ALL_CODE = ("celery_observe", "tests", "scripts", "benchmarks", "dashboards")
ENVIRONMENT = {"os.environ", "os.environb", "os.getenv"}
BROAD = {"Exception", "BaseException"}
# Attributes of a Thread in Python 3.11 to 3.14, from Lib/threading.py; `_handle` is there since 3.13.
THREADINGS_OWN = {"_args", "_bootstrap", "_bootstrap_inner", "_context", "_daemonic", "_delete", "_handle", "_ident"}
THREADINGS_OWN |= {"_initialized", "_invoke_excepthook", "_is_stopped", "_kwargs", "_name", "_native_id", "_started"}
THREADINGS_OWN |= {"_after_fork", "_set_ident", "_set_native_id", "_set_os_name", "_set_tstate_lock"}
THREADINGS_OWN |= {"_stderr", "_stop", "_target", "_tstate_lock", "_wait_for_tstate_lock"}
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


THREADS_OF_OURS = {"beat", "resident", "stored"}
"""Modules of `worker/` that also hold what runs in a thread of ours, which may wait."""
MAY_WAIT = {"asyncio", "concurrent", "multiprocessing", "queue", "requests", "select", "selectors", "subprocess"}
WAITS = {"open", "input", "acquire", "wait_for", "recv", "recv_into", "accept", "sendall", "makefile"}
WAITS |= {"time.sleep", "threading.Lock", "threading.RLock", "threading.Event", "threading.Condition"}


def waits(file: Path) -> set[str]:
    """What a module uses that may keep its caller waiting."""
    called = {ast.unparse(node.func) for node in nodes(file, ast.Call) if isinstance(node, ast.Call)}
    names = {name for call in called for name in (call, call.rpartition(".")[2])} | imports(file)
    return (WAITS & names) | {name for name in imports(file) if name.partition(".")[0] in MAY_WAIT}


def test_what_runs_in_tasks_uses_nothing_that_waits() -> None:
    """A handler that hung would hang its task, which no guard can mend: so nothing is there that could."""
    guests = [file for file in python_files("celery_observe/worker") if file.stem not in THREADS_OF_OURS]

    assert {file.stem: found for file in guests if (found := waits(file))} == {}


def sleeps(file: Path) -> bool:
    """Whether a module lets real time pass."""
    return bool({"time.sleep", "asyncio.sleep"} & names_used(file))


def test_unit_tests_never_sleep() -> None:
    """A unit test is given a clock."""
    assert not [file for file in python_files("tests/unit") if sleeps(file)]


def thread_classes(file: Path) -> list[ast.ClassDef]:
    """The classes of a module that are threads."""
    return [
        node
        for node in nodes(file, ast.ClassDef)
        if isinstance(node, ast.ClassDef) and "threading.Thread" in map(ast.unparse, node.bases)
    ]


def own_names(node: ast.ClassDef) -> set[str]:
    """The names of a class's methods and of what they assign to `self`."""
    methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    attributes = {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and ast.unparse(each.value) == "self"
    }
    return methods | attributes


def test_threads_leave_alone_what_is_threadings_own() -> None:
    """In no supported Python does a thread of ours replace what `threading.Thread` keeps in itself."""
    clashes = {
        (file.name, node.name, name)
        for file in python_files("celery_observe")
        for node in thread_classes(file)
        for name in own_names(node) & THREADINGS_OWN
    }

    assert not clashes
