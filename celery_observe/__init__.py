"""celery-observe: an observability sidecar and metrics exporter for Celery."""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "instrument"]

__version__ = "0.1.0"


def instrument(app: Any = None, **settings: Any) -> None:
    """Measure the tasks that this process executes and publishes; see `celery_observe.worker.instrumentation`."""
    from celery_observe.worker import instrumentation  # noqa: PLC0415 - importing the package costs nothing

    instrumentation.instrument(app, **settings)
