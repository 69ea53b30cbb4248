"""The project. Celery's app is loaded with it, so that `shared_task` finds it in views too."""

from __future__ import annotations

from shop.celery import app as celery_app

__all__ = ["celery_app"]
