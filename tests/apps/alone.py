"""An app for tests."""

from __future__ import annotations

from typing import Any

from celery import Celery


class App(Celery):  # type: ignore[misc]  # Celery has no types
    """One that keeps its tasks to itself: Celery's gives them to every app of the process."""

    def task(self, *args: Any, **options: Any) -> Any:
        """Make a task, or a decorator that does."""
        return super().task(*args, **({"shared": False} | options))
