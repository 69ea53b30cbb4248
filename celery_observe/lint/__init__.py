"""`celery-observe lint`: Celery's known traps in source. It reads files and parses them; it never imports them.

| file | what is in it |
| --- | --- |
| `files` `options` `suppression` | which files are read, what is asked, what is silenced by comments |
| `scope` `module` | what the names and expressions of one file stand for |
| `task` `canvas` `project` | tasks, their calls and workflows, and what all files say together |
| `registry` `rules/` | one rule a file, which registers itself and brings its own samples |
| `linter` | all of it, one after the other |
"""

from __future__ import annotations

from celery_observe.lint.linter import lint
from celery_observe.lint.options import Options, load
from celery_observe.lint.registry import Check, checks

__all__ = ["Check", "Options", "checks", "lint", "load"]
