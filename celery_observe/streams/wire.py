"""A connected socket, plain or TLS: read in large pieces, and kept honest by beats."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

from celery_observe.errors import StreamError

_CHUNK_BYTES: Final = 64 * 1024
_NOTHING: Final = memoryview(b"")
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Beat:
    """What is sent `every` so many seconds; a living peer has said something `within` as many after it."""

    def __init__(self, data: bytes, *, every: float, within: float) -> None:
        self.data = data
        self.every = every
        self.within = within


class Wire:
    """Owns `sock` from now on, and never waits longer than it is asked to.

    After a read it lets the kernel gather more for `rest` seconds, which saves wake-ups while events flow, and
    delays none that comes after a pause. `maker` is kept, since what made a socket may close it when it is deleted.
    """

    def __init__(
        self,
        sock: socket.socket,
        beat: Beat,
        *,
        maker: object = None,
        rest: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        sock.setblocking(False)  # noqa: FBT003 - its only argument
        self._sock = sock
        self._maker = maker
        self._beat = beat
        self._rest = rest
        self._clock = clock
        self._sleep = sleep
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._decrypted: Callable[[], int] = getattr(sock, "pending", int)
        self._buffer = memoryview(bytearray(_CHUNK_BYTES))
        self._next_beat = clock() + beat.every
        self._unanswered: float | None = None
        self._rest_until = clock()

    def receive(self, timeout: float) -> memoryview:
        """Return what has arrived, valid until the next call; nothing after `timeout` seconds at most.

        Raises StreamError when the connection is lost, or when the peer has fallen silent.
        """
        now = self._clock()
        if now >= self._next_beat:
            self._send_beat(now)
        if self._readable(min(timeout, self._patience() - now)):
            return self._receive()
        if self._unanswered is not None and self._clock() >= self._unanswered + self._beat.within:
            raise StreamError("the connection is stalled: the broker does not answer")
        return _NOTHING

    def send(self, data: bytes) -> None:
        """Hand a few bytes to the kernel. Raises StreamError when it does not take them at once."""
        try:
            sent = self._sock.send(data)
        except _NOT_NOW:
            sent = 0
        except OSError as error:
            raise _lost(error) from error
        if sent != len(data):
            raise StreamError("the connection is stalled: the broker does not take what is sent")

    def close(self) -> None:
        """Disconnect. Never raises."""
        self._sock.close()

    def _send_beat(self, now: float) -> None:
        self.send(self._beat.data)
        self._next_beat = now + self._beat.every
        if self._unanswered is None:
            self._unanswered = now

    def _patience(self) -> float:
        """Until when there is nothing to do but to wait."""
        if self._unanswered is None:
            return self._next_beat
        return min(self._next_beat, self._unanswered + self._beat.within)

    def _readable(self, timeout: float) -> bool:
        if self._decrypted():  # the kernel has no news of what TLS holds already
            return True
        rest = self._rest_until - self._clock()
        if 0 < rest < timeout:
            self._sleep(rest)
        return bool(self._poll.poll(max(timeout, 0) * 1000))

    def _receive(self) -> memoryview:
        size = self._read(self._buffer)
        if size and self._decrypted is not int:
            size = self._gather(size)
        if not size:
            return _NOTHING
        self._unanswered = None
        if size < _CHUNK_BYTES // 2:  # else there is more than enough to go on with
            self._rest_until = self._clock() + self._rest
        return self._buffer[:size]

    def _gather(self, size: int) -> int:
        """Add what else there is in TLS records, each of which is a read."""
        with contextlib.suppress(StreamError):  # which the next read meets again
            while size < _CHUNK_BYTES and (more := self._read(self._buffer[size:])):
                size += more
        return size

    def _read(self, buffer: memoryview) -> int:
        """Return how many bytes were read, 0 when there are none now."""
        try:
            size = self._sock.recv_into(buffer)
        except _NOT_NOW:
            return 0
        except OSError as error:
            raise _lost(error) from error
        if not size:
            raise StreamError("the broker closed the connection")
        return size


def _lost(error: OSError) -> StreamError:
    return StreamError(f"the connection is lost: {error.strerror or error}")
