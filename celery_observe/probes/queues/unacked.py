"""The messages that workers hold, by queue, out of the one hash that all queues of a Redis database share. Pure.

An entry never changes under its tag, so it is read once and remembered until it is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from celery_observe.probes.queues.messages import Delivery, delivery_of


class Held(msgspec.Struct):
    """How many messages workers hold, by queue."""

    in_flight: Counter[str] = msgspec.field(default_factory=Counter)
    scheduled: Counter[str] = msgspec.field(default_factory=Counter)
    late: Counter[str] = msgspec.field(default_factory=Counter)
    """Scheduled, and due only after their visibility timeout."""
    unattributed: int = 0
    doubtful: set[str] = msgspec.field(default_factory=set)
    """Queues that some of the unattributed messages may be of."""


class Unacked:
    """What is known of the messages in ``unacked``."""

    def __init__(self, visibility_timeout: float, queues_of: Callable[[str, str], Collection[str]]) -> None:
        self._visibility_timeout = visibility_timeout
        self._queues_of = queues_of
        self._known: dict[bytes, Delivery | None] = {}

    def unread(self, tags: Mapping[bytes, float]) -> list[bytes]:
        """Forget the entries that are gone, and return those of these tags whose entries were not read yet."""
        for tag in self._known.keys() - tags.keys():
            del self._known[tag]
        return [tag for tag in tags if tag not in self._known]

    def read(self, entries: Iterable[tuple[bytes, float, bytes | None]]) -> None:
        """Take in entries: tag, time of delivery, and the value; None if it has been acknowledged meanwhile."""
        self._known.update((tag, delivery_of(raw, at)) for tag, at, raw in entries if raw is not None)

    def held(self, now: float) -> Held:
        """Sum up."""
        held = Held()
        known = [delivery for delivery in self._known.values() if delivery is not None]
        held.unattributed = len(self._known) - len(known)
        routes = Counter((each.exchange, each.routing_key, self._state(each, now)) for each in known)
        for (exchange, routing_key, state), count in routes.items():
            queues = self._queues_of(exchange, routing_key)
            if len(queues) == 1:
                _add(held, next(iter(queues)), count, *state)
            else:
                held.unattributed += count
                held.doubtful.update(queues)
        return held

    def _state(self, delivery: Delivery, now: float) -> tuple[bool, bool]:
        """Say whether a message waits for its ETA, and whether that is too late."""
        due = delivery.due
        if due is None or due <= now:
            return False, False
        return True, due > delivery.at + self._visibility_timeout


def _add(held: Held, queue: str, count: int, scheduled: bool, late: bool) -> None:  # noqa: FBT001  a state, not options
    (held.scheduled if scheduled else held.in_flight)[queue] += count
    held.late[queue] += count * late
