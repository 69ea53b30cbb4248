"""Which of the open connections goes when there are too many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Writable(Protocol):
    """A connection."""

    def writing(self) -> bool:
        """Tell whether the peer has not yet read all of an answer."""


Connection = TypeVar("Connection", bound=Writable)


class Connections(Generic[Connection]):
    """The open connections, the one that has waited longest for a request to be complete coming first.

    The order looks at complete requests only, so a peer gains nothing by dripping bytes.
    """

    def __init__(self, limit: int, unread_timeout: float) -> None:
        """Take how many may be open, and the seconds that a peer has to read an answer."""
        self.limit = limit
        self.unread_timeout = unread_timeout
        self._waiting: dict[Connection, None] = {}
        self._unread: dict[Connection, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._waiting))

    def wait(self, connection: Connection) -> None:
        """Put a connection last: it is new, or its request has been answered and the answer read."""
        self.forget(connection)
        self._waiting[connection] = None

    def forget(self, connection: Connection) -> None:
        """Drop a connection, if it is known: it has closed."""
        self._waiting.pop(connection, None)
        self._unread.pop(connection, None)

    def surplus(self) -> Connection | None:
        """Return the one to close before another is taken in; None while there is room."""
        return self.longest_waiting() if len(self) >= self.limit else None

    def longest_waiting(self) -> Connection | None:
        """Return the one that misses least: idle if possible, else the one that reads its answer slowest."""
        idle = (connection for connection in self._waiting if not connection.writing())
        return next(idle, None) or next(iter(self._waiting), None)

    def unread(self) -> list[Connection]:
        """Return those whose answer has not been read yet."""
        return [connection for connection in self._waiting if connection.writing()]

    def stalled(self, now: float) -> list[Connection]:
        """Return those whose answer has lain unread for too long; to be asked every few seconds."""
        self._unread = {connection: self._unread.get(connection, now) for connection in self.unread()}
        return [peer for peer, since in self._unread.items() if now - since >= self.unread_timeout]
