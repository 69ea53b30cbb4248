"""As little as Django needs."""

from __future__ import annotations

import os

SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["apps.website.orders"]
ROOT_URLCONF = "apps.website.urls"
USE_TZ = True

CELERY_BROKER_URL = os.environ.get("BROKER_URL", "memory://")
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_IMPORTS = ["celery_observe.worker"] if os.environ.get("WEBSITE_INCLUDES") else []
