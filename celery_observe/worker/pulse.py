"""Whether the worker does its work: its loop ticks, its pool lives, it is connected and consumes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.worker import state

from celery_observe.worker.guard import harmless

if TYPE_CHECKING:
    from celery_observe.worker.children import Children

INTERVAL = 1.0
"""Seconds between two ticks."""
STUCK_AFTER = 30.0
"""Seconds without a tick after which the loop counts as stuck."""
CHILDLESS_AFTER = 10.0
"""Seconds without a child after which the pool counts as dead: it makes a new one at once, or ends the worker."""


class Pulse:
    """Felt by a timer of the consumer's own loop; read by the thread that answers probes."""

    def __init__(self, worker: Any, children: Children) -> None:
        self._worker = worker
        self._children = children
        self._consuming = False
        self._ticked = time.monotonic()
        self._childless_since: float | None = None

    def begin(self) -> None:
        """Note that the consumer has connected, and is about to enter its loop."""
        self.tick()
        self._consuming = True

    @harmless
    def tick(self) -> None:
        """Note that the loop turns."""
        self._ticked = time.monotonic()

    def end(self) -> None:
        """Note that the consumer has left its loop: its connection was lost, or the worker ends."""
        self._consuming = False

    @property
    def is_consuming(self) -> bool:
        """Whether the consumer is connected and takes messages from a queue."""
        return self._consuming and bool(self._worker.app.amqp.queues.consume_from)

    def ailments(self) -> list[str]:
        """Return why the worker should be restarted; nothing if it is well."""
        found = []
        if self._consuming and not self._is_busy and time.monotonic() - self._ticked > STUCK_AFTER:
            found.append("its loop is stuck")
        if self._is_childless():
            found.append("no child of the pool lives")
        return found

    def _is_childless(self) -> bool:
        wanted = getattr(self._worker.pool, "num_processes", 1)  # an autoscaler may have none
        if not (self._children.extinct and wanted):
            self._childless_since = None
            return False
        now = time.monotonic()
        self._childless_since = self._childless_since or now
        return now - self._childless_since > CHILDLESS_AFTER

    def troubles(self) -> list[str]:
        """Return why the worker takes no tasks; nothing if it does."""
        if not self._consuming:
            return ["not connected to the broker"]
        return [] if self.is_consuming else ["consumes no queue"]

    @property
    def _is_busy(self) -> bool:
        """Whether the loop rightly stands still: the solo pool executes tasks in it."""
        return _is_solo(self._worker.pool) and bool(state.active_requests)

    def step(self) -> type[bootsteps.StartStopStep]:
        """Return the consumer's bootstep that feels this pulse."""
        pulse = self

        class PulseStep(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
            """Ticks in the loop of the consumer while that is connected."""

            requires = ("celery.worker.consumer.tasks:Tasks",)

            _timer: Any = None

            @harmless
            def start(self, consumer: Any) -> None:
                pulse.begin()
                self._timer = consumer.timer.call_repeatedly(INTERVAL, pulse.tick)

            @harmless
            def stop(self, _consumer: Any) -> None:
                pulse.end()
                if self._timer is not None:
                    self._timer.cancel()

        return PulseStep


def _is_solo(pool: Any) -> bool:
    return type(pool).__module__ == "celery.concurrency.solo"
