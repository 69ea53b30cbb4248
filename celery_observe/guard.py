"""One guard around every plug-in (stream, probe, collector, sink), and the guard is a metric.

The only place that catches ``Exception``: whatever a plug-in does, it is measured and reported, and the rest goes on.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

from celery_observe.errors import CeleryObserveError
from celery_observe.fact import Fact, PluginRan
from celery_observe.logs import log

if TYPE_CHECKING:
    from collections.abc import Callable


REPEAT_AFTER = 60.0
"""Seconds after which a failure that goes on is logged again."""

T = TypeVar("T")


def contained(call: Callable[[], T], explain: Callable[[Exception], CeleryObserveError]) -> T:
    """Run the user's code, such as the import of an app; what it raises is raised as ``explain`` puts it."""
    try:
        return call()
    except CeleryObserveError:
        raise
    except Exception as error:
        raise explain(error) from None


class Guard:
    """Runs plug-ins from any thread and emits a ``PluginRan`` each time, one at a time."""

    def __init__(self, emit: Callable[[Fact], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._emit = emit
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: dict[str, tuple[str, float]] = {}
        self.problems: dict[str, str] = {}
        """Why each plug-in failed that failed when it ran last; secrets masked."""

    def run(self, plugin: str, call: Callable[[], T], *, timed: bool = True) -> T | None:
        """Return what ``call`` returns, None if it raised. ``timed`` is for calls that should be quick."""
        started = self._clock()
        try:
            result = call()
        except CeleryObserveError as error:
            if self._is_news(plugin, str(error)):
                log.warning("plugin failed", plugin=plugin, error=str(error))
            self._report(plugin, str(error), None)
        except Exception as error:
            if self._is_news(plugin, repr(error)):
                log.exception("plugin failed unexpectedly", plugin=plugin)
            self._report(plugin, f"unexpected {type(error).__name__}, see the log", None)
        else:
            self._report(plugin, None, self._clock() - started if timed else None)
            return result
        return None

    def _is_news(self, plugin: str, problem: str) -> bool:
        """Say whether to log a failure: not every time that the same one comes again."""
        last, at = self._logged.get(plugin, ("", 0.0))
        now = self._clock()
        if problem == last and now - at < REPEAT_AFTER:
            return False
        self._logged[plugin] = problem, now
        return True

    def _report(self, plugin: str, problem: str | None, seconds: float | None) -> None:
        with self._lock:
            self._emit(PluginRan(plugin, int(problem is None), int(problem is not None), seconds))
            if problem is None:
                self.problems.pop(plugin, None)
                self._logged.pop(plugin, None)
            else:
                self.problems[plugin] = problem
