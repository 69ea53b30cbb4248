"""Which queues to ask about: what was found, less what is none of the user's."""

from __future__ import annotations

import re
from collections.abc import Iterable

from celery_observe.broker import BrokerSettings
from celery_observe.names import first_match
from celery_observe.settings import Settings

MAX_QUEUES = 5000
"""Queues asked about at the most."""
_PATTERN = re.compile(r"[*?[]")
_MAILBOX = re.compile(r".*\.pidbox")
_BROADCAST = re.compile(r"bcast\.[0-9a-f-]{36}")
_DELAYED = re.compile(r"(?:(?P<prefix>.+)_)?celery_delayed_\d+")


class QueueNames:
    """The rules for names: the settings ``queue``, ``queue_deny`` and ``dead_letter``, and the app's queues."""

    def __init__(self, broker: BrokerSettings, settings: Settings) -> None:
        named = [name for name in (*settings.queue, *settings.dead_letter) if not _PATTERN.search(name)]
        allow = dict.fromkeys((*settings.queue, *settings.dead_letter), True) if settings.queue else {"*": True}
        self._allowed = first_match(allow)
        self._denied = first_match(dict.fromkeys(settings.queue_deny, True))
        self._dead = first_match(dict.fromkeys(settings.dead_letter, True))
        self._event_queue = f"{broker.event_queue_prefix}."
        self._event_exchange = broker.event_exchange
        self.declared = {name for name in (*named, *broker.queues) if self.is_wanted(name)}
        """The queues that the settings or the app name: they are shown even if nothing else tells of them."""

    def is_wanted(self, name: str) -> bool:
        """Whether to show this queue."""
        return bool(name and self._allowed(name) and not self._denied(name) and not self.is_internal(name))

    def is_dead_letter(self, name: str) -> bool:
        """Whether a queue holds what failed for good, and no worker is expected to consume it."""
        return bool(self._dead(name))

    def is_internal(self, name: str) -> bool:
        """Whether a queue carries Celery's own talk, delays messages for others, or is one worker's for broadcasts."""
        return (
            self.is_event_or_mailbox(name)
            or name.startswith("amq.")
            or _DELAYED.fullmatch(name) is not None
            or _BROADCAST.fullmatch(name) is not None
        )

    def is_event_or_mailbox(self, name: str) -> bool:
        """Whether a queue is an event receiver's, a worker's for remote control, or one for replies."""
        return name.startswith(self._event_queue) or _MAILBOX.fullmatch(name) is not None

    def is_internal_exchange(self, name: str) -> bool:
        """Whether an exchange carries events or remote control."""
        return name == self._event_exchange or _MAILBOX.fullmatch(name) is not None

    def select(self, found: Iterable[str]) -> list[str]:
        """Return the queues to ask about: those declared, and those found that are wanted; bounded."""
        others = sorted({name for name in found if self.is_wanted(name)} - self.declared)
        return [*sorted(self.declared), *others][:MAX_QUEUES]


def delay_prefix(name: str) -> str | None:
    """Return the prefix of one of Celery's delayed queues, empty if it has none; None for another queue.

    As kombu's `native_delayed_delivery.py`: ``celery_delayed_<n>`` or ``<prefix>_celery_delayed_<n>``.
    """
    match = _DELAYED.fullmatch(name)
    return (match["prefix"] or "") if match else None
