"""Whose the messages in RabbitMQ's delayed queues are, by bindings and events. Pure.

A delayed message travels through queues called ``celery_delayed_<n>`` to the exchange ``celery_delayed_delivery``, from
there to the exchange it was meant for, and so to its queue (kombu, `native_delayed_delivery.py`). Only its
routing key says to which; RabbitMQ would have to hand it out for us to read that, and thereby reorder it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

_TOLERANCE = 10
"""Events and broker may differ by one message in so many: they are read one after the other."""


class Binding(msgspec.Struct):
    """One binding as the management API describes it."""

    source: str
    destination: str
    destination_type: str
    routing_key: str


class Delays:
    """Where delayed messages end up."""

    def __init__(self, bindings: Iterable[Binding]) -> None:
        self._exchanges: dict[str, set[str]] = {}
        self._queues: dict[str, set[str]] = {}
        for each in bindings:
            found = self._exchanges if each.destination_type == "exchange" else self._queues
            if each.routing_key.startswith("#"):
                found.setdefault(each.source, set()).add(each.destination)

    def targets(self, prefix: str) -> set[str]:
        """Return the queues that delayed messages of this prefix can be for."""
        delivery = f"{prefix}_celery_delayed_delivery" if prefix else "celery_delayed_delivery"
        exchanges = self._exchanges.get(delivery, ())
        return {queue for exchange in exchanges for queue in self._queues.get(exchange, ())}


def scheduled(
    total: int, targets: Collection[str], waiting: Mapping[str, Sequence[float]], now: float
) -> dict[str, int] | None:
    """Return how many of `total` delayed messages are for each of the `targets`; None if that cannot be told.

    All are, where there is one target only. Else events tell, if the tasks that publishers have announced for later
    are about as many as there are delayed messages.
    """
    if len(targets) == 1 or not total:
        return dict.fromkeys(targets, total)
    announced = {queue: sum(due > now for due in waiting.get(queue, ())) for queue in targets}
    return announced if abs(sum(announced.values()) - total) <= total // _TOLERANCE else None
