"""What made an attempt fail, read from the ``exception`` and ``traceback`` of its ``task-failed``.

Celery sends ``repr(exception)``, but what a pool raises on behalf of a killed child arrives wrapped, as
``ExceptionWithTraceback()`` (``celery/worker/request.py: on_failure``); then only the traceback names it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from celery_observe.fact import Cause

UNKNOWN = "unknown"

_REPR = re.compile(r"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w{0,127})\(")
_RAISED = re.compile(r"((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)(?::|$)")
_RETRY_FRAME = re.compile(r'celery[/\\]app[/\\]task\.py", line \d+, in retry\b')
_RESULT_FRAME = re.compile(r", in mark_as_done\b")
_WRAPPERS = frozenset({"ExceptionWithTraceback", "ExceptionInfo"})
_LIBRARIES = ("billiard.", "celery.", "kombu.")
_NAMED = re.compile(r"NotRegistered\('([^']{1,512})'\)")
_LONGEST_NAME = 128
_SCAN = 65536
"""Characters of a traceback that are looked at, from its end."""

_BY_NAME = {
    "SoftTimeLimitExceeded": Cause.SOFT_TIME_LIMIT,
    "TimeLimitExceeded": Cause.HARD_TIME_LIMIT,
    "NotRegistered": Cause.UNREGISTERED,
    "EncodeError": Cause.ENCODE_ERROR,
    "MaxRetriesExceededError": Cause.RETRIES_EXHAUSTED,
}


class Failure(NamedTuple):
    """The class name of the exception and what it means."""

    exception: str
    cause: Cause


def is_reject(exception: str | None, traceback: str | None) -> bool:
    """Say whether a failure is Celery's ``Reject``, which is none: 5.7 announces it as one."""
    text = exception or ""
    return text.startswith("reject requeue=") or _raised(traceback or "") == "celery.exceptions.Reject"


def diagnose(exception: str | None, traceback: str | None) -> Failure:
    """Name the exception and the cause of a failure; the text of the exception goes nowhere."""
    text = (exception or "")[:_SCAN]
    trace = (traceback or "")[-_SCAN:]
    raised = _raised(trace)
    name = _class_name(text, raised)
    cause = _known_cause(name, text, trace) if raised is None or raised.startswith(_LIBRARIES) else None
    return Failure(name, cause or (Cause.RETRIES_EXHAUSTED if _RETRY_FRAME.search(trace) else Cause.EXCEPTION))


def _known_cause(name: str, text: str, trace: str) -> Cause | None:
    """Return what an exception of Celery's own means; the application may raise some of them too."""
    if name == "WorkerLostError":
        killed = "signal" in text or "signal" in trace.rpartition(name)[2]
        return Cause.OOM_OR_SIGNAL if killed else Cause.WORKER_LOST
    if (name == "NotRegistered" and trace) or (name == "EncodeError" and not _RESULT_FRAME.search(trace)):
        return None
    return _BY_NAME.get(name)


def unregistered_name(exception: str | None) -> str | None:
    """Return the name of the task in ``NotRegistered('name')``."""
    found = _NAMED.match(exception or "")
    return found[1] if found else None


def _class_name(text: str, raised: str | None) -> str:
    found = _REPR.match(text)
    if found and found[1] not in _WRAPPERS:
        return found[1]
    return raised.rpartition(".")[2][:_LONGEST_NAME] if raised else (found[1] if found else UNKNOWN)


def _raised(trace: str) -> str | None:
    """Find the class, with its module, in the first unindented line after the last frame."""
    after = trace.rpartition('\n  File "')[2]
    for line in after.splitlines()[1:] or after.splitlines():
        if line and not line[0].isspace():
            found = _RAISED.match(line)
            return found[1] if found else None
    return None
