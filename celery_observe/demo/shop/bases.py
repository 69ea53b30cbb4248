"""What tasks have in common: a database connection, and retries that end in the dead-letter queue."""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import Any

from celery import Task
from celery.utils import uuid

from celery_observe.demo.shop.routing import DEAD_LETTERS

_DATABASE = "shop.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (article TEXT PRIMARY KEY, pieces INTEGER NOT NULL);
INSERT OR IGNORE INTO stock VALUES ('book', 1000000), ('lamp', 1000000), ('chair', 1000000), ('box', 1000000);
"""


@cache
def _connection() -> sqlite3.Connection:
    """Return the connection of this process: made by its first task, since none survives a fork."""
    connection = sqlite3.connect(_DATABASE, timeout=10)
    connection.executescript(_SCHEMA)
    return connection


class DatabaseTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task with a database: one connection for each process of the pool, kept from task to task."""

    abstract = True

    @property
    def database(self) -> sqlite3.Connection:
        """The connection; as a context manager it is a transaction."""
        return _connection()


class RetryableTask(Task):  # type: ignore[misc]
    """A task that is retried when the network fails it, later each time, and is not lost when that does not help.

    The countdown doubles from one second to ten minutes and is drawn at random below that, so that those that
    failed together do not come back together.
    """

    abstract = True
    autoretry_for = (ConnectionError, TimeoutError)
    max_retries = 10
    retry_backoff = True
    retry_backoff_max = 600
    retry_jitter = True

    def on_failure(self, exc: Exception, _task_id: str, args: Any, kwargs: Any, _einfo: Any) -> None:
        """Put a task whose retries are exhausted where it can be looked at and run again."""
        if isinstance(exc, self.autoretry_for) and self.request.retries >= self.max_retries:
            fresh = uuid()  # a message of its own, and no part of the workflow that has failed
            self.apply_async(args, kwargs, queue=DEAD_LETTERS, task_id=fresh, root_id=fresh)
