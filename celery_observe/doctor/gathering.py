"""Gathers the evidence: reads, and changes nothing. Everything is bounded in time and size.

What is left on the broker meanwhile: the reply queue of remote control, deleted after each enquiry, and on RabbitMQ the
queue of the event reader, which goes with its connection. Neither is opened on a RabbitMQ where no worker has made
their exchanges. No task is sent, no queue of tasks is declared, no key is written.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import msgspec
from kombu.utils.url import url_to_parts

from celery_observe.broker import AMQP, REDIS, BrokerSettings
from celery_observe.connection import connect, connection_for
from celery_observe.doctor import inspection, queues, server
from celery_observe.doctor.configuration import WATCHED, conf_of
from celery_observe.doctor.evidence import App, Broker, Evidence, Heard, Worker
from celery_observe.doctor.listening import Listening
from celery_observe.errors import CeleryObserveError, ProbeError, StreamError
from celery_observe.event import Decoder, Event
from celery_observe.guard import contained
from celery_observe.masking import mask_text
from celery_observe.probes.control import timeouts
from celery_observe.settings import Settings
from celery_observe.streams import Stream, stream_for

LISTEN = 5.0
"""Seconds for which events are read: two heartbeats of each worker, which come every two."""
_STRAGGLERS = 1.0
"""Seconds that the events of what was accepted last may take."""
_READ = 0.25
_LOCAL = frozenset({"", "localhost", "127.0.0.1", "::1"})
T = TypeVar("T")


def gather(settings: Settings, celery: Any = None, *, listen: float = LISTEN) -> Evidence:
    """Return what there is to see of a system, through the broker of the settings and the user's app if given."""
    return _Gathering(settings, celery, listen).run()


class _Gathering:
    """One round. A part that fails is named in `missing`; when the broker is lost, the others fail with its reason."""

    def __init__(self, settings: Settings, celery: Any, listen: float) -> None:
        self._settings = settings
        self._broker = settings.brokers[0]
        self._celery = celery
        self._listen = listen
        self._missing: dict[str, str] = {}
        self._lost = False
        self._stop = threading.Event()

    def run(self) -> Evidence:
        app = self._part("app", self._app)
        self._part("broker", self._reach)
        with ThreadPoolExecutor(max_workers=1) as pool:
            try:
                told = self._told(pool)
            finally:
                self._stop.set()
        return Evidence(now=time.time(), broker=facts_of(self._broker), app=app, missing=self._missing, **told)

    def _told(self, pool: ThreadPoolExecutor) -> dict[str, Any]:
        """Ask while events are being read; then ask again what was accepted, and wait for the events of that."""
        observers = self._part("observers", self._observers)  # before this process becomes one
        began = time.monotonic()
        listening = self._part("heard", lambda: pool.submit(self._read, self._opened()))
        inspection_of = inspection.Inspection(self._broker, self._settings.inspect_timeout)
        workers = self._part("workers", lambda: self._inspect(inspection_of)) or ()
        beats = self._part("beats", lambda: self._beats(inspection_of))
        found = self._part("queues", lambda: queues.queues(self._broker, self._settings, workers))
        told = self._part("redis", lambda: self._redis(found)) if self._broker.transport in REDIS else None
        if listening is not None:
            wait([listening], max(0.0, self._listen - (time.monotonic() - began)))  # less if it fails
            workers = self._part("accepted", lambda: inspection_of.again(workers)) or workers
            wait([listening], _STRAGGLERS if workers else 0.0)
        heard = self._part("heard", lambda: self._heard(listening)) if listening is not None else None
        return {
            "workers": workers,
            "beats": beats or None,
            "queues": None if found is None else found.queues,
            "redis": None if told is None else msgspec.structs.replace(told.redis, orphans=found and found.orphans),
            "observers": observers,
            "heard": heard,
        }

    def _part(self, name: str, ask: Callable[[], T]) -> T | None:
        """Return one part, or None and the reason."""
        if self._lost and name != "app":
            self._missing[name] = self._missing["broker"]
            return None
        try:
            return contained(ask, lambda error: ProbeError(f"unexpected {type(error).__name__}"))
        except CeleryObserveError as error:
            self._missing[name] = str(error)
            if name == "broker" or (isinstance(error, StreamError) and name != "heard"):
                self._lost = True
                self._missing.setdefault("broker", str(error))
            return None

    def _app(self) -> App | None:
        if self._celery is None:
            raise ProbeError("no app was given: use -A")
        conf = self._celery.conf
        module = sys.modules.get("celery_observe.worker.instrumentation")  # to import it would instrument this process
        instrumented = module.in_effect() if module else None
        return App(
            conf=conf_of({name: conf[name] for name in WATCHED if name in conf}),  # older Celery has fewer
            routes=self._broker.task_queue,
            default_queue=self._broker.default_queue,
            entries=self._broker.entries,
            families=instrumented.families if instrumented else None,
        )

    def _reach(self) -> None:
        """Connect once. Raises StreamError."""
        with connection_for(self._broker, timeouts(self._broker.transport)) as connection:
            connect(connection, self._broker)

    # -- events

    def _opened(self) -> tuple[Stream, Listening]:
        self._demand(self._broker.event_exchange, "no worker has ever sent an event")
        if self._broker.transport not in REDIS | AMQP:
            raise ProbeError(f"events are not read from {self._broker.transport}, as that would declare a queue")
        listening = Listening()
        stream = stream_for(self._broker, listening.refuse)
        stream.open()
        return stream, listening

    def _read(self, opened: tuple[Stream, Listening]) -> Heard:
        """Read until told to stop; runs in a thread of its own."""
        stream, listening = opened
        decoder, began = Decoder(listening.refuse), time.monotonic()
        try:
            while not self._stop.is_set():
                bodies = stream.read(_READ)
                events = [event for event in decoder.decode(bodies) if isinstance(event, Event)]
                listening.take(events, time.time())
        finally:
            stream.close()
        return listening.heard(time.monotonic() - began)

    def _heard(self, listening: Future[Heard]) -> Heard:
        self._stop.set()
        return listening.result()

    # -- workers and queues

    def _inspect(self, asking: inspection.Inspection) -> tuple[Worker, ...]:
        self._demand(f"{self._broker.control_exchange}.pidbox", "no worker has ever connected")
        workers, note = asking.all()
        if note:
            self._missing["details"] = note
        return workers

    def _beats(self, asking: inspection.Inspection) -> int:
        self._demand(f"{self._broker.control_exchange}.pidbox", "no beat or worker has ever connected")
        return asking.beats()

    def _demand(self, exchange: str, otherwise: str) -> None:
        """Go on only where an exchange is there: to ask declares it. Raises ProbeError."""
        if self._broker.transport in AMQP and not exists(self._broker, exchange):
            raise ProbeError(f"{otherwise}: there is no exchange {exchange}")

    def _redis(self, found: queues.Queues | None) -> server.Told:
        waiting = [queue.name for queue in found.queues if queue.waiting] if found else []
        told = server.redis(self._broker, waiting)
        self._missing |= told.missing
        return told

    def _observers(self) -> int:
        if self._broker.transport in REDIS:
            return server.observers(self._broker)
        if self._broker.transport in AMQP:
            return queues.observers(self._broker, self._settings)
        raise ProbeError(f"{self._broker.transport} does not tell which exporters read events")


def exists(broker: BrokerSettings, exchange: str) -> bool:
    """Say whether a broker that speaks AMQP has an exchange, without making it. Raises StreamError."""
    connection = connection_for(broker, timeouts(broker.transport))
    connect(connection, broker)
    try:
        connection.channel().exchange_declare(exchange, type="", passive=True)
    except connection.channel_errors:
        return False
    finally:
        connection.release()
    return True


def facts_of(broker: BrokerSettings) -> Broker:
    """Return what the URL of a broker and its settings say, without passwords."""
    parts = [url_to_parts(url) for url in broker.url.split(";") if "://" in url]
    hosts = [part[1] or "" for part in parts if not is_local(part[1] or "", part[0] or "")]
    return Broker(
        url=broker.masked_url,
        transport=broker.transport,
        hosts=tuple(hosts),
        tls=bool(broker.use_ssl) or all((part[0] or "") in {"rediss", "amqps"} for part in parts),
        user=mask_text(parts[0][3] or "") if parts else "",
        has_password=bool(parts) and all(part[4] for part in parts),
    )


def is_local(host: str, scheme: str) -> bool:
    """Whether a broker runs on this machine, for all that its URL says."""
    return host in _LOCAL or host.startswith("127.") or "socket" in scheme or "/" in host
