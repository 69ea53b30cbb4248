"""What has stopped this worker: a signal of the operating system, remote control, or an error of its own.

Celery sends ``worker_shutting_down`` in its handlers of signals only (``celery/apps/worker.py: _shutdown_handler``). A
worker that ends without one was told to by a command, or had an error that it could not recover from, which its exit
code says (``celery/worker/worker.py: start``).
"""

from __future__ import annotations

from typing import Any

REMOTE_CONTROL = "remote_control"
ERROR = "error"


class Ending:
    """Why a worker ends, once it does; the first reason counts."""

    def __init__(self) -> None:
        self._signal = ""

    def take(self, sig: str, **_: Any) -> None:
        """Note the signal that came. Called amid a handler of signals, so it does no more."""
        self._signal = self._signal or sig.lower()

    def reason(self, worker: Any, *, leaving: bool) -> str:
        """Return what stops a ``WorkController``, such as ``sigterm``; empty while nothing does."""
        if self._signal or not leaving:
            return self._signal
        return ERROR if getattr(worker, "exitcode", None) else REMOTE_CONTROL


ending = Ending()
