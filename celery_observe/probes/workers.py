"""Asks workers over remote control: what they execute and hold, which queues they consume, and to send task events.

Events alone cannot tell what was under way before we came. The questions of one enquiry leave together and in order, so
that a worker which is told to send events says afterwards what it had received before.

Celery's own ``app.control`` publishes over a pool of connections that a stalled broker blocks for ever, and opens a
connection and a reply queue for each question; here an enquiry is one connection, bounded in time, and one reply queue,
deleted after it. The protocol is that of ``kombu/pidbox.py``.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from kombu import Consumer, Producer, Queue
from kombu.exceptions import KombuError

from celery_observe.app import celery_app
from celery_observe.broker import AMQP, REDIS
from celery_observe.errors import ProbeError
from celery_observe.event import Snapshot, snapshot
from celery_observe.logs import log
from celery_observe.masking import mask_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from celery_observe.broker import BrokerSettings

_CONNECT_TIMEOUT = 2.0
"""Seconds that connecting may take."""
_IO_TIMEOUT = 3.0
"""Seconds that the broker may take for anything else."""


class Answers(NamedTuple):
    """What workers have answered: what each does, and why it cannot send task events (None: it does)."""

    snapshots: list[Snapshot]
    enabled: dict[str, str | None]


class WorkersProbe:
    """Questions to the workers of one broker. Blocks for as long as workers have to answer; not for the reader."""

    def __init__(self, broker: BrokerSettings, timeout: float, clock: Callable[[], float] = time.time) -> None:
        self._app = celery_app(broker)
        self._broker = broker
        self._timeout = timeout
        self._clock = clock
        self._address = str(uuid.uuid4())
        """Where replies go: the same for each enquiry, so that a late one waits for the next to clear it away."""

    def ask(self, workers: Collection[str] | None = None, *, enable_events: bool = False) -> Answers:
        """Ask these workers, or all, what they execute, hold and consume; tell them to send task events if asked to.

        Returns as soon as ``workers`` have answered; all of them have the whole timeout. Raises ProbeError.
        """
        asked = self._clock()
        tell = ("enable_events",) if enable_events else ()
        replies = self._enquire((*tell, "active", "reserved", "active_queues"), workers)
        enabled = {name: _refusal(reply) for name, reply in replies.get("enable_events", {}).items()}
        found = []
        for worker, requests in replies["active"].items():
            reserved, queues = replies["reserved"].get(worker, ()), replies["active_queues"].get(worker)
            try:
                found.append(snapshot(worker, asked, requests, reserved, queues))
            except (msgspec.ValidationError, AttributeError, TypeError, KeyError) as error:
                log.warning("worker gave an answer that Celery does not give", worker=worker, error=str(error)[:200])
        return Answers(found, enabled)

    def _enquire(self, commands: Sequence[str], workers: Collection[str] | None) -> Mapping[str, dict[str, Any]]:
        connection = self._app.connection_for_write(
            connect_timeout=_CONNECT_TIMEOUT, transport_options=_timeouts(self._broker.transport)
        )
        errors = (*connection.connection_errors, *connection.channel_errors, OSError, KombuError)
        try:
            with connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
                return self._broadcast(connection, commands, workers)
        except errors as error:
            reason = mask_text(str(error)) or type(error).__name__
            raise ProbeError(f"{self._broker.masked_url}: workers cannot be asked: {reason}") from error

    def _broadcast(
        self, connection: Any, commands: Sequence[str], workers: Collection[str] | None
    ) -> Mapping[str, dict[str, Any]]:
        channel = connection.default_channel
        exchange = self._app.control.mailbox.reply_exchange
        queue = Queue(
            f"{self._address}.{exchange.name}", exchange, self._address, durable=False, exclusive=True, auto_delete=True
        )(channel)
        inbox = _Inbox(commands)
        consumer = Consumer(
            channel,
            [queue],
            no_ack=True,
            accept=self._broker.accept_content,
            callbacks=[inbox.take],
            on_decode_error=lambda _message, error: log.warning("answer of a worker refused", error=str(error)[:200]),
        )
        deadline = time.monotonic() + self._timeout
        with consumer:
            self._publish(channel, inbox.tickets, workers)
            while not inbox.complete(workers) and (left := deadline - time.monotonic()) > 0:
                try:
                    connection.drain_events(timeout=left)
                except TimeoutError:
                    break
        queue.delete()
        return inbox.replies

    def _publish(self, channel: Any, tickets: Mapping[str, str], workers: Collection[str] | None) -> None:
        mailbox = self._app.control.mailbox
        producer = Producer(channel, auto_declare=False, serializer=mailbox.serializer)
        for ticket, command in tickets.items():
            message = {
                "method": command,
                "arguments": {},
                "destination": None if workers is None else sorted(workers),
                "pattern": None,
                "matcher": None,
                "ticket": ticket,
                "reply_to": {"exchange": mailbox.reply_exchange.name, "routing_key": self._address},
            }
            headers = {"clock": mailbox.clock.forward(), "expires": self._clock() + self._timeout}
            producer.publish(message, exchange=mailbox.exchange.name, declare=[mailbox.exchange], headers=headers)


class _Inbox:
    """The replies to the commands of one enquiry: command → worker → reply."""

    def __init__(self, commands: Sequence[str]) -> None:
        self.tickets = {str(uuid.uuid4()): command for command in commands}
        self.replies: dict[str, dict[str, Any]] = {command: {} for command in commands}

    def take(self, body: Any, message: Any) -> None:
        """Note one reply; those that came too late for the enquiry before are dropped."""
        command = self.tickets.get(message.headers.get("ticket"))
        if command is not None and isinstance(body, dict):
            self.replies[command].update(body)

    def complete(self, workers: Collection[str] | None) -> bool:
        """Say whether all of these workers have answered all commands."""
        return workers is not None and all(replies.keys() >= set(workers) for replies in self.replies.values())


def _refusal(reply: Any) -> str | None:
    """Return why a command failed; Celery says so of workers without -E, heartbeats and gossip."""
    if isinstance(reply, dict) and "ok" in reply:
        return None
    return mask_text(str(reply.get("error", reply) if isinstance(reply, dict) else reply))[:200]


def _timeouts(transport: str) -> dict[str, Any]:
    """Return the transport options without which a broker that stalls would block for ever."""
    if transport in REDIS:
        return {"socket_timeout": _IO_TIMEOUT, "socket_connect_timeout": _CONNECT_TIMEOUT}
    if transport in AMQP:
        return {"read_timeout": _IO_TIMEOUT, "write_timeout": _IO_TIMEOUT}
    return {}
