"""The demo waits until it is told to stop, and insists when it is told twice."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from celery_observe.demo.processes import LOOPBACK, Pause, free_port, is_free, stoppable


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Return seconds."""
        return self.now


def test_a_pause_ends_at_once_and_for_ever_when_told_to_stop() -> None:
    """Nothing waits any more after a signal."""
    pause = Pause()

    assert pause(0.0)
    pause.stop()

    assert not pause(3600.0)
    assert not pause(3600.0)


def test_a_second_signal_long_after_the_first_interrupts_what_is_stuck() -> None:
    """One Ctrl-C may arrive twice, by `make` and by the terminal; a second one of the user's has a reason."""
    clock = Clock()
    pause = Pause(clock)

    pause.stop()
    pause.stop()
    clock.now = 1.5

    with pytest.raises(KeyboardInterrupt):
        pause.stop()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_the_demo_and_nothing_after_it(signum: signal.Signals) -> None:
    """The handlers are in place for the run alone."""
    inherited = signal.signal(signum, signal.SIG_DFL)  # under `nohup` it would be ignored
    try:
        with stoppable() as pause:
            os.kill(os.getpid(), signum)
            stopped = not pause(60.0)
        after = signal.getsignal(signum)
    finally:
        signal.signal(signum, inherited)

    assert stopped
    assert after is signal.SIG_DFL


def test_an_ignored_signal_stays_ignored() -> None:
    """`nohup celery-observe demo` outlives its terminal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    """A free port is free until it is taken."""
    port = free_port()

    assert is_free(port)
    with socket.create_server((LOOPBACK, port)):
        assert not is_free(port)
