"""Which queue a message came from or goes to, by the exchange and routing key that Celery tells instead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_REMEMBERED = 10_000


class QueueNames(dict[tuple[str | None, str | None], str | None]):
    """Exchange and routing key, empty or None → name of the queue, None where several or none would take the message.

    The default exchange routes by the name of the queue (AMQP 0-9-1, 3.1.3.1), and is what Celery uses for queues of
    direct exchanges (``celery/app/amqp.py: send_task_message``). For others the bindings of the queues that the app
    declares say.
    """

    def __init__(self) -> None:
        super().__init__()
        self._queues: list[Any] = []

    def declare(self, queues: Iterable[Any]) -> None:
        """Know these ``kombu.Queue``; before the pool forks."""
        self._queues = list(queues)
        self.clear()

    def of(self, delivery: dict[str, Any] | None) -> str | None:
        """Return the queue of a message with this ``delivery_info``."""
        info = delivery or {}
        return self[info.get("exchange") or "", info.get("routing_key") or ""]

    def __missing__(self, key: tuple[str | None, str | None]) -> str | None:
        if len(self) >= _REMEMBERED:
            self.clear()
        exchange, routing_key = key[0] or "", key[1] or ""
        name: str | None = routing_key or None
        if exchange:
            found = {queue.name for queue in self._queues if _takes(queue, exchange, routing_key)}
            name = found.pop() if len(found) == 1 else None
        self[key] = name
        return name


def _takes(queue: Any, exchange: str, routing_key: str) -> bool:
    bindings = queue.bindings or [queue]
    return any(
        getattr(binding.exchange, "name", None) == exchange
        and _matches(binding.exchange.type, binding.routing_key or "", routing_key)
        for binding in bindings
    )


def _matches(kind: str, pattern: str, routing_key: str) -> bool:
    if kind == "fanout":
        return True
    if kind != "topic":
        return pattern == routing_key
    expression = re.escape(pattern).replace(r"\.\#", r"(\..*)?").replace(r"\#", ".*").replace(r"\*", r"[^.]+")
    return re.fullmatch(expression, routing_key) is not None


queue_names = QueueNames()
"""The one of this process and its children."""
