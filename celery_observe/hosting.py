"""The pipeline of one worker: in a thread of its main process, or in a process apart that a green worker starts.

Green pools (gevent, eventlet) replace what threads are made of: a lock that a thread of ours holds, be it that of an
import, would end the worker as soon as a greenlet waits for it, and an event loop of ours would be in the way of the
tasks'. So there the pipeline runs as ``python -m celery_observe.hosting``, which gets the reading end of the socket as
a file descriptor and the settings on standard input, and ends when that is closed, as the worker's death does too.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from celery_observe import logs
from celery_observe.errors import CeleryObserveError, PortTakenError, SettingsError
from celery_observe.hooks.registry import wanted
from celery_observe.logs import log
from celery_observe.pipeline import Pipeline, pusher
from celery_observe.settings import GRPC, Settings, metrics_exporter
from celery_observe.streams.local import LocalStream

if TYPE_CHECKING:
    from collections.abc import Sequence

PORTS = 16
"""How many ports from the one that is set are tried: several workers of a host share a configuration."""

# Its state cannot be forked while it is used: half the spans that children send over it would be lost (seen so).
_FORKED = "gRPC does not go with children that are forked: set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/protobuf"


class Order(msgspec.Struct):
    """What a process apart is told."""

    worker: str
    settings: Settings


def prepare(settings: Settings) -> None:
    """Import what alerts and pushes need: in the main thread, before an import may be under way as a child is forked.

    Such a child may wait for it forever. What is wrong with the settings is told by ``serve``.
    """
    if wanted(settings):
        from celery_observe.delivery import plan  # noqa: PLC0415 - who has no alerts does without

        with suppress(SettingsError):
            plan(settings)
    if settings.push_metrics:
        with suppress(SettingsError):
            pusher(settings)


def serve(worker: str, settings: Settings, reading: socket.socket, *, forks: bool = False) -> Pipeline | None:
    """Start the pipeline on the first free port from that of the settings on; None, and logged, if that fails.

    ``forks`` says that this process goes on to fork children.
    """
    settings = _as_it_can_push(worker, settings, forks=forks)
    first = settings.port
    stream = LocalStream(reading)
    for port in range(first, first + PORTS) if first else (0,):
        try:
            pipeline = Pipeline(msgspec.structs.replace(settings, port=port, brokers=(), listen=None), stream)
            pipeline.expect(worker)
            pipeline.start()
        except PortTakenError:
            continue
        except CeleryObserveError as error:
            log.error("no metrics are served", worker=worker, error=str(error))
            return None
        url = f"http://{settings.host}:{pipeline.exposition.port}/metrics"
        taken = {"taken": first} if port != first else {}
        log.warning("metrics are served", worker=worker, url=url, **taken)
        return pipeline
    log.error("no metrics are served: all ports are taken", worker=worker, first=first, last=first + PORTS - 1)
    return None


def serve_as_guest(worker: str, settings: Settings, reading: socket.socket) -> Pipeline | None:
    """Start the pipeline in a process that is not ours, and log as that does."""
    logs.be_hosted()
    return serve(worker, settings, reading, forks=True)


def _as_it_can_push(worker: str, settings: Settings, *, forks: bool) -> Settings:
    """Leave pushes out that cannot be made, and log why: the page is served all the same."""
    refusal = _refusal(settings, forks=forks) if settings.push_metrics else None
    if refusal is None:
        return settings
    log.error("no metrics are pushed", worker=worker, error=refusal)
    return msgspec.structs.replace(settings, push_metrics=False)


def _refusal(settings: Settings, *, forks: bool) -> str | None:
    """Return why metrics cannot be pushed from here."""
    try:
        pusher(settings)
    except SettingsError as error:
        return str(error)
    return _FORKED if forks and metrics_exporter() == GRPC else None


def main(arguments: Sequence[str]) -> None:
    """Serve until standard input is closed; ``arguments`` is the file descriptor to read reports from."""
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    settings = order.settings
    logs.configure(settings.log_level, settings.logs if settings.logs != "off" else settings.log_format)
    pipeline = serve(order.worker, settings, socket.socket(fileno=int(arguments[0])))
    if pipeline is not None:
        sys.stdin.buffer.read()
        pipeline.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
