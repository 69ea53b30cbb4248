"""The load: what customers and staff do to the shop, at a steady rate, the same for the same seed."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import msgspec
from celery import Celery, Signature, group, signals

from celery_observe.demo.shop import app, catalogue, fulfilment, limits, messages, reports
from celery_observe.demo.shop.order import Order


class Call(msgspec.Struct, frozen=True):
    """One task or canvas to publish, and what happens to it afterwards. Times are in seconds."""

    signature: Signature
    countdown: float | None = None
    """From its publication to its ETA."""
    expires: float | None = None
    """From its publication to its expiry."""
    revoke_after: float | None = None
    """From its publication to its revocation."""
    terminate: bool = False
    """Whether the revocation ends it when it runs."""


class Visit(msgspec.Struct, frozen=True):
    """What is done for an order, by which calls differ, and what is special about both."""

    wanted: Callable[[Order], Signature]
    order: dict[str, Any] = {}
    options: dict[str, Any] = {}


def _remind(order: Order) -> Signature:
    return messages.remind.s(order["customer"])


def _export_thrice(order: Order) -> Signature:
    """Return what an impatient customer does; those with gold need not wait behind others."""
    queue = "high" if order["tier"] == "gold" else "default"
    return group([limits.export.si(order["customer"]).set(queue=queue) for _ in range(3)])


MIX = (
    (5, Visit(fulfilment.fulfil)),
    (2, Visit(fulfilment.fulfil, {"value": 700})),
    (1, Visit(fulfilment.fulfil, {"city": "Atlantis"})),
    (1, Visit(fulfilment.fulfil, {"card": "busy"})),
    (1, Visit(fulfilment.fulfil, {"card": "dead"})),
    (1, Visit(fulfilment.fulfil, {"lines": ["book", "sold out"]})),
    (1, Visit(fulfilment.fulfil, {"city": "Llanfairpwll"})),
    (1, Visit(_remind, options={"countdown": 1.5})),
    (1, Visit(_remind, options={"countdown": 2.0, "expires": 1.0})),
    (1, Visit(_remind, options={"countdown": 4.0, "revoke_after": 0.5})),
    (2, Visit(lambda _: catalogue.resize.s("chair"))),
    (1, Visit(lambda _: catalogue.resize.s("broken"))),
    (1, Visit(lambda _: catalogue.import_feed.s(100))),
    (1, Visit(lambda _: catalogue.import_feed.s(5000), options={"revoke_after": 2.0, "terminate": True})),
    (1, Visit(lambda _: catalogue.refresh_all())),
    (1, Visit(lambda _: catalogue.convert_all())),
    (1, Visit(lambda _: catalogue.convert_in_chunks())),
    (1, Visit(lambda _: messages.announce(f"c{customer}" for customer in range(12)))),
    (1, Visit(lambda _: messages.limit.s("5/s"))),
    (1, Visit(lambda _: messages.limit.s("10/s"))),
    (1, Visit(lambda _: group([limits.reorder.s("lamp") for _ in range(4)]))),
    (1, Visit(_export_thrice)),
    (1, Visit(lambda _: reports.report())),
    (1, Visit(lambda _: app.signature("legacy.sync"))),
)
"""One round of the load: how often each visit comes in it. Whatever can happen, happens once a round."""


def plan(seed: int) -> Iterator[Call]:
    """Yield calls without end: round after round of MIX, each shuffled, of other customers."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    numbers = itertools.count(1)
    while True:
        visits = [visit for copies, visit in MIX for _ in range(copies)]
        rng.shuffle(visits)
        for visit in visits:
            order = _order(next(numbers), rng) | visit.order
            yield Call(visit.wanted(cast("Order", order)), **visit.options)


def _order(number: int, rng: random.Random) -> dict[str, Any]:
    return {
        "number": number,
        "customer": f"c{rng.randrange(1000)}",
        "tier": rng.choice(("gold", "standard")),
        "value": rng.randrange(5, 400),
        "lines": rng.sample(catalogue.ARTICLES, rng.randint(1, len(catalogue.ARTICLES))),
        "card": "good",
        "city": "Delft",
    }


class Counterpart(Protocol):
    """Where the load goes."""

    def publish(self, call: Call) -> str:
        """Publish a task; return its id."""

    def revoke(self, uuid: str, *, terminate: bool) -> None:
        """Call a task off."""


class Shop:
    """The counterpart that is a Celery app."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.published = 0
        """Messages: those of a group are several, those that workers add to a workflow are not among them."""
        signals.after_task_publish.connect(self._count)

    def _count(self, **_: Any) -> None:
        self.published += 1

    def publish(self, call: Call) -> str:
        """Publish a task; return its id. Raises kombu's OperationalError when the broker is gone."""
        options = {"countdown": call.countdown, "expires": call.expires}
        given = {name: seconds for name, seconds in options.items() if seconds is not None}
        return str(call.signature.apply_async(**given).id)

    def revoke(self, uuid: str, *, terminate: bool) -> None:
        """Tell every worker not to run a task, or to end it."""
        self._app.control.revoke(uuid, terminate=terminate)


class Load:
    """Plays a plan against a counterpart, as often as `tick` is called."""

    def __init__(
        self, counterpart: Counterpart, calls: Iterator[Call], *, rate: float, clock: Callable[[], float]
    ) -> None:
        self._counterpart = counterpart
        self._calls = calls
        self._gap = 1 / rate
        self._clock = clock
        self._next = clock()
        self._revocations: list[tuple[float, str, bool]] = []

    def tick(self, *, publish: bool = True) -> None:
        """Publish and revoke all that is due; only revoke without `publish`."""
        while publish and self._next <= self._clock():
            self._publish(next(self._calls))
            self._next += self._gap
        while self._revocations and self._revocations[0][0] <= self._clock():
            _, uuid, terminate = heapq.heappop(self._revocations)
            self._counterpart.revoke(uuid, terminate=terminate)

    def _publish(self, call: Call) -> None:
        uuid = self._counterpart.publish(call)
        if call.revoke_after is not None:
            heapq.heappush(self._revocations, (self._clock() + call.revoke_after, uuid, call.terminate))
