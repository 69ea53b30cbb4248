"""The shop, in a worker that writes down each signal of a task as it is sent: which, where, and what it says.

`celery -A recordings.witness worker`; `WITNESS` names the file, to which the worker and its children append.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import signals

from recordings.shop import app

__all__ = ["app"]

WATCHED = (
    "before_task_publish",
    "after_task_publish",
    "task_received",
    "task_prerun",
    "task_postrun",
    "task_success",
    "task_failure",
    "task_retry",
    "task_revoked",
    "task_rejected",
    "task_unknown",
    "task_internal_error",
)

_MAIN = os.getpid()
_FILE = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _remark(signal: str, told: dict[str, Any]) -> str:
    """Return what matters of what a signal says."""
    if signal == "task_postrun":
        return str(told["state"])
    if signal == "task_failure":
        exception = told["exception"]
        return type(getattr(exception, "exc", exception)).__name__
    if signal == "task_revoked":
        return "terminated" if told["terminated"] else "expired" if told["expired"] else "revoked"
    return ""


def _watch(signal: str) -> None:
    def note(**told: Any) -> None:
        where = "main" if os.getpid() == _MAIN else "child"
        line = {"at": time.monotonic_ns(), "signal": signal, "where": where, "remark": _remark(signal, told)}
        os.write(_FILE, json.dumps(line).encode() + b"\n")

    getattr(signals, signal).connect(note, weak=False)


for _signal in WATCHED:
    _watch(_signal)
