"""Runs a trial on a pool of greenlets, which changes Python before anything else is imported."""

from __future__ import annotations

from typing import Any


def run(pool: str, trial: dict[str, Any]) -> None:
    """Run the worker of a trial, given as the fields of ``apps.sabotaged.Trial``."""
    from celery import maybe_patch_concurrency  # noqa: PLC0415 - in the process of the worker only

    maybe_patch_concurrency(["worker", "--pool", pool])
    from apps import sabotaged  # noqa: PLC0415 - after that

    sabotaged.run(sabotaged.Trial(**trial))
