"""Stand-ins for the tests of plug-ins: events, a clock that is moved by hand, a stream without a broker."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from celery_observe.event import Event
from celery_observe.fleet import Instant

if TYPE_CHECKING:
    from celery_observe.errors import StreamError

EPOCH = 1_700_000_000.0
"""When stand-ins begin, in Unix seconds."""


def make_event(type_: str, **fields: Any) -> Event:
    """Return an event of this type; what is not given is what a lone worker would say at the beginning of time."""
    given: dict[str, Any] = {"timestamp": EPOCH, "hostname": "celery@host", "pid": 1}
    return Event(type=type_, **(given | fields))


class FakeClock:
    """A clock that stands still until it is told to ``advance``. Called, it gives monotonic seconds."""

    def __init__(self, wall: float = EPOCH) -> None:
        self._start = wall
        self._passed = 0.0

    def __call__(self) -> float:
        """Return the monotonic time, as ``time.monotonic`` does."""
        return self._passed

    @property
    def now(self) -> Instant:
        """This moment on both clocks."""
        return Instant(self._start + self._passed, self._passed)

    def advance(self, seconds: float) -> Instant:
        """Let time pass, and return the new moment."""
        self._passed += seconds
        return self.now


class MemoryStream:
    """A ``Stream`` that hands out what was put into it.

    ``read`` never waits. A StreamError that was put in is raised in its turn, as when a broker is lost.
    """

    def __init__(self, *arrivals: Event | list[Event] | bytes | StreamError) -> None:
        self._arrivals = deque(arrivals)
        self.opened = 0
        """How often it was opened."""
        self.closed = 0
        """How often it was closed."""

    def put(self, *arrivals: Event | list[Event] | bytes | StreamError) -> None:
        """Add events, batches of them, raw bodies or an error."""
        self._arrivals.extend(arrivals)

    def open(self) -> None:
        """Note that it was opened."""
        self.opened += 1

    def read(self, timeout: float) -> list[bytes]:  # noqa: ARG002 - the Stream protocol
        """Return the bodies up to the next error; raise the error if it is next."""
        bodies: list[bytes] = []
        while self._arrivals:
            arrival = self._arrivals[0]
            if isinstance(arrival, Exception):
                if bodies:
                    break
                self._arrivals.popleft()
                raise arrival
            self._arrivals.popleft()
            bodies.append(arrival if isinstance(arrival, bytes) else msgspec.json.encode(arrival))
        return bodies

    def close(self) -> None:
        """Note that it was closed."""
        self.closed += 1
