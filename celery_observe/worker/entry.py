"""For which entry of beat's schedule a task was sent, as the headers of its message say."""

from __future__ import annotations

from typing import Any

from celery_observe.worker.headers import ENTRY

_DJANGO = "periodic_task_name"
"""What django-celery-beat sends (``django_celery_beat/schedulers.py: ModelEntry``)."""
_CELERY = "celery_beat_task"
"""What Celery sends from 5.7 on, of any entry (``celery/beat.py: Scheduler.apply_async``)."""
_LONGEST = 512

_only: dict[str, str | None] = {}
"""The entry in the app's configuration that names a task, by task; None where several or none do."""


def entry_of(task: Any, fields: dict[str, Any]) -> str | None:
    """Return the entry's name, None if the task was sent by somebody else, or that cannot be told."""
    entry = fields.get(ENTRY) or fields.get(_DJANGO)
    if entry is None and fields.get(_CELERY):
        entry = _only_entry(task)
    return str(entry)[:_LONGEST] if entry else None


def _only_entry(task: Any) -> str | None:
    """Find it in the schedule of the app's configuration, which the worker has too."""
    name = task.name
    if name not in _only:
        schedule = task.app.conf.beat_schedule or {}
        found = [entry for entry, each in schedule.items() if _task_of(each) == name]
        _only[name] = found[0] if len(found) == 1 else None
    return _only[name]


def _task_of(entry: Any) -> str | None:
    """Return the task that an entry names: a mapping, or a ``ScheduleEntry``."""
    return entry.get("task") if isinstance(entry, dict) else getattr(entry, "task", None)
