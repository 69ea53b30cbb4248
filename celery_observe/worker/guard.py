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
from inspect import signature
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from billiard.exceptions import SoftTimeLimitExceeded
from celery.utils.dispatch import Signal

from celery_observe.worker.interruption import interruption
from celery_observe.worker.reporter import reporter

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N")
T = TypeVar("T")


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
    switch, pick = reporter.switch, _picker(call)

    @wraps(call)
    def receive(**named: Any) -> None:
        try:
            if not switch[0]:
                call(*pick(named))
        except SoftTimeLimitExceeded:
            _be_struck(amid_task=amid_task)
        except Exception:
            _confess()

    return receive


class Surrounded(Generic[N]):
    """What is noted of the attempt that a child executes, by what surrounds its tracer; it executes one at a time."""

    note: N | None = None


def surrounding(
    task: T,
    call: Callable[[str, Any, Any, Any], R],
    surrounded: Surrounded[N],
    begin: Callable[[str], N],
    end: Callable[[T, str, Any, N, R | None], None],
) -> Callable[[str, Any, Any, Any], R]:
    """Return what calls a task's tracer as it is, with ``begin`` before and ``end`` after it, unless we are turned off.

    ``begin`` is given the task's id, and what it returns is what is noted meanwhile; ``end`` gets the task, its id, its
    request, that note, and what the tracer has returned: None if it has raised.
    """
    switch = reporter.switch

    def trace_task(uuid: str, args: Any, kwargs: Any, request: Any = None) -> R:
        if switch[0]:
            return call(uuid, args, kwargs, request)
        note = traced = None
        try:
            note = surrounded.note = begin(uuid)
        except SoftTimeLimitExceeded:
            _be_struck(amid_task=True)
        except Exception:
            _confess()
        try:
            traced = call(uuid, args, kwargs, request)
        finally:
            if interruption.timer is not None:
                interruption.cancel()
            surrounded.note = None
            if note is not None:
                try:
                    end(task, uuid, request, note, traced)
                except SoftTimeLimitExceeded:
                    _be_struck(amid_task=False)
                except Exception:
                    _confess()
        return traced

    return trace_task


def preceded(call: Callable[..., R], ours: Callable[..., None]) -> Callable[..., R]:
    """Return what makes a call of Celery's as it is, after ours has got all its arguments, unless we are turned off."""
    switch = reporter.switch

    @wraps(call)
    def go_on(*args: Any, **named: Any) -> R:
        try:
            if not switch[0]:
                ours(*args, **named)
        except SoftTimeLimitExceeded:
            _be_struck(amid_task=True)
        except Exception:
            _confess()
        return call(*args, **named)

    return go_on


def receiving(signal: Signal, ours: Callable[[Any], None]) -> Callable[..., Any]:
    """Return what sends ``task_received`` after ours has got the request: as `preceded`, but every task pays for it.

    So it is not sent at all while nobody has connected, as Celery's own ``send`` would find out too.
    """
    send, switch = signal.send, reporter.switch
    foreign = getattr(send, "__func__", None) is not Signal.send

    @wraps(send)
    def go_on(sender: Any, request: Any, **named: Any) -> Any:
        try:
            if not switch[0]:
                ours(request)
        except SoftTimeLimitExceeded:
            _be_struck(amid_task=True)
        except Exception:
            _confess()
        if signal.receivers or foreign:
            return send(sender=sender, request=request, **named)
        return []

    return go_on


def _picker(call: Callable[..., None]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Return what picks the arguments of a call from all that a signal sends, which it would cost more to pass on."""
    parameters = [each for each in signature(call).parameters.values() if each.kind is not each.VAR_KEYWORD]
    names = [each.name for each in parameters]
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    if len(names) > 1 and not defaults:
        return itemgetter(*names)
    if len(names) == 1 and not defaults:
        return lambda named: (named[names[0]],)
    return lambda named: tuple([named[name] if name in named else defaults[name] for name in names])


def _be_struck(*, amid_task: bool) -> None:
    """Count a soft time limit that has struck amid code of ours, and send it on if the task still goes on."""
    _confess()
    if amid_task:
        interruption.repeat()


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
