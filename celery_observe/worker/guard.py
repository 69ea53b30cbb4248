"""The guard of our code inside users' processes: whatever fails in it is counted, and the task goes on.

With ``celery_observe.guard`` the only place that catches ``Exception``. What runs for each task, and in children that
were forked while other threads may have held locks, neither logs nor locks.

What is not ours passes: ``SystemExit``, ``KeyboardInterrupt``, the timeouts of gevent and eventlet. So does a soft time
limit, though it is an ``Exception``: it strikes wherever the child happens to be, and is meant for the task.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from billiard.exceptions import SoftTimeLimitExceeded

from celery_observe.worker.interruption import interruption
from celery_observe.worker.reporter import reporter

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def harmless(call: Callable[P, None]) -> Callable[P, None]:
    """Return what runs a call and swallows whatever it raises."""

    @wraps(call)
    def run(*args: P.args, **named: P.kwargs) -> None:
        try:
            call(*args, **named)
        except SoftTimeLimitExceeded:
            raise
        except Exception:
            reporter.errors += 1

    return run


def tried(call: Callable[P, R], *args: P.args, **named: P.kwargs) -> tuple[R | None, bool]:
    """Return what a callable of the user's returns, and whether it failed instead, which is not counted as ours."""
    try:
        return call(*args, **named), False
    except SoftTimeLimitExceeded:
        raise
    except Exception:
        return None, True


def told(call: Callable[P, None]) -> Callable[P, None]:
    """Return what runs a call and logs whatever it raises: for what happens once, in a worker's main process."""

    @wraps(call)
    def run(*args: P.args, **named: P.kwargs) -> None:
        try:
            call(*args, **named)
        except Exception:
            reporter.errors += 1
            log.exception("celery-observe: %s failed; the worker goes on without", call.__qualname__)

    return run


def handler(call: Callable[..., None], *, amid_task: bool = False) -> Callable[..., None]:
    """Return a harmless receiver of a signal, which does nothing while we are turned off.

    ``amid_task`` is for signals after which the task goes on, so that a soft time limit must still reach it.
    """
    switch = reporter.switch

    @wraps(call)
    def receive(**named: Any) -> None:
        try:
            if not switch[0]:
                call(**named)
        except SoftTimeLimitExceeded:
            _confess()
            if amid_task:
                interruption.repeat()
        except Exception:
            _confess()

    return receive


def attempt_handler(call: Callable[..., None], *, amid_task: bool = False) -> Callable[..., None]:
    """Return the same for ``task_prerun`` and ``task_postrun``: what every task pays for is passed by position."""
    switch = reporter.switch

    @wraps(call)
    def receive(
        task: Any = None, task_id: str | None = None, state: str | None = None, retval: Any = None, **_: Any
    ) -> None:
        try:
            if not switch[0]:
                call(task, task_id, state, retval)
        except SoftTimeLimitExceeded:
            _confess()
            if amid_task:
                interruption.repeat()
        except Exception:
            _confess()

    return receive


def _confess() -> None:
    reporter.errors += 1
    with suppress(Exception):  # then it is told with the next report
        reporter.confess()


def watched(call: Callable[..., R], tell: Callable[..., None]) -> Callable[..., R]:
    """Return what runs a call that is not ours as it is, and tells of what it raises, which goes on."""

    @wraps(call)
    def pass_on(*args: Any, **named: Any) -> R:
        try:
            return call(*args, **named)
        except BaseException as error:
            tell(error, *args, **named)
            raise

    return pass_on
