"""Asks workers over remote control: what they execute and hold, which queues they consume, and to send task events.

Events alone cannot tell what was under way before we came. Each question is one broadcast; questions that go together
are asked side by side, since a broadcast waits its whole timeout for workers that never answer.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from kombu.exceptions import KombuError

from celery_observe.app import celery_app
from celery_observe.errors import ProbeError
from celery_observe.event import Snapshot, snapshot
from celery_observe.masking import mask_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from celery_observe.broker import BrokerSettings

_CONNECT_ALLOWANCE = 2.0
"""Seconds that connecting may take beside the time that workers have to answer."""

log = structlog.get_logger()


class WorkersProbe:
    """Questions to the workers of one broker. Blocks for as long as workers have to answer; not for the reader."""

    def __init__(self, broker: BrokerSettings, timeout: float, clock: Callable[[], float] = time.time) -> None:
        self._app = celery_app(broker)
        self._broker = broker
        self._timeout = timeout
        self._clock = clock

    def snapshots(self, workers: Collection[str] | None = None) -> list[Snapshot]:
        """Ask these workers, or all, what they execute, hold and consume. Raises ProbeError."""
        asked = self._clock()
        active, reserved, queues = self._ask(("active", "reserved", "active_queues"), workers)
        found = []
        for worker, requests in active.items():
            try:
                found.append(snapshot(worker, asked, requests, reserved.get(worker, ()), queues.get(worker)))
            except (msgspec.ValidationError, AttributeError, TypeError, KeyError) as error:
                log.warning("worker gave an answer that Celery does not give", worker=worker, error=str(error)[:200])
        return found

    def enable_events(self, workers: Collection[str] | None = None) -> set[str]:
        """Ask these workers, or all, to send task events; return those that said they do. Raises ProbeError."""
        (replies,) = self._side_by_side([lambda connection: self._enable(connection, workers)])
        return set(replies)

    def _enable(self, connection: Any, workers: Collection[str] | None) -> dict[str, Any]:
        replies = self._app.control.enable_events(
            reply=True, timeout=self._timeout, connection=connection, **_destination(workers)
        )
        return {name: reply for each in replies or () for name, reply in each.items() if "ok" in reply}

    def _ask(self, questions: Sequence[str], workers: Collection[str] | None) -> list[dict[str, Any]]:
        def ask(question: str) -> Callable[[Any], dict[str, Any]]:
            def inquire(connection: Any) -> dict[str, Any]:
                inspect = self._app.control.inspect(
                    timeout=self._timeout, connection=connection, **_destination(workers)
                )
                return getattr(inspect, question)() or {}

            return inquire

        return self._side_by_side([ask(question) for question in questions])

    def _side_by_side(self, calls: Sequence[Callable[[Any], dict[str, Any]]]) -> list[dict[str, Any]]:
        """Run each call on a connection and a thread of its own; a thread that hangs is left behind."""
        inquiries = [_Inquiry(self._app, call) for call in calls]
        for inquiry in inquiries:
            inquiry.start()
        deadline = time.monotonic() + self._timeout + _CONNECT_ALLOWANCE
        for inquiry in inquiries:
            inquiry.join(max(0.0, deadline - time.monotonic()))
        failed = next((inquiry for inquiry in inquiries if inquiry.replies is None), None)
        if failed is not None:
            reason = mask_text(str(failed.error)) if failed.error else "no answer from the broker in time"
            raise ProbeError(f"{self._broker.masked_url}: workers cannot be asked: {reason}")
        return [inquiry.replies or {} for inquiry in inquiries]


class _Inquiry(threading.Thread):
    """One broadcast and its replies; ``replies`` stays None if it failed."""

    def __init__(self, app: Any, call: Callable[[Any], dict[str, Any]]) -> None:
        super().__init__(name="inquiry", daemon=True)
        self._app = app
        self._call = call
        self.replies: dict[str, Any] | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Connect once, ask, collect."""
        connection = self._app.connection_for_write(connect_timeout=_CONNECT_ALLOWANCE)
        errors = (*connection.connection_errors, *connection.channel_errors, OSError, KombuError)
        try:
            with connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
                self.replies = self._call(connection)
        except errors as error:
            self.error = error


def _destination(workers: Collection[str] | None) -> dict[str, list[str]]:
    return {} if workers is None else {"destination": sorted(workers)}
