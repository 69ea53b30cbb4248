"""Pours events into a broker, encoded beforehand so that the broker and the reader alone set the pace.

The bytes are what Celery's own dispatcher makes a broker carry: for Redis the envelope is recorded from it at
the start, for RabbitMQ py-amqp writes the frames.
"""

from __future__ import annotations

import base64
import json
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import amqp
import redis
from amqp.method_framing import frame_writer
from amqp.serialization import dumps
from celery import Celery
from corpus import EXCHANGE, PATTERN, Message, size
from kombu.utils.url import parse_url

from services.rabbitmq import RabbitMQ
from services.redis import Redis

BLOCK_MESSAGES = 50
PATIENCE_MILLISECONDS = 60_000  # RabbitMQ holds back a fast publisher by not reading from it


class Block(NamedTuple):
    """Some messages as the bytes that publish them."""

    data: bytes
    messages: int
    tasks: int  # task events
    workers: int  # worker events


class Feed(Protocol):
    """A publisher at one broker."""

    def encode(self, corpus: Iterable[Message]) -> Iterator[Block]:
        """The bytes that publish these messages."""

    def listeners(self) -> int:
        """How many are subscribed to the events (RabbitMQ: 1 if any)."""

    def pour(self, blocks: Iterable[Block], pace: float = 0) -> None:
        """Publish, at `pace` events a second if it is not 0, and return when the broker has taken all."""

    def close(self) -> None:
        """Hang up."""


def block(messages: list[Message], data: bytes) -> Block:
    """These messages and their bytes."""
    return Block(data, len(messages), *size(messages))


def in_blocks(corpus: Iterable[Message]) -> Iterator[list[Message]]:
    """The messages in lists of `BLOCK_MESSAGES`."""
    rest = iter(corpus)
    while messages := list(islice(rest, BLOCK_MESSAGES)):
        yield messages


def paced(blocks: Iterable[Block], pace: float) -> Iterator[Block]:
    """The blocks, held back to `pace` events a second."""
    due = time.monotonic()
    for item in blocks:
        if pace:
            time.sleep(max(0.0, due - time.monotonic()))
            due += (item.tasks + item.workers) / pace
        yield item


class RedisFeed:
    """Publishes at a Redis, as the pub/sub messages of kombu's fanout exchange."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._template = record_envelope(url, self._client)
        self._connection = self._client.connection_pool.get_connection()

    def encode(self, corpus: Iterable[Message]) -> Iterator[Block]:
        """`PUBLISH` commands in the Redis protocol."""
        for messages in in_blocks(corpus):
            yield block(messages, b"".join(map(self._publish, messages)))

    def _publish(self, message: Message) -> bytes:
        channel = b"/0.celeryev/" + message.routing_key.encode()
        payload = self._template % {
            "body": base64.b64encode(message.body).decode(),
            "hostname": message.hostname,
            "routing_key": message.routing_key,
            "tag": uuid.uuid4(),
        }
        words = (b"PUBLISH", channel, payload.encode())
        return b"*3\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)

    def listeners(self) -> int:
        """Pattern subscriptions of all clients."""
        return int(self._client.pubsub_numpat())

    def pour(self, blocks: Iterable[Block], pace: float = 0) -> None:
        """Publish; the answers are read now and then, so that neither side's buffers fill."""
        unanswered = 0
        for item in paced(blocks, pace):
            self._connection.send_packed_command([item.data], check_health=False)
            unanswered += item.messages
            while unanswered > 100 * BLOCK_MESSAGES:
                unanswered -= self._answer()
        while unanswered:
            unanswered -= self._answer()

    def _answer(self) -> int:
        self._connection.read_response()
        return 1

    def close(self) -> None:
        """Hang up."""
        self._client.close()


def record_envelope(url: str, client: redis.Redis) -> str:
    """What Celery's event dispatcher makes kombu publish, with places to fill in by `%`."""
    app = Celery(broker=url, set_as_current=False)
    with client.pubsub() as listener, app.connection() as connection:
        listener.psubscribe(PATTERN)
        listener.get_message(timeout=5)
        dispatcher = app.events.Dispatcher(connection, hostname="a@recorded", enabled=True)
        dispatcher.send("worker-heartbeat")
        heard = listener.get_message(timeout=5)
        dispatcher.close()
    text: str = heard["data"].decode()
    envelope = json.loads(text)
    for value, place in (
        (envelope["body"], "body"),
        ("a@recorded", "hostname"),
        ("worker.heartbeat", "routing_key"),
        (envelope["properties"]["delivery_tag"], "tag"),
    ):
        text = text.replace(value, f"%({place})s")
    return text


class Recorder:
    """Takes the place of a transport, keeping what is written."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, frames: memoryview) -> None:
        """Keep these bytes."""
        self.data += frames

    def take(self) -> bytes:
        """What was written since the last time."""
        data = bytes(self.data)
        self.data.clear()
        return data


class RabbitMQFeed:
    """Publishes at a RabbitMQ, to the topic exchange of the events."""

    def __init__(self, url: str) -> None:
        parts = parse_url(url)
        self._connection = amqp.Connection(
            f"{parts['hostname']}:{parts['port']}",
            parts["userid"],
            parts["password"],
            heartbeat=0,
            socket_settings={socket.TCP_USER_TIMEOUT: PATIENCE_MILLISECONDS},
        )
        self._connection.connect()
        self._channel = self._connection.channel()
        self._channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        self._returned: list[Any] = []
        self._channel.events["basic_return"].add(lambda *returned: self._returned.append(returned))
        self._recorder = Recorder()
        self._write = frame_writer(self._connection, self._recorder)

    def encode(self, corpus: Iterable[Message]) -> Iterator[Block]:
        """`basic.publish` in AMQP frames."""
        for messages in in_blocks(corpus):
            for message in messages:
                self._publish(message)
            yield block(messages, self._recorder.take())

    def _publish(self, message: Message) -> None:
        content = amqp.Message(
            message.body,
            content_type="application/json",
            content_encoding="utf-8",
            application_headers={"hostname": message.hostname},
            delivery_mode=1,
            priority=0,
        )
        arguments = dumps("Bssbb", (0, EXCHANGE, message.routing_key, False, False))
        self._write(1, self._channel.channel_id, amqp.spec.Basic.Publish, arguments, content)

    def listeners(self) -> int:
        """1 if a message that must be routed is (an empty batch, which counts as no event), else 0."""
        self._returned.clear()
        content = amqp.Message("[]", content_type="application/json", content_encoding="utf-8")
        self._channel.basic_publish(content, EXCHANGE, "task.multi", mandatory=True)
        self._wait_taken()
        return int(not self._returned)

    def pour(self, blocks: Iterable[Block], pace: float = 0) -> None:
        """Publish; the broker holds us back by not reading."""
        for item in paced(blocks, pace):
            self._connection.transport.write(item.data)
        self._wait_taken()

    def _wait_taken(self) -> None:
        """Return when the broker has handled all that was published before: a channel is served in order."""
        self._channel.exchange_declare(EXCHANGE, "topic", passive=True)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def server_for(broker: str, folder: Path) -> Redis | RabbitMQ:
    """A server that never hangs up on a slow reader: what its reading costs is the question here."""
    if broker == "redis":
        return Redis(folder, "--client-output-buffer-limit", "pubsub 0 0 0")
    return RabbitMQ(folder)


def feed_for(url: str) -> Feed:
    """The feed for this broker."""
    return RedisFeed(url) if url.startswith("redis") else RabbitMQFeed(url)
