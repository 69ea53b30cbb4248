"""The soft time limit that strikes in a pool child just while it runs a handler of ours.

billiard raises ``SoftTimeLimitExceeded`` wherever the child is when the signal comes (``billiard/pool.py:
soft_timeout_sighandler``). In a receiver Celery swallows it (``celery/utils/dispatch/signal.py: Signal.send``), and the
task would run on until its hard limit. So the signal is sent once more when the receiver has been left.
"""

from __future__ import annotations

import signal
import threading

from billiard.pool import SIG_SOFT_TIMEOUT

_MOMENT = 0.01
"""Seconds until the signal is sent again."""


class Interruption:
    """Sends the signal again, unless the task ends before; a child executes one at a time."""

    def __init__(self) -> None:
        self.timer: threading.Timer | None = None
        """Will send it; None if it did not strike amid a handler of ours."""

    def repeat(self) -> None:
        """Interrupt the task a moment later. The only thread that a child ever runs for us, and for that moment."""
        target = threading.main_thread().ident, SIG_SOFT_TIMEOUT
        self.timer = threading.Timer(_MOMENT, signal.pthread_kill, target)
        self.timer.daemon = True
        self.timer.start()

    def cancel(self) -> None:
        """Let it be: the task has ended."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()


interruption = Interruption()
"""The one of this process and its children."""
