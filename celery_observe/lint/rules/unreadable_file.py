"""A file that is no Python."""

from __future__ import annotations

from collections.abc import Iterator

from celery_observe.findings import Severity
from celery_observe.lint.module import Module
from celery_observe.lint.registry import Hit, rule

BAD = ()
GOOD = ()


@rule(Severity.INFO)
def unreadable_file(module: Module) -> Iterator[Hit]:  # noqa: ARG001 - what cannot be parsed is no module
    """A file cannot be read or parsed, so nothing in it was checked.

    It is written for another version of Python, is a template, is not in the encoding that it says, or is larger than
    5 MB. All other files are checked as if it were not there, which may make a task in it look unknown.

    Fix: Run the command with a Python that can run the file, or leave it out with `--exclude`.
    """
    return iter(())
