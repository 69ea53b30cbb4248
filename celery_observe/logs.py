"""Log entries on stderr, ours and those of the libraries alike, as lines for people or as JSON, without secrets.

structlog is imported when the first entry is written, not with this module: every ``celery`` command line imports our
command, and that structlog is there tells an instrumented worker that its tasks may use it (``worker/context.py``).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from celery_observe.masking import mask

if TYPE_CHECKING:
    from structlog.typing import Processor

_hosted = False


class Logger:
    """Logs as this process is configured to: as `configure` says, or, in a user's process, as its `logging` does."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_in_host() if _hosted else _global(), name)


log = Logger()
"""The logger of the whole package."""


def be_hosted() -> None:
    """Log through the logger `celery_observe` of the standard library from now on, and leave structlog to the user."""
    global _hosted  # noqa: PLW0603 - of the process, as logging is
    _hosted = True
    _in_host()


@cache
def _structlog() -> Any:
    return import_module("structlog")


@cache
def _global() -> Any:
    return _structlog().get_logger()


@cache
def _in_host() -> Any:
    structlog = _structlog()
    return structlog.wrap_logger(
        logging.getLogger(__package__),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            mask_entry,
            _plain(structlog, colours=False),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def mask_entry(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask the secrets of a log entry; a structlog processor."""
    entry.update({name: mask(value, name) for name, value in entry.items() if not name.startswith("_")})
    return entry


def configure(level: str, form: str) -> None:
    """Send log entries of at least `level` (`info`, …) to stderr, in `form` `console` or `json`."""
    structlog = _structlog()
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(ignore_frame_names=[__name__]),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form_as(form, common))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def form_as(form: str, first: list[Processor]) -> logging.Formatter:
    """Return a formatter that gives entries `form` and masks them; those not of structlog go through `first`."""
    structlog = _structlog()
    json = structlog.processors.JSONRenderer
    renderer = json() if form == "json" else _plain(structlog, colours=sys.stderr.isatty())
    formatter: logging.Formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=first,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, mask_entry, renderer],
    )
    return formatter


def _plain(structlog: Any, *, colours: bool) -> Any:
    trace = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=trace, pad_event_to=0)
