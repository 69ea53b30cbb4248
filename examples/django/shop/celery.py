"""The project's Celery app, instrumented by one line."""

from __future__ import annotations

import os

from celery import Celery

from celery_observe import instrument

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
instrument(app)
