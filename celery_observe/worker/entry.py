"""For which entry of beat's schedule a task was sent, as the headers of its message say."""

from __future__ import annotations

from functools import cache
from typing import Any

from celery_observe.beat import sole_entries
from celery_observe.worker.headers import ENTRY

DJANGO_ENTRY = "periodic_task_name"
"""What django-celery-beat sends (``django_celery_beat/schedulers.py: ModelEntry``)."""
CELERY_ENTRY = "celery_beat_task"
"""What Celery sends from 5.7 on, of any entry (``celery/beat.py: Scheduler.apply_async``)."""
_LONGEST = 512


def entry_of(task: Any, fields: dict[str, Any]) -> str | None:
    """Return the entry's name, None if the task was sent by somebody else, or that cannot be told."""
    if ENTRY in fields:
        entry = fields[ENTRY]
    elif DJANGO_ENTRY in fields:
        entry = fields[DJANGO_ENTRY]
    elif fields.get(CELERY_ENTRY):
        entry = _configured(task.app).get(task.name)
    else:
        return None
    return str(entry)[:_LONGEST] if entry else None


@cache
def _configured(app: Any) -> dict[str, str]:
    """Return the entries in the app's configuration, which the worker has too, by the task that they alone name."""
    return sole_entries(app.conf.beat_schedule)
