"""Whether spans are made of tasks in this process. What makes them is imported only then, and OpenTelemetry with it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery.worker import state

from celery_observe.worker.guard import told

if TYPE_CHECKING:
    from types import ModuleType

    from celery_observe.settings import Settings

log = logging.getLogger(__name__)


class Tracing:
    """What makes spans here."""

    spans: ModuleType | None = None
    """``celery_observe.worker.spans``; None if nothing does."""
    creation: ModuleType | None = None
    """``celery_observe.worker.creation``, likewise."""
    first: tuple[tuple[Any, Any], ...] = ()
    """Signals and their receivers that are to be connected before others, so that what those do is in the span."""
    last: tuple[tuple[Any, Any], ...] = ()
    """Those after others."""

    @told
    def prepare(self, *, apart: bool, green: bool) -> None:
        """Make ready what the children of a worker inherit; say in its heartbeats that nobody else need make spans.

        ``apart`` and ``green`` say of what kind its pool is, as in ``Provider.settle``.
        """
        if self.spans is not None:
            self.spans.provider.settle(apart=apart, green=green)
            if self.spans.provider.prepare():
                state.SOFTWARE_INFO["celery_observe_tracing"] = "live"


tracing = Tracing()
"""That of this process and its children."""


@told
def set_up(settings: Settings) -> None:
    """Make spans from now on if the settings say so."""
    if not settings.tracing:
        return
    try:
        from celery_observe.worker import creation, spans  # noqa: PLC0415 - others do without
    except ImportError as error:
        log.error("no spans are made: %s; pip install 'celery-observe[otel]'", error)  # noqa: TRY400 - it says all
        return
    spans.style.settle(settings)
    creation.watch_chords()
    tracing.spans, tracing.creation = spans, creation
    tracing.first, tracing.last = creation.FIRST + spans.FIRST, spans.LAST + creation.LAST
