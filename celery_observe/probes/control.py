"""Questions to workers over remote control, and their answers as they come.

Celery's own ``app.control`` publishes over a pool of connections that a stalled broker blocks for ever, and opens a
connection and a reply queue for each question; here an enquiry is one connection, bounded in time, and one reply queue,
deleted after it. The protocol is that of ``kombu/pidbox.py``.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu import Consumer, Producer, Queue
from kombu.exceptions import KombuError

from celery_observe.app import celery_app
from celery_observe.broker import AMQP, REDIS
from celery_observe.errors import ProbeError
from celery_observe.logs import log
from celery_observe.masking import mask_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from celery_observe.broker import BrokerSettings

_CONNECT_TIMEOUT = 2.0
"""Seconds that connecting may take."""
_IO_TIMEOUT = 3.0
"""Seconds that the broker may take for anything else."""

Replies = dict[str, dict[str, Any]]
"""What was answered: command → worker → reply."""


class Question(NamedTuple):
    """One command of ``inspect`` or ``control``, for some workers or all."""

    command: str
    workers: Collection[str] | None = None
    arguments: Mapping[str, Any] = {}
    pattern: str | None = None
    """Only for nodes whose names match this (glob), workers or not."""


class RemoteControl:
    """The mailbox of the workers of one broker. Blocks for as long as workers have to answer."""

    def __init__(self, broker: BrokerSettings, timeout: float, clock: Callable[[], float] = time.time) -> None:
        self._app = celery_app(broker)
        self._broker = broker
        self._timeout = timeout
        self._clock = clock
        self._address = str(uuid.uuid4())
        """Where replies go: the same for each enquiry, so that a late one waits for the next to clear it away."""

    def ask(self, questions: Sequence[Question], expected: Collection[str] | None = None) -> Replies:
        """Ask, together and in this order: what a worker is told to do first, it says the rest after.

        Returns as soon as whom a question is for have answered it, where it is for all: the `expected` ones. Without
        these all have the whole timeout. Raises ProbeError.
        """
        return self._enquire(_Inbox(questions, expected)).replies

    def count(self, question: Question) -> int:
        """Return how many answers came within the timeout; more than nodes, if two share a name. Raises ProbeError."""
        return self._enquire(_Inbox([question], None)).taken

    def _enquire(self, inbox: _Inbox) -> _Inbox:
        connection = self._app.connection_for_write(
            connect_timeout=_CONNECT_TIMEOUT, transport_options=timeouts(self._broker.transport)
        )
        errors = (*connection.connection_errors, *connection.channel_errors, OSError, KombuError)
        try:
            with connection:
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
                self._broadcast(connection, inbox)
        except errors as error:
            reason = mask_text(str(error)) or type(error).__name__
            raise ProbeError(f"{self._broker.masked_url}: workers cannot be asked: {reason}") from error
        return inbox

    def _broadcast(self, connection: Any, inbox: _Inbox) -> None:
        channel = connection.default_channel
        exchange = self._app.control.mailbox.reply_exchange
        queue = Queue(
            f"{self._address}.{exchange.name}", exchange, self._address, durable=False, exclusive=True, auto_delete=True
        )(channel)
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
            self._publish(channel, inbox.tickets)
            while not inbox.complete and (left := deadline - time.monotonic()) > 0:
                try:
                    connection.drain_events(timeout=left)
                except TimeoutError:
                    break
        queue.delete()

    def _publish(self, channel: Any, tickets: Mapping[str, Question]) -> None:
        mailbox = self._app.control.mailbox
        producer = Producer(channel, auto_declare=False, serializer=mailbox.serializer)
        for ticket, question in tickets.items():
            message = {
                "method": question.command,
                "arguments": dict(question.arguments),
                "destination": None if question.workers is None else sorted(question.workers),
                "pattern": question.pattern,
                "matcher": question.pattern and "glob",
                "ticket": ticket,
                "reply_to": {"exchange": mailbox.reply_exchange.name, "routing_key": self._address},
            }
            headers = {"clock": mailbox.clock.forward(), "expires": self._clock() + self._timeout}
            producer.publish(message, exchange=mailbox.exchange.name, declare=[mailbox.exchange], headers=headers)


class _Inbox:
    """The replies to the questions of one enquiry; those to nobody are not asked."""

    def __init__(self, questions: Sequence[Question], expected: Collection[str] | None) -> None:
        self.tickets = {str(uuid.uuid4()): each for each in questions if each.workers is None or each.workers}
        self.replies: Replies = {question.command: {} for question in questions}
        self.taken = 0
        """Answers."""
        self._expected = expected

    def take(self, body: Any, message: Any) -> None:
        """Note one reply; those that came too late for the enquiry before are dropped."""
        question = self.tickets.get(message.headers.get("ticket"))
        if question is not None and isinstance(body, dict):
            self.replies[question.command].update(body)
            self.taken += 1

    @property
    def complete(self) -> bool:
        """Whether all questions are answered by whom they are for."""
        return all(self._is_answered(question) for question in self.tickets.values())

    def _is_answered(self, question: Question) -> bool:
        workers = self._expected if question.workers is None else question.workers
        return workers is not None and self.replies[question.command].keys() >= set(workers)


def timeouts(transport: str) -> dict[str, Any]:
    """Return the transport options of kombu without which a broker that stalls would block for ever."""
    if transport in REDIS:
        return {"socket_timeout": _IO_TIMEOUT, "socket_connect_timeout": _CONNECT_TIMEOUT}
    if transport in AMQP:
        return {"read_timeout": _IO_TIMEOUT, "write_timeout": _IO_TIMEOUT}
    return {}
