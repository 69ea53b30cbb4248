"""One guard around every plug-in (stream, probe, collector, sink), and the guard is a metric.

The only place that catches ``Exception``: whatever a plug-in does, it is measured and reported, and the rest goes on.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

import structlog

from celery_observe.errors import CeleryObserveError
from celery_observe.metrics import observer

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_observe.recorder import Recorder

log = structlog.get_logger()

T = TypeVar("T")


class Guard:
    """Runs plug-ins from any thread and writes ``celery_observe_plugin_*`` to a recorder."""

    def __init__(self, recorder: Recorder, clock: Callable[[], float] = time.perf_counter) -> None:
        self._recorder = recorder
        self._clock = clock
        self._lock = threading.Lock()
        self.problems: dict[str, str] = {}
        """Why each plug-in failed that failed when it ran last; secrets masked."""

    def run(self, plugin: str, call: Callable[[], T], *, timed: bool = True) -> T | None:
        """Return what ``call`` returns, None if it raised. ``timed`` is for calls that should be quick."""
        started = self._clock()
        try:
            result = call()
        except CeleryObserveError as error:
            log.warning("plugin failed", plugin=plugin, error=str(error))
            self._report(plugin, str(error), None)
        except Exception as error:
            log.exception("plugin failed unexpectedly", plugin=plugin)
            self._report(plugin, f"unexpected {type(error).__name__}, see the log", None)
        else:
            self._report(plugin, None, self._clock() - started if timed else None)
            return result
        return None

    def _report(self, plugin: str, problem: str | None, seconds: float | None) -> None:
        with self._lock:
            self._recorder[observer.PLUGIN_UP].set((plugin,), int(problem is None))
            self._recorder[observer.PLUGIN_ERRORS].increase((plugin,), int(problem is not None))
            if seconds is not None:
                self._recorder[observer.PLUGIN_DURATION].observe((plugin,), seconds)
            if problem is None:
                self.problems.pop(plugin, None)
            else:
                self.problems[plugin] = problem
