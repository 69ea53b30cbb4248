"""The process of the exporter ends when it is told to, at whatever step the signal strikes."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from celery_observe import pipeline
from celery_observe.settings import Settings

ENOUGH = 0.3  # seconds: what takes a signal's step longer than this waits


class Waits(Exception):  # noqa: N818 - no error: how a test gets out of a wait
    """Nothing happens any more."""


class Idle:
    """A pipeline that does nothing, and strikes at a certain line from its start on."""

    def __init__(self, at: int, number: signal.Signals) -> None:
        self.struck = self.stopped = False
        self._left = at
        self._number = number

    def start(self) -> None:
        """Count the lines that are run from now on, of the caller and of all that it calls."""
        sys.settrace(self._before)
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        frame.f_back.f_trace = self._before

    def stop(self) -> None:
        """Note that it was stopped."""
        sys.settrace(None)
        self.stopped = True

    def _before(self, frame: FrameType, what: str, _arg: Any) -> Any:
        if what == "line" and frame.f_code.co_filename != __file__ and not self.struck:
            self._left -= 1
            if self._left < 0:
                self.struck = True
                signal.raise_signal(self._number)
        return self._before


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Give the handlers of all signals back, and get out of what waits for ever."""

    def wake(*_: object) -> None:
        sys.settrace(None)
        raise Waits

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    tracer = sys.gettrace()
    signal.signal(signal.SIGALRM, wake)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.settrace(tracer)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_whatever_step_it_comes(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """Even while the main thread begins to wait for it: an event that is set there waits for its own lock."""
    line, idle = 0, Idle(0, number)
    while True:
        monkeypatch.setattr(pipeline, "Pipeline", lambda _settings, idle=idle: idle)
        signal.setitimer(signal.ITIMER_REAL, ENOUGH)
        try:
            assert pipeline.run(Settings()) == 0
        except Waits:
            break
        assert idle.struck
        line += 1
        idle = Idle(line, number)
    assert line > 0
    assert idle.stopped
    assert not idle.struck, f"told at line {line}, and waits"
