"""A Django project with Celery, laid out as Celery's documentation does."""

from __future__ import annotations

from apps.website.celery import app as celery_app

__all__ = ["celery_app"]
