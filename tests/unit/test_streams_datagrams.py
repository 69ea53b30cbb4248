"""Messages are received many at a time, or one by one where the system cannot."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from celery_observe.streams.datagrams import AT_ONCE, Receive, State, one_by_one, receiver

MOST = 4096


@pytest.fixture(params=[receiver, one_by_one])
def receive(request: pytest.FixtureRequest) -> Receive:
    """What receives, in each of its ways."""
    make: Callable[[int], Receive] = request.param
    return make(MOST)


def read(receive: Receive, peer: socket.socket) -> tuple[list[bytes], State]:
    """All that can be read, and how it ended."""
    bodies: list[bytes] = []
    state = State.MORE
    while state is State.MORE:
        state = receive(peer.fileno(), bodies)
    return bodies, state


@pytest.mark.parametrize("count", [0, 1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
def test_all_arrive_in_their_order(receive: Receive, count: int) -> None:
    """Each as it was sent, again and again."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reading, writing:
        for _ in range(2):
            sent = [b"%d" % number * (1 + number % 7) for number in range(count)]
            for body in sent:
                writing.send(body)

            assert read(receive, reading) == (sent, State.EMPTY)


def test_what_is_too_long_is_cut(receive: Receive) -> None:
    """It takes no room of the next."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reading, writing:
        for body in (b"a" * (MOST + 1), b"b" * MOST, b"c"):
            writing.send(body)

        assert read(receive, reading) == ([b"a" * MOST, b"b" * MOST, b"c"], State.EMPTY)


def test_one_that_has_hung_up_is_gone(receive: Receive) -> None:
    """After all that it has sent."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reading:
        with writing:
            writing.send(b"last")

        assert read(receive, reading) == ([b"last"], State.GONE)


def test_what_follows_an_empty_message_is_not_lost(receive: Receive) -> None:
    """Where nobody can hang up it means nothing."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with reading, writing:
        for body in (b"1", b"", b"2"):
            writing.send(body)
        bodies, state = read(receive, reading)

        assert (bodies + read(receive, reading)[0], state) == ([b"1", b"2"], State.GONE)


def test_a_socket_that_is_none_is_gone(receive: Receive) -> None:
    """Such as one that was closed."""
    with socket.socket() as none:
        assert read(receive, none) == ([], State.GONE)
