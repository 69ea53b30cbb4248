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
from celery_observe.streams.local import LocalStream, pair


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


def test_what_comes_fast_is_read_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it fills the least buffer that there is; and rarely again when there is less."""
    pauses: list[float] = []
    monkeypatch.setattr("celery_observe.streams.local.time.sleep", pauses.append)
    reading, writing = pair()
    with reading, writing:
        stream = LocalStream(reading)
        stream.open()
        for count in (320, 1, 1, 1):
            for _ in range(count):
                writing.send(b"x" * 300)
            stream.read(1.0)

    assert pauses == pytest.approx([0.1, 0.05, 0.075, 0.1])


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
