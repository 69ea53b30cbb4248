"""The project's Celery app; instrumented here unless `WEBSITE_INCLUDES` has Celery import that."""

from __future__ import annotations

import os

from celery import Celery

from celery_observe import instrument

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apps.website.settings")

app = Celery("website")
if not os.environ.get("WEBSITE_INCLUDES"):
    instrument(app)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
