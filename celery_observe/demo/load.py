"""The load: what customers do to the shop, at a steady rate, the same for the same seed."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
from celery import Celery


class Call(msgspec.Struct, frozen=True):
    """One task to publish, and what happens to it afterwards. Times are in seconds."""

    task: str
    seconds: float
    """How long its work takes."""
    arguments: dict[str, Any] = {}
    countdown: float = 0.0
    """From its publication to its ETA."""
    expires: float | None = None
    """From its publication to its expiry."""
    revoke_after: float | None = None
    """From its publication to its revocation."""
    terminate: bool = False
    """Whether the revocation ends it when it runs."""


_HANGS = 60.0

MIX = (
    (9, Call("orders.validate", 0.03)),
    (1, Call("orders.validate", 0.03, {"deliverable": False})),
    (6, Call("payments.charge", 0.12)),
    (1, Call("payments.charge", 0.12, {"timeouts": 1})),
    (1, Call("payments.charge", 0.12, {"timeouts": 9})),
    (6, Call("inventory.reserve", 0.05)),
    (1, Call("inventory.reserve", 0.05, {"in_stock": False})),
    (5, Call("shipping.label", 0.2)),
    (1, Call("shipping.label", _HANGS)),
    (4, Call("mail.confirm", 0.08)),
    (3, Call("carts.remind", 0.02, countdown=1.5)),
    (1, Call("carts.remind", 0.02, countdown=2.0, expires=1.0)),
    (1, Call("carts.remind", 0.02, countdown=2.0, revoke_after=0.5)),
    (2, Call("images.resize", 0.3)),
    (1, Call("images.resize", _HANGS)),
    (1, Call("reports.daily", 1.0)),
    (1, Call("reports.daily", _HANGS, revoke_after=2.0, terminate=True)),
    (1, Call("legacy.sync", 0.01)),
)
"""One round of the load: how often each call comes in it. Whatever can happen, happens once a round."""


def plan(seed: int) -> Iterator[Call]:
    """Yield calls without end: round after round of MIX, each shuffled, with varied times of work."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    order = itertools.count(1)
    while True:
        calls = [call for copies, call in MIX for _ in range(copies)]
        rng.shuffle(calls)
        for call in calls:
            seconds = call.seconds * rng.lognormvariate(0.0, 0.35)
            arguments = {"order": next(order), "seconds": round(seconds, 4)} | call.arguments
            yield msgspec.structs.replace(call, seconds=seconds, arguments=arguments)


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

    def publish(self, call: Call) -> str:
        """Publish a task; return its id. Raises kombu's OperationalError when the broker is gone."""
        result = self._app.send_task(
            call.task, kwargs=call.arguments, countdown=call.countdown or None, expires=call.expires
        )
        return str(result.id)

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
        self.published: Counter[str] = Counter()
        """Tasks by name, retries not counted: those are the workers'."""

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
        self.published[call.task] += 1
        if call.revoke_after is not None:
            heapq.heappush(self._revocations, (self._clock() + call.revoke_after, uuid, call.terminate))
