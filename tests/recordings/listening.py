"""The bodies of the event messages that pass through a broker."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import kombu

from services.rabbitmq import RabbitMQ
from services.redis import Redis

#: Takes the body of an event message, as JSON bytes.
OnBody = Callable[[bytes], None]

#: Waits shortly for the next message.
Wait = Callable[[], None]

#: The longest wait, in seconds.
PATIENCE = 0.2


def listen_to_redis(server: Redis, on_body: OnBody) -> Wait:
    """Subscribe to what kombu publishes to a fanout exchange: `/<db>.celeryev/<routing key>`."""
    subscription = server.client().pubsub(ignore_subscribe_messages=True)
    subscription.psubscribe("/0.celeryev/*")

    def wait() -> None:
        if message := subscription.get_message(timeout=PATIENCE):
            on_body(base64.b64decode(json.loads(message["data"])["body"]))

    return wait


def listen_to_rabbitmq(server: RabbitMQ, on_body: OnBody) -> Wait:
    """Bind a queue to everything that the topic exchange `celeryev` carries."""
    connection = kombu.Connection(server.url)
    exchange = kombu.Exchange("celeryev", type="topic")
    queue = kombu.Queue("celeryev.recording", exchange, routing_key="#", exclusive=True, auto_delete=True)

    def on_message(message: kombu.Message) -> None:
        on_body(message.body.encode() if isinstance(message.body, str) else bytes(message.body))

    connection.Consumer(queue, on_message=on_message, no_ack=True).consume()

    def wait() -> None:
        try:
            connection.drain_events(timeout=PATIENCE)
        except TimeoutError:
            return

    return wait
