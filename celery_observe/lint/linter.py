"""Paths → a report of what the rules found below them."""

from __future__ import annotations

import ast
import gc
import re
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from celery_observe.findings import Finding, Place, Report
from celery_observe.lint.files import Source, sources
from celery_observe.lint.module import Module
from celery_observe.lint.options import Options
from celery_observe.lint.project import Project
from celery_observe.lint.registry import Check, checks
from celery_observe.lint.suppression import Silenced, is_silenced, silenced

TOOL: Final = "lint"
UNREADABLE: Final = "unreadable-file"
_WORDS: Final = re.compile(
    rb"(?i:celery|visibility_timeout|broker_url|\btask_(acks|reject|serializer|soft_time|time_limit))"
    rb"|apply_async|\.delay\b|\.task\b|\bTask\)|import[^\n]*\btasks?\b|\btasks?\s+import\b"
)
"""A file in which none of these is has nothing to do with Celery, and is not parsed."""


def lint(paths: Iterable[Path], options: Options) -> Report:
    """Apply the rules to the Python files at or below some paths."""
    paths = list(paths)
    return inspect(sources(paths, options.exclude), options, ", ".join(map(str, paths)))


def inspect(files: Iterable[Source], options: Options, subject: str = "") -> Report:
    """Apply the rules to some files, which are looked at together."""
    began = time.monotonic()
    run = _Run(options)
    with _uncollected():
        for source in files:
            run.take(source)
        findings = tuple(run.findings())
    return Report(
        tool=TOOL,
        subject=f"{subject}: {run.files} files, {len(run.project.tasks)} tasks",
        rules=tuple(checks()[name].rule for name in options.rules),
        findings=findings,
        seconds=time.monotonic() - began,
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking through millions of nodes, none of which is garbage: half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Run:
    """The files of one run, and what is found in them."""

    def __init__(self, options: Options) -> None:
        self.files = 0
        self.project = Project(visibility_timeout=options.visibility_timeout, decorators=options.task_decorators)
        self._options = options
        self._checks = [checks()[name] for name in options.rules]
        self._silenced: dict[str, Silenced] = {}
        self._unreadable: list[Finding] = []

    def take(self, source: Source) -> None:
        """Parse a file, if it has to do with Celery."""
        self.files += 1
        if source.problem:
            self._refuse(source, source.problem)
        elif _WORDS.search(source.content):
            try:
                self.project.add(source.path, source.module, parsed(source.content))
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                reason = getattr(error, "msg", "") or str(error) or type(error).__name__
                self._refuse(source, reason, getattr(error, "lineno", None) or 1)
            else:
                self._silenced[source.path] = silenced(source.content)

    def _refuse(self, source: Source, reason: str, line: int = 1) -> None:
        if UNREADABLE in self._options.rules:
            place = Place(source.path, line)
            self._unreadable.append(Finding(rule=checks()[UNREADABLE].rule, message=f"{reason}.", place=place))

    def findings(self) -> Iterator[Finding]:
        """Yield what the rules find in the files that were taken."""
        yield from self._unreadable
        self.project.survey()
        for module in self.project.modules.values():
            skipped = self._options.ignored_in(module.path)
            for check in self._checks:
                if check.rule.name not in skipped:
                    yield from self._found(module, check)

    def _found(self, module: Module, check: Check) -> Iterator[Finding]:
        for hit in check.look(module):
            if not is_silenced(self._silenced[module.path], hit.node, check.rule.name):
                place = _place(module, hit.node)
                yield Finding(rule=check.rule, message=hit.message, place=place, severity_of_this=hit.severity)


def parsed(content: bytes) -> ast.Module:
    """Return the syntax tree of a file. Raises SyntaxError, ValueError, RecursionError or MemoryError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the file does, such as invalid escapes
        return ast.parse(content)


def _place(module: Module, node: ast.AST) -> Place:
    line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
    if isinstance(node, ast.ExceptHandler):  # not all that it does
        return Place(module.path, line, column)
    return Place(module.path, line, column, getattr(node, "end_lineno", line), getattr(node, "end_col_offset", 0) + 1)
