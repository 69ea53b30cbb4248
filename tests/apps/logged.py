"""The instrumented app, with tasks that log in each way that there is. `SAMPLE_LOGGING` says who sets logging up.

`celery` (the default); `setup_logging`, a handler of that signal; `handlers`, which the app has before Celery looks.
"""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import sys
import threading
import time
from typing import Any

import structlog
from celery import Task
from celery.signals import setup_logging
from celery.utils.log import get_task_logger

import apps.instrumented  # noqa: F401 - it instruments
from apps.sample import app

__all__ = ["app"]

from_structlog = structlog.get_logger("shop.structlog")
from_logging = logging.getLogger("shop.logging")
from_celery = get_task_logger("shop.celery")

one_loop = threading.Lock()
"""Greenlets share a thread, which has one running event loop at the most."""
PLAIN = "plain %(levelname)s %(message)s"


def set_logging_up(**_: Any) -> None:
    """Log all as JSON on standard output, by our formatter."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"json": {"()": "celery_observe.worker.formatter.formatter", "form": "json"}},
            "handlers": {"out": {"class": "logging.StreamHandler", "stream": sys.stdout, "formatter": "json"}},
            "root": {"level": "INFO", "handlers": ["out"]},
        }
    )


if os.environ.get("SAMPLE_LOGGING") == "setup_logging":
    setup_logging.connect(set_logging_up)
elif os.environ.get("SAMPLE_LOGGING") == "handlers":
    logging.basicConfig(level=logging.INFO, format=PLAIN, stream=sys.stderr)


async def speak_later(task_id: str, seconds: float) -> None:
    """Log in async code, and in a task of its event loop."""
    from_structlog.info("from async code", of=task_id)
    await asyncio.gather(asyncio.sleep(seconds), asyncio.create_task(speak_apart(task_id)))


async def speak_apart(task_id: str) -> None:
    """Log in a task of the event loop."""
    from_logging.info("from a task of the loop", extra={"of": task_id})


@app.task(name="speak", bind=True)
def speak(self: Task, secret: str, seconds: float = 0.05) -> str:
    """Log before, amid and after other things."""
    task_id = self.request.id
    from_structlog.info("from structlog", of=task_id)
    from_logging.info("from logging", extra={"of": task_id})
    from_celery.warning("from Celery's logger", extra={"of": task_id})
    print(f"printed {task_id}")
    time.sleep(seconds)
    with one_loop:
        asyncio.run(speak_later(task_id, seconds))
    speak_in_place.apply()
    structlog.contextvars.bind_contextvars(own=task_id, tenant="its own")
    from_structlog.info("at last", of=task_id)
    speak_next.apply_async((secret,), queue="celery")
    return secret


@app.task(name="speak_in_place", bind=True)
def speak_in_place(self: Task) -> None:
    """Be called by another task."""
    from_structlog.info("in place", of=self.request.id)


@app.task(name="speak_next", bind=True)
def speak_next(self: Task, _secret: str) -> None:
    """Be published by another task."""
    from_structlog.info("next", of=self.request.id)


@app.task(name="fail_because")
def fail_because(secret: str) -> None:
    """Fail, with a cause; both quote the argument."""
    try:
        int(secret)
    except ValueError as error:
        raise LookupError(f"password={secret} is no number") from error


@app.task(name="fail_expectedly", throws=(LookupError,))
def fail_expectedly(secret: str) -> None:
    """Fail, as is expected of it."""
    raise LookupError(secret)
