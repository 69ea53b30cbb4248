"""Entries of a worker's log as lines for people or as JSON: those of tasks, of Celery and of libraries alike.

Celery decides where its log goes and from which level on; of the handlers that it makes, the form is changed. Whoever
sets logging up otherwise (``setup_logging``, or own handlers with ``worker_hijack_root_logger = False``) keeps what is
there, and can use this formatter in it.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog
from celery.utils.log import ColorFormatter, get_multiprocessing_logger
from structlog.typing import Processor

from celery_observe.logs import form_as
from celery_observe.worker.context import live_trace_id
from celery_observe.worker.logs import lines


def add_trace_id(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the id of OpenTelemetry's current trace, which may have begun after the task; a structlog processor."""
    trace_id = live_trace_id()
    if trace_id is not None:
        entry.setdefault("trace_id", trace_id)
    return entry


def drop_data(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop what Celery adds to its own entries about tasks: their arguments; a structlog processor."""
    if entry["_record"].name.startswith("celery."):
        entry.pop("data", None)
    return entry


_CONTEXT: list[Processor] = [add_trace_id, structlog.contextvars.merge_contextvars]
_COMMON: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def formatter(form: str = "json") -> logging.Formatter:
    """Return what makes entries of the standard library's logging, and of structlog, `json` or lines for a `console`.

    For ``logging.config.dictConfig``: ``{"()": "celery_observe.worker.formatter.formatter", "form": "json"}``.
    """
    return form_as(form, [structlog.stdlib.ExtraAdder(), drop_data, *_CONTEXT, *_COMMON])


def join(logger: logging.Logger, **_: Any) -> None:
    """Have the handlers that Celery has just made use our form, and structlog log through them unless it is set up."""
    for each in (logger, get_multiprocessing_logger()):
        for handler in each.handlers:
            if isinstance(handler.formatter, ColorFormatter):
                handler.setFormatter(formatter(lines.form))
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                *_CONTEXT,
                *_COMMON,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
