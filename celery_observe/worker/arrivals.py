"""The messages that a worker has taken and not told of yet, counted by what they have in common.

The main thread counts, another one tells. A counter is advanced in one step of the interpreter, and read by advancing
it too, so that nothing is counted twice or forgotten, and nobody waits. A message is counted when it comes, while all
that it says is still in the processor's caches.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from celery_observe.report import MOST_ARRIVALS, Arrival
from celery_observe.worker.queues import queue_names
from celery_observe.worker.reporter import reporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    Kind = tuple[str, tuple[Any, ...]]
    """The task, and what ``delivery_info`` says."""

_MOST_KINDS = 10_000

_SAID = ("exchange", "routing_key", "priority", "redelivered")
"""All that the ``delivery_info`` of a request says (``celery/worker/request.py: Request.__init__``)."""
said_by = itemgetter(*_SAID)
"""Returns what a ``delivery_info`` says."""


class Arrivals(dict["Kind", "count[int]"]):
    """A counter for each kind of message."""

    def __init__(self) -> None:
        super().__init__()
        self._full: deque[tuple[Kind, count[int]]] = deque()
        """Counters that have made room for others, and are not advanced any more."""
        self._told: dict[count[int], int] = {}
        """By counter, what it would have said when it was last read if nothing had come since."""

    def __missing__(self, kind: Kind) -> count[int]:
        if len(self) >= _MOST_KINDS and not self._full:
            full = list(self.items())
            self.clear()  # before the other thread may find them in both places
            self._full.extend(full)
        counter = count()
        if len(self) < _MOST_KINDS:
            self[kind] = counter
        else:
            reporter.dropped += 1
        return counter

    def add(self, name: str, delivery: dict[str, Any]) -> None:
        """Count a message for a task; ``next(arrivals[name, said_by(delivery)])`` does for those that Celery made."""
        try:
            next(self[name, said_by(delivery)])
        except (KeyError, TypeError):  # a message that Celery did not make
            next(self[name, _plain(delivery or {})])

    def take(self) -> list[Arrival]:
        """Return what has come since the last time; from another thread."""
        found: list[Arrival] = []
        while self._full:
            kind, counter = self._full.popleft()
            found += self._new(kind, counter)
            del self._told[counter]
        for kind, counter in list(self.items()):
            found += self._new(kind, counter)
        return found

    def _new(self, kind: Kind, counter: count[int]) -> Iterator[Arrival]:
        number = next(counter)
        more = number - self._told.get(counter, 0)
        self._told[counter] = number + 1
        while more > 0:
            yield _arrival(*kind, min(more, MOST_ARRIVALS))
            more -= MOST_ARRIVALS


def _plain(delivery: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(each if isinstance(each, str | int) else None for each in map(delivery.get, _SAID))


def _arrival(name: str, said: tuple[Any, ...], number: int) -> Arrival:
    exchange, routing_key, priority, redelivered = said
    octet = priority if isinstance(priority, int) and 0 <= priority <= 255 else None  # noqa: PLR2004 - an octet
    return Arrival(name, queue_names[exchange, routing_key], octet, bool(redelivered), number)


arrivals = Arrivals()
"""Those of this process."""
