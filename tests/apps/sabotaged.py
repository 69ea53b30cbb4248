"""A worker in whose copy of celery_observe one function fails, or never returns, whenever it is called.

The function is changed as its module is imported, so it is the same in every thread and pool child, and costs no time.
"""

from __future__ import annotations

import ast
import os
import resource
import sys
import time
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import celery_observe  # which imports nothing more
from apps.sample import app

MESSAGE = "sabotage"
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Trial:
    """What is run."""

    broker: str
    folder: Path
    pool: str = "prefork"
    instrument: dict[str, Any] | None = None
    """The settings that `instrument` is called with; None for a worker without us."""
    module: str = ""
    function: str = ""
    """Which function is sabotaged, if one is: `celery_observe.worker.resident`, `Resident.start`."""
    hangs: bool = False
    spare: int = 0
    """Bytes by which each of its processes may grow beyond what it has once it is instrumented; 0 is without end."""
    conf: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    """More environment variables."""

    @property
    def log(self) -> Path:
        """What the worker prints."""
        return self.folder / "worker.log"

    @property
    def struck(self) -> Path:
        """A file that is there once the function was called."""
        return self.folder / "struck"


def functions_of(file: Path) -> list[str]:
    """The qualified names of all functions in a source file, inner ones too."""
    found: list[str] = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, FUNCTIONS | ast.ClassDef):
                name = f"{prefix}{child.name}"
                found.extend([name] if isinstance(child, FUNCTIONS) else [])
                visit(child, f"{name}.")
            else:
                visit(child, prefix)

    visit(ast.parse(file.read_text()), "")
    return found


class Sabotaged(SourceFileLoader):
    """Puts a call of `strike` before all else that a function does."""

    def __init__(self, trial: Trial) -> None:
        package = Path(celery_observe.__file__).parent
        super().__init__(trial.module, str(package.joinpath(*trial.module.split(".")[1:]).with_suffix(".py")))
        self._trial = trial

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source that was changed."""
        tree = ast.parse(self.get_source(fullname) or "")
        self._change(tree, self._trial.function.split("."))
        ast.fix_missing_locations(tree)
        return compile(tree, self.path, "exec", dont_inherit=True)

    def _change(self, node: ast.AST, names: list[str]) -> None:
        [found] = [
            each
            for each in ast.walk(node)
            if isinstance(each, FUNCTIONS | ast.ClassDef) and each is not node and each.name == names[0]
        ][:1]
        if names[1:]:
            self._change(found, names[1:])
        else:
            found.body[0:0] = ast.parse(f"__import__({__name__!r}, fromlist='_').strike()").body


_WORKER = {"hostname": "w@localhost", "loglevel": "INFO", "without_gossip": True, "without_mingle": True}


class Saboteur(MetaPathFinder):
    """Finds the module of a trial before Python does."""

    def __init__(self, loader: Sabotaged) -> None:
        self._loader = loader

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        """Have this one module loaded differently."""
        loader = self._loader
        return ModuleSpec(fullname, loader, origin=loader.path) if fullname == loader.name else None


_trial: Trial | None = None
"""Nothing fails before this is set, or what runs as its module is imported would keep it from being imported."""


def strike() -> None:
    """Fail as the trial says."""
    if _trial is None:
        return
    _trial.struck.touch()
    while _trial.hangs:
        time.sleep(60)
    raise MemoryError(MESSAGE)


def _limit_memory(spare: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def run(trial: Trial) -> None:
    """Run the worker of a trial until it is told to end, and leave with its exit code."""
    global _trial  # noqa: PLW0603 - one trial for each process
    os.setsid()
    with trial.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.update(trial.env, C_FORCE_ROOT="1")
    app.conf.update(broker_url=trial.broker, **trial.conf)
    if trial.function:
        sys.meta_path.insert(0, Saboteur(Sabotaged(trial)))
    if trial.instrument is not None:
        from celery_observe.worker.instrumentation import instrument  # noqa: PLC0415 - after the sabotage

        _trial = trial
        instrument(app, **trial.instrument)
    if trial.spare:
        _limit_memory(trial.spare)
    worker = app.Worker(pool=trial.pool, concurrency=1, **_WORKER)
    worker.start()
    sys.exit(worker.exitcode)
