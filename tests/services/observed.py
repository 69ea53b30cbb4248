"""A stream of the product that a test reads, and the events that a test sends for it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from celery import Celery

from celery_observe.errors import StreamError
from celery_observe.event import Malformed
from celery_observe.settings import BrokerSettings
from celery_observe.streams import Stream, stream_for
from services.waiting import PATIENCE, eventually


class Observed:
    """A stream that is open, the events read from it, and what was malformed."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.broker = BrokerSettings(url=url, **settings)
        self.malformed: list[Malformed] = []
        self.events: list[dict[str, Any]] = []
        self.stream: Stream = stream_for(self.broker, self.malformed.append)

    def read(self) -> int:
        """Read once, for a moment; the number of events there are by then."""
        for body in self.stream.read(0.05):
            read = json.loads(body)
            self.events += read if isinstance(read, list) else [read]
        return len(self.events)

    def types(self, count: int) -> list[str]:
        """The types of the events, once there are `count` of them."""
        eventually(lambda: self.read() >= count, what=f"{count} events")
        return [event["type"] for event in self.events]

    def time_to_error(self) -> tuple[float, str]:
        """Read until StreamError: the seconds that took, and what it says, which for a silent peer is `stalled`."""
        started = time.monotonic()
        while (seconds := time.monotonic() - started) < PATIENCE:
            try:
                self.read()
            except StreamError as error:
                return time.monotonic() - started, str(error)
        pytest.fail(f"no StreamError in {seconds:.1f} s")


def dispatch(broker: BrokerSettings, *types: str, **conf: Any) -> None:
    """Send events as a client of an app with the same settings does."""
    app = Celery(broker=broker.url, set_as_current=False)
    app.conf.update(
        broker_transport_options=broker.transport_options,
        broker_use_ssl=broker.use_ssl,
        event_exchange=broker.event_exchange,
        **conf,
    )
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        for number, type_ in enumerate(types):
            dispatcher.send(type_, uuid=str(number))
    app.close()


def opens(stream: Stream) -> bool:
    """Whether the stream can be opened."""
    try:
        stream.open()
    except StreamError:
        return False
    return True
