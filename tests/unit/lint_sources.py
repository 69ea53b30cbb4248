"""Source to lint, written in tests."""

from __future__ import annotations

from textwrap import dedent

from celery_observe.lint import Options
from celery_observe.lint.files import Source
from celery_observe.lint.linter import inspect


def found(files: dict[str, str], **options: object) -> list[str]:
    """What is found in files that are linted together: `shop/tasks.py:3 naive-eta`."""
    given = [Source(path, _module(path, files), dedent(text).encode()) for path, text in files.items()]
    report = inspect(given, Options(**options))  # type: ignore[arg-type]
    return [f"{each.place.path}:{each.place.line} {each.rule.name}" for each in report.ordered if each.place]


def _module(path: str, files: dict[str, str]) -> str:
    *folders, name = path.removesuffix(".py").removesuffix("/__init__").split("/")
    while folders and "/".join([*folders, "__init__.py"]) in files:
        name = f"{folders.pop()}.{name}"
    return name
