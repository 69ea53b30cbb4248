"""What a walk through the keys of a Redis database finds: tables of bindings, dead letters, orphans. Pure.

The walk goes on from one round to the next, a bounded number of keys at a time, and begins anew at its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from celery_observe.probes.queues.names import QueueNames

_BINDINGS = "_kombu.binding."
_MAX_FOUND = 10_000
"""Keys of one kind that are kept, at the most."""
_GLOB = re.compile(r"([*?\[\]\\])")


class Keyspace:
    """What was found in the last whole walk and in the one under way."""

    def __init__(self, names: QueueNames, prefix: str, endings: Iterable[str] = ()) -> None:
        self._names = names
        self._prefix = prefix
        self._ending = re.compile("|".join(f"{re.escape(ending)}$" for ending in endings))
        """What tells the key of a step of priority from the name of its queue."""
        self.pattern = _GLOB.sub(r"\\\1", prefix) + "*"
        """What the keys of this broker match."""
        self.cursor = 0
        """Where to go on."""
        self.orphans: int | None = None
        """Keys of event receivers and of replies at the last whole walk; None before its end."""
        self._orphans: set[str] = set()
        self._exchanges: tuple[set[str], set[str]] = (set(), set())
        self._lists: tuple[set[str], set[str]] = (set(), set())

    def exchanges(self) -> list[str]:
        """Return the exchanges that have bindings."""
        return sorted(set().union(*self._exchanges))

    def lists(self) -> set[str]:
        """Return the queues that are named like a dead-letter queue."""
        return set().union(*self._lists)

    def key_of(self, exchange: str) -> str:
        """Return the key of an exchange's bindings."""
        return f"{self._prefix}{_BINDINGS}{exchange}"

    def forget(self, exchange: str) -> None:
        """Drop an exchange that has no bindings any more."""
        for found in self._exchanges:
            found.discard(exchange)

    def take(self, cursor: int, keys: Iterable[bytes]) -> bool:
        """Take in the keys of one step and the cursor of the next; say whether the walk is at its end."""
        for key in keys:
            self._sort(key.decode(errors="replace").removeprefix(self._prefix))
        self.cursor = cursor
        if cursor:
            return False
        self.orphans, self._orphans = len(self._orphans), set()
        self._exchanges = self._exchanges[1], set()
        self._lists = self._lists[1], set()
        return True

    def _sort(self, key: str) -> None:
        exchange = key.removeprefix(_BINDINGS)
        if exchange != key:
            if not self._names.is_internal_exchange(exchange):
                _keep(self._exchanges[1], exchange)
        elif self._names.is_event_or_mailbox(key):
            _keep(self._orphans, key)
        elif self._names.is_dead_letter(key):
            _keep(self._lists[1], self._ending.sub("", key))


def _keep(found: set[str], name: str) -> None:
    if len(found) < _MAX_FOUND:
        found.add(name)
