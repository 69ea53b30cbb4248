"""Which queue a message was for, by the bindings that kombu's Redis transport keeps. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PARTS = 3


class Binding(NamedTuple):
    """One member of ``_kombu.binding.<exchange>``: routing key, pattern, queue (`Channel._queue_bind`)."""

    routing_key: str
    pattern: str
    queue: str

    def takes(self, routing_key: str) -> bool:
        """Whether messages with this routing key go to the queue; a pattern is there for a topic exchange."""
        try:
            return bool(re.match(self.pattern, routing_key)) if self.pattern else self.routing_key == routing_key
        except re.error:
            return False


class Bindings:
    """The bindings of all exchanges of one broker."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._tables: dict[str, tuple[Binding, ...]] = {}

    def update(self, exchange: str, members: Iterable[bytes]) -> None:
        """Replace the bindings of one exchange."""
        parts = (member.decode(errors="replace").split(self._separator) for member in members)
        self._tables[exchange] = tuple(Binding(*part) for part in parts if len(part) == _PARTS)

    def forget(self, exchange: str) -> None:
        """Drop an exchange that is no more."""
        self._tables.pop(exchange, None)

    def queues(self) -> set[str]:
        """Return all queues that are bound to an exchange."""
        return {binding.queue for table in self._tables.values() for binding in table}

    def queues_of(self, exchange: str, routing_key: str) -> set[str]:
        """Return the queues that a message sent this way went to; the default exchange means the queue by its name."""
        found = {binding.queue for binding in self._tables.get(exchange, ()) if binding.takes(routing_key)}
        return found or {routing_key}
