"""celery-observe: an observability sidecar and metrics exporter for Celery."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
