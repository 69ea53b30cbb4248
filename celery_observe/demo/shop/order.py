"""What an order is. It travels in messages, so it is plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, cast


class Order(TypedDict):
    """One order of one customer."""

    number: int
    customer: str
    tier: str
    """`gold` or `standard`: gold comes first in its queue."""
    value: int
    """In euros."""
    lines: list[str]
    """The articles, each a separate line."""
    card: str
    city: str


def order_in(arguments: Sequence[Any] | None) -> Order | None:
    """Return the order among the arguments of a task, if there is one."""
    orders = (each for each in arguments or () if isinstance(each, dict) and "number" in each)
    return cast("Order | None", next(orders, None))
