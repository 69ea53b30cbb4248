"""The wire, over a pair of sockets and a clock that stands still unless told."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from celery_observe.errors import StreamError
from celery_observe.streams.wire import Beat, Wire


class Line:
    """A wire to a peer, with a clock of its own; `slept` is what the wire rested."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.wire = Wire(
            ours,
            Beat(b"beat", every=2.0, within=3.0),
            rest=0.01,
            clock=lambda: self.now,
            sleep=self.slept.append,
        )

    def receive(self, *, at: float, timeout: float = 0.0) -> bytes:
        """What the wire receives at that time."""
        self.now = at
        return bytes(self.wire.receive(timeout))

    def beats(self) -> int:
        """How many beats the peer got since it was last asked."""
        try:
            return len(self.peer.recv(1000)) // len(b"beat")
        except BlockingIOError:
            return 0


@pytest.fixture
def line() -> Iterator[Line]:
    """A wire whose peer is in the test's hands."""
    line = Line()
    yield line
    line.wire.close()
    line.peer.close()


def test_what_has_arrived_is_received_at_once(line: Line) -> None:
    """All that is there comes in one piece."""
    line.peer.send(b"one")
    line.peer.send(b"two")

    assert line.receive(at=0) == b"onetwo"
    assert line.receive(at=0) == b""
    assert not line.slept


def test_beats_are_sent_in_time(line: Line) -> None:
    """One beat every so many seconds, whether or not the peer speaks."""
    line.receive(at=1.9)
    assert line.beats() == 0

    line.peer.send(b"x")
    line.receive(at=2.0)
    line.receive(at=3.9)
    assert line.beats() == 1

    line.peer.send(b"x")
    line.receive(at=4.0)
    assert line.beats() == 1


def test_a_silent_peer_is_stalled(line: Line) -> None:
    """A peer that says nothing after a beat is lost when its time is up, not before."""
    line.receive(at=2.0)
    line.receive(at=4.9)

    with pytest.raises(StreamError, match="stalled"):
        line.receive(at=5.0)


def test_any_answer_will_do(line: Line) -> None:
    """Whatever the peer says is a sign of life."""
    line.receive(at=2.0)
    line.peer.send(b"x")
    line.receive(at=4.9)

    line.receive(at=6.0)
    line.receive(at=8.9)

    with pytest.raises(StreamError, match="stalled"):
        line.receive(at=11.9)


def test_a_reader_that_was_away_does_not_blame_its_peer(line: Line) -> None:
    """What came in the meantime counts, and if nothing did the peer is asked first."""
    line.receive(at=2.0)
    line.peer.send(b"x")
    assert line.receive(at=100) == b"x"

    line.receive(at=200)
    line.receive(at=202)


def test_it_rests_after_a_read_while_events_flow(line: Line) -> None:
    """The read after a read waits a moment, and one after a pause does not."""
    line.peer.send(b"x")
    line.receive(at=0, timeout=1)
    line.peer.send(b"x")
    line.receive(at=0.004, timeout=1)
    line.peer.send(b"x")
    line.receive(at=1, timeout=1)

    assert line.slept == [pytest.approx(0.006)]


def test_it_never_rests_longer_than_asked(line: Line) -> None:
    """A short time-out is kept."""
    line.peer.send(b"x")
    line.receive(at=0, timeout=1)

    line.receive(at=0, timeout=0.005)

    assert not line.slept


def test_a_closed_connection_is_an_error_after_what_came_before(line: Line) -> None:
    """The last words of a peer are heard."""
    line.peer.send(b"last")
    line.peer.close()

    assert line.receive(at=0) == b"last"
    with pytest.raises(StreamError, match="closed"):
        line.receive(at=0)


def test_a_peer_that_takes_nothing_is_stalled(line: Line) -> None:
    """Writing never waits."""
    with pytest.raises(StreamError, match="does not take"):
        line.wire.send(b"x" * 10_000_000)


def test_writing_to_a_lost_connection_is_an_error(line: Line) -> None:
    """A beat to a peer that is gone shows."""
    line.peer.close()

    with pytest.raises(StreamError, match="lost"):
        line.wire.send(b"x")
