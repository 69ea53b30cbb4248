"""Reports arrive over Unix sockets."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from celery_observe.errors import StreamError
from celery_observe.streams.local import _FULL, LocalStream, _room_of, pair


@pytest.fixture
def address(tmp_path: Path) -> str:
    """A path for a socket, short enough for one."""
    return os.path.relpath(tmp_path / "s")


@pytest.fixture
def listening(address: str) -> Iterator[LocalStream]:
    """A stream that listens."""
    stream = LocalStream(address)
    stream.open()
    yield stream
    stream.close()


def connected(address: str) -> socket.socket:
    """A process that reports."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        peer.connect(address)
    except OSError:
        peer.close()
        raise
    return peer


def drained(stream: LocalStream) -> list[bytes]:
    """All that has arrived."""
    return [body for _ in range(5) for body in stream.read(0.0)]


def test_messages_arrive_whole_and_in_order() -> None:
    """Each as it was sent."""
    reading, writing = pair()
    with reading, writing:
        stream = LocalStream(reading)
        stream.open()
        for body in (b"one", b"two", b"x" * 100_000):
            writing.send(body)

        assert stream.read(1.0) == [b"one", b"two", b"x" * 100_000]
        assert stream.read(0.0) == []


def test_a_pair_holds_more_than_ten_messages_and_then_refuses() -> None:
    """Without waiting, and without what is queued being lost."""
    reading, writing = pair()
    with reading, writing:
        stream = LocalStream(reading)
        stream.open()
        sent = 0
        with suppress(BlockingIOError):
            while writing.send(b"x" * 400):
                sent += 1

        assert sent > 100
        assert len(drained(stream)) == sent


@pytest.mark.parametrize(
    ("size", "counts", "expected"),
    [
        pytest.param(300, [320, 1, 1, 1], [0.05, 0.026, 0.052, 0.104], id="fast: before it fills the least buffer"),
        pytest.param(180, [270] * 4, [0.05, 0.1, 0.2, 0.2], id="slow: seldom, not to interrupt a busy worker"),
        pytest.param(180, [270, 0, 1], [0.05, 0.1, 0.05], id="after a pause: soon, for who knows how many will come"),
    ],
)
def test_reports_gather_for_as_long_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch, size: int, counts: list[int], expected: list[float]
) -> None:
    """By how many came before, and of which size."""
    pauses: list[float] = []
    monkeypatch.setattr("celery_observe.streams.local.time.sleep", pauses.append)
    reading, writing = pair()
    with reading, writing:
        stream = LocalStream(reading)
        stream.open()
        for count in counts:
            for _ in range(count):
                writing.send(b"x" * size)
            stream.read(0.01)

    assert pauses == pytest.approx(expected)


def test_what_is_let_gather_fits_the_least_buffer_twice() -> None:
    """Whatever its size."""
    for size in (1, 170, 192, 193, 300, 700, 2000):
        reading, writing = pair()
        with reading, writing:
            writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 212_992)
            count = 0
            with suppress(BlockingIOError):
                while True:
                    writing.send(b"x" * size)
                    count += 1
            room = _room_of([b"x" * size] * count)

        assert 1.7 * _FULL < room < 2.3 * _FULL, size


def test_several_processes_report_to_one_address(listening: LocalStream, address: str) -> None:
    """And may leave; what they had sent still arrives."""
    with connected(address) as one, connected(address) as two:
        one.send(b"1")
        two.send(b"2")
    with connected(address) as three:
        three.send(b"3")

        assert sorted(drained(listening) + drained(listening)) == [b"1", b"2", b"3"]


def test_all_that_knock_together_are_let_in_together(listening: LocalStream, address: str) -> None:
    """As the children of a pool do: what each sends waits in its own buffer until it is."""
    with ExitStack() as children:
        for number in range(50):
            children.enter_context(connected(address)).send(b"%d" % number)

        assert listening.read(0.0) == []
        assert sorted(listening.read(0.0), key=int) == [b"%d" % number for number in range(50)]


def test_processes_of_other_users_may_report(listening: LocalStream, address: str) -> None:
    """Containers of one pod run as different users; the folder says who may come."""
    assert listening.read(0.0) == []
    assert stat.S_IMODE(Path(address).stat().st_mode) == 0o666


def test_the_address_a_killed_process_left_is_taken_over(address: str) -> None:
    """It did not remove it itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as killed:
        killed.bind(address)
    stream = LocalStream(address)

    stream.open()
    stream.close()

    assert not Path(address).exists()


def test_the_address_of_another_that_listens_is_not(listening: LocalStream, address: str) -> None:
    """The message says why."""
    with pytest.raises(StreamError, match="another process listens there"):
        LocalStream(address).open()

    assert listening.read(0.0) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(StreamError, match="the folder must exist"):
        LocalStream(str(tmp_path / "no" / "s")).open()


def test_it_must_be_open() -> None:
    """Before it is read."""
    with pytest.raises(StreamError, match="not open"):
        LocalStream("s").read(0.0)


def test_a_fork_closes_its_copies(listening: LocalStream, address: str) -> None:
    """Here the copies are the originals."""
    with connected(address) as peer:
        listening.read(0.1)
        listening.abandon()

        assert peer.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connected(address)
