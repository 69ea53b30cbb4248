"""The broker of the demo: which one its app uses, whether that is free to be used, and its queues."""

from __future__ import annotations

from collections.abc import Iterator

from celery import Celery
from kombu.connection import Connection

from celery_observe.errors import DemoError


def connect(app: Celery, url: str) -> None:
    """Make an app use this broker and no other, and no backend for results, which it would subscribe to.

    Passing a connection instead would not do: remote control publishes through the pool of the app all the same
    (`celery/app/control.py`), and Celery lets the environment outweigh the configuration (`celery/app/utils.py`).

    Raises:
        DemoError: the environment names another broker.
    """
    app.backend_cls = "cache+memory://"
    app.conf.update(broker_read_url=url, broker_write_url=url)
    if {app.conf.broker_read_url, app.conf.broker_write_url} != {url}:
        raise DemoError("CELERY_BROKER_READ_URL or CELERY_BROKER_WRITE_URL names another broker: unset them")


def require_unused(app: Celery, queues: tuple[str, ...]) -> None:
    """Refuse a broker on which the demo's workers would take someone else's messages, or have theirs taken.

    Raises:
        DemoError: one of the queues has messages waiting, or a worker consumes it.
        kombu.exceptions.OperationalError: the broker cannot be reached.
    """
    with app.connection_for_write(connect_timeout=5) as connection:
        connection.ensure_connection(max_retries=1, reraise_as_library_errors=True)
        used = {*_consumed(app), *_waiting(connection, queues)}.intersection(queues)
    if used:
        raise DemoError(
            f"queues of this broker are in use: {', '.join(sorted(used))}. The demo would take their "
            "messages: give it the URL of an empty database or virtual host"
        )


def declare(app: Celery) -> None:
    """Make the queues of an app, that of dead letters too, to which nobody may ever publish.

    RabbitMQ tells nothing of a queue that is not there. Raises kombu's OperationalError.
    """
    with app.connection_for_write(connect_timeout=5) as connection:
        connection.ensure_connection(max_retries=1, reraise_as_library_errors=True)
        for queue in app.amqp.queues.values():
            queue(connection.default_channel).declare()


def _consumed(app: Celery) -> Iterator[str]:
    replies = app.control.inspect(timeout=0.5).active_queues() or {}
    return (queue["name"] for queues in replies.values() for queue in queues)


def _waiting(connection: Connection, queues: tuple[str, ...]) -> Iterator[str]:
    for queue in queues:
        with connection.channel() as channel:
            try:
                declared = channel.queue_declare(queue, passive=True)
            except connection.channel_errors:  # there is no such queue
                continue
            if declared.message_count:
                yield queue
