"""The composition root: builds readers, probes and the HTTP server from settings, and runs them."""

from __future__ import annotations

import signal
import socket
import threading
import time
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_text

from celery_observe import __version__
from celery_observe.asker import Asker
from celery_observe.broker import socket_path
from celery_observe.compat import Compat
from celery_observe.errors import SettingsError
from celery_observe.exposition import Exposition, Readiness
from celery_observe.fleet import Instant
from celery_observe.guard import Guard
from celery_observe.hooks.registry import wanted
from celery_observe.labels import catalogue
from celery_observe.leader import Leader, lock_for
from celery_observe.listener import Listener
from celery_observe.logs import log
from celery_observe.metrics import CATALOGUE, observer
from celery_observe.names import first_match
from celery_observe.overview import INTERVAL, Source, Viewer
from celery_observe.page import Page
from celery_observe.probes import Prober, probes_for
from celery_observe.probes.rota import ROUND
from celery_observe.reader import Reader
from celery_observe.recorder import Recorder
from celery_observe.settings import metrics_exporter, trace_exporters
from celery_observe.state import StateFile
from celery_observe.streams.local import LocalStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.sdk.metrics.export import Metric
    from prometheus_client import Metric as Collected

    from celery_observe.delivery import Delivery
    from celery_observe.metrics import Family
    from celery_observe.otlp.points import Points
    from celery_observe.otlp.push import Push
    from celery_observe.settings import BrokerSettings, Settings
    from celery_observe.tracing.replay_export import Replay
    from celery_observe.tree import Tree


_SAVE_INTERVAL = 1.0
"""Seconds between two writes of the state file."""
_WATCHED_FOR = 30.0
"""Seconds after a request for the overview in which somebody is taken to look at it."""
_UNSEEN_TURNS = 5
"""Turns from one full view to the next while nobody looks, so that who comes finds one of the last ten seconds."""
_STOP_TIMEOUT = 1.5
"""Seconds that all readers together have to end: one that hangs in a connect is left behind."""
_LAST_WORDS = 1.0
"""Seconds that the end waits for alerts, spans and metrics that are still to be sent."""


def _is_inside(family: Family) -> bool:
    """Tell whether only instrumented processes tell of a family, or it is about ourselves."""
    return family.inside or family.name.startswith("celery_observe_")


def run(settings: Settings) -> int:
    """Observe until SIGTERM or SIGINT, and return the exit code. Raises ExpositionError, SettingsError."""
    # Unlike an event, which waits for its own lock if the signal comes while it is about to wait.
    told: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.put(number))
    pipeline = Pipeline(settings)
    pipeline.start()
    try:
        told.get()
    finally:
        pipeline.stop()
    return 0


def replayer(settings: Settings) -> type[Replay]:
    """Return what rebuilds traces. Raises SettingsError if OpenTelemetry is not installed, or set up in vain."""
    try:
        from celery_observe.tracing.replay_export import Replay  # noqa: PLC0415 - needs the extra `otel`
    except ImportError:
        raise _no_opentelemetry(settings, "replay_traces") from None
    trace_exporters()
    return Replay


def pusher(settings: Settings) -> tuple[type[Push], type[Points]]:
    """Return what pushes metrics, and what makes them. Raises SettingsError as ``replayer`` does."""
    try:
        from celery_observe.otlp.points import Points  # noqa: PLC0415 - needs the extra `otel`
        from celery_observe.otlp.push import Push  # noqa: PLC0415 - the same
    except ImportError:
        raise _no_opentelemetry(settings, "push_metrics") from None
    metrics_exporter()
    return Push, Points


def _no_opentelemetry(settings: Settings, name: str) -> SettingsError:
    return SettingsError(f"{settings.origin(name)} needs OpenTelemetry: pip install 'celery-observe[otel]'.")


class Pipeline:
    """Everything that runs in one process: for each broker a reader, an asker and a prober, and the HTTP server.

    Instrumented processes are listened to, at the address in the settings or on ``local``, instead of a broker.
    """

    def __init__(self, settings: Settings, local: LocalStream | None = None) -> None:
        self._settings = settings
        self._compat = Compat(settings.compat, settings.compat_prefix)
        self._own = Recorder(catalogue=self._compat.extend(CATALOGUE))
        self._own[observer.BUILD_INFO].set((__version__,), 1)
        self._guard = Guard(self._own.record)
        self._probers: list[Prober] = []
        self._leaders: list[Leader] = []
        self._leads: list[tuple[Recorder, Callable[[], bool]]] = []
        self._delivery = self._alerting()
        self._replays: list[Replay] = []
        self._readers = [self._reader(broker) for broker in settings.brokers]
        path = socket_path(settings.listen) if settings.listen else None
        self._local = LocalStream(path) if path else local
        self._listeners = [self._listener(self._local)] if self._local else []
        self._page = Page(self._is_served)
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)
        self._state = StateFile(settings.state_file) if settings.state_file else None
        self._viewer = Viewer(
            _now(),
            version=__version__,
            brokers=[f"{broker.name or broker.masked_url}{_share(settings)}" for broker in settings.brokers],
            flower=settings.flower_url,
        )
        self._view = b"{}"
        self._asked = 0.0
        self._stopping = threading.Event()
        self._looker = threading.Thread(target=self._look_every_two_seconds, name="overview", daemon=True)
        self._saver = threading.Thread(target=self._save_each_second, name="state-file", daemon=True)
        self.exposition = Exposition(settings, self.render, self.readiness, self.health, self.workflow, self.overview)
        self._pushes = [self._push()] if settings.push_metrics else []

    def _is_served(self, family: Family) -> bool:
        return self._settings.families == "all" or _is_inside(family)

    def _recorder(self, const_labels: dict[str, str]) -> Recorder:
        settings = self._settings
        recorder = Recorder(
            catalogue=self._compat.extend(catalogue(settings.label_names)),
            max_series=settings.max_series,
            worker_label=settings.worker_label,
            runtime_buckets=settings.runtime_buckets,
            buckets_of=first_match(settings.task_buckets),
            const_labels=const_labels,
        )
        self._compat.watch(recorder)
        return recorder

    def _alerting(self) -> Delivery | None:
        """Return what tells of alerts, None if nothing is to be told. Raises SettingsError."""
        settings = self._settings
        if not wanted(settings):
            return None
        from celery_observe.delivery import Delivery, plan  # noqa: PLC0415 - who has no alerts does without

        return Delivery(plan(settings), self._own, self._guard)

    def _push(self) -> Push:
        """Return what pushes all that is served. Raises SettingsError."""
        push, points = pusher(self._settings)
        made = points(time.time_ns(), self._is_served)
        host, pushed = socket.gethostname(), self._own[observer.PUSHED_POINTS]

        def read() -> list[Metric]:
            process: list[Collected] | None = self._guard.run("process", lambda: list(self._process.collect()))
            recorders, live = self._told()
            return made.read(recorders, process or (), live=live, now=time.time_ns())

        return push(self._settings.push_interval, read, lambda: f"{host}:{self.exposition.port}", pushed, self._guard)

    def _listener(self, stream: LocalStream) -> Listener:
        recorder = self._recorder({})
        listener = Listener(stream, self._settings, recorder, Guard(recorder.record))
        if self._delivery is not None:
            self._delivery.watch(recorder)
        return listener

    def _reader(self, broker: BrokerSettings) -> Reader:
        settings = self._settings
        recorder = self._recorder({"broker": broker.name} if len(settings.brokers) > 1 else {})
        guard = Guard(recorder.record)
        reader = Reader(broker, settings, recorder, guard)
        if settings.replay_traces:
            self._replays.append(replayer(settings)(broker, settings, recorder, guard))
        leads = self._leadership(broker, guard)
        self._leads.append((recorder, leads))
        if self._delivery is not None:
            alone = settings.probe != "leader" or settings.part is not None  # nobody else has these facts
            self._delivery.watch(recorder, (lambda: True) if alone else leads)
        if settings.remote_control:
            self._probers.append(Asker(reader, settings, guard, leads))
        if settings.probe != "off":
            probes = probes_for(broker, settings, reader)
            self._probers.append(Prober(broker.name or broker.transport, probes, recorder, guard, leads=leads))
        return reader

    def _leadership(self, broker: BrokerSettings, guard: Guard) -> Callable[[], bool]:
        """Return what says whether this process asks a broker and its workers. Raises SettingsError."""
        settings = self._settings
        if settings.probe != "leader":
            asks = settings.probe == "on" and (settings.part is None or settings.part.index == 0)
            return lambda: asks
        leader = Leader(lock_for(broker), min(settings.queue_interval, ROUND * settings.inspect_interval), guard)
        self._leaders.append(leader)
        return leader.leads

    def expect(self, worker: str) -> None:
        """Be ready only once this worker has said that it is; before the start."""
        for listener in self._listeners:
            listener.expect(worker)

    def start(self) -> None:
        """Serve first, so that there is an answer whatever the brokers do; then read. Raises ExpositionError."""
        self.exposition.start()
        log.info("serving", host=self._settings.host, port=self.exposition.port)
        if self._state is not None:
            saved = self._guard.run("state_file", self._state.load) or {}
            for reader in self._readers:
                reader.resume(saved.get(reader.broker.name, []))
            self._saver.start()
        self._looker.start()
        threads = (*self._readers, *self._listeners, *self._leaders, *self._probers, *self._senders)
        for thread in threads:
            thread.start()

    def stop(self) -> None:
        """Read what has arrived, save, and end all threads; within three seconds, whatever hangs."""
        self._stopping.set()
        for reader in self._sources:
            reader.stopping.set()
        for prober in self._probers:
            prober.stopping.set()
        for leader in self._leaders:
            leader.stopping.set()
        deadline = time.monotonic() + _STOP_TIMEOUT
        for thread in (*self._sources, *self._leaders, *self._probers):
            thread.join(max(0.0, deadline - time.monotonic()))
        # Last, since what was read at the end may be worth an alert, and is part of a trace.
        for each in self._senders:
            each.stopping.set()
        deadline = time.monotonic() + _LAST_WORDS
        for each in self._senders:
            each.join(max(0.0, deadline - time.monotonic()))
        self._save()
        self.exposition.stop()
        log.info("stopped")

    def abandon(self) -> None:
        """Close this process's copies of all sockets, in a fork; the parent goes on with its own."""
        self.exposition.abandon()
        if self._local is not None:
            self._local.abandon()

    @property
    def _senders(self) -> list[Delivery | Replay | Push]:
        alerts = [self._delivery] if self._delivery is not None else []
        return [*alerts, *self._replays, *self._pushes]

    @property
    def _sources(self) -> list[Reader | Listener]:
        return [*self._readers, *self._listeners]

    def render(self, *, openmetrics: bool = False) -> bytes:
        """Return the page of all metrics."""
        encode = openmetrics_text.generate_latest if openmetrics else generate_latest
        process: bytes | None = self._guard.run("process", lambda: encode(self._process))
        recorders, live = self._told()
        text = self._page.render(recorders, live=live, openmetrics=openmetrics)  # last, so that it tells what failed
        return text + (process or (b"# EOF\n" if openmetrics else b""))

    def _told(self) -> tuple[list[Recorder], list[bool]]:
        """Return all recorders, brought up to date, and whether what each tells of this moment can be believed."""
        self._guard.run("expiry", self._expire)
        recorders = [self._own, *(reader.recorder for reader in self._sources)]
        if self._compat.derived:
            self._guard.run("compat", lambda: self._derive(recorders))
        return recorders, [True, *(reader.live for reader in self._sources)]

    def _derive(self, recorders: Iterable[Recorder]) -> None:
        for recorder in recorders:
            self._compat.derive(recorder)

    def overview(self) -> bytes:
        """Return what the live page shows, as JSON: as it was when it was looked at last."""
        self._asked = time.monotonic()
        return self._view

    def _expire(self) -> None:
        """Drop what is too old to be told, and say whether this process asks."""
        for prober in self._probers:
            prober.expire()
        for recorder, leads in self._leads:
            recorder[observer.LEADER].set((), int(leads()))

    def workflow(self, name: str) -> Tree | None:
        """Return the tasks of a workflow, by the id of its first task or of a group; None if it is not kept."""
        found = (source.workflows.tree(name) for source in self._sources)
        return next((tree for tree in found if tree is not None), None)

    def readiness(self) -> Readiness:
        """Say whether the numbers are being kept up to date, and if not, why."""
        reasons = [reason for reader in self._sources for reason in reader.troubles()]
        return Readiness(ready=not reasons, reasons=tuple(reasons))

    def health(self) -> Readiness:
        """Say whether all threads live, and the workers that report to us are well."""
        reasons = [f"{reader.name} is dead" for reader in self._sources if reader.dead]
        threads = (*self._leaders, *self._probers, *self._senders)
        reasons += [f"{each.name} is dead" for each in threads if not each.is_alive()]
        reasons += [reason for listener in self._listeners for reason in listener.ailments()]
        return Readiness(ready=not reasons, reasons=tuple(reasons))

    def _look_every_two_seconds(self) -> None:
        for turn in count():
            self._guard.run("overview", partial(self._look, unseen=turn % _UNSEEN_TURNS == 0))
            if self._stopping.wait(INTERVAL):
                return

    def _look(self, *, unseen: bool) -> None:
        """Take a view, in full if somebody looks at the page or if it is the turn of one that is ``unseen``."""
        now = _now()
        sources = [Source(each.recorder, each.live, each.connected, each.problems) for each in self._sources]
        self._viewer.remember(now, sources)
        if unseen or now.monotonic - self._asked < _WATCHED_FOR:
            self._expire()
            own = Source(self._own, problems=self._guard.problems)
            alerts = self._delivery.firing(now.wall) if self._delivery is not None else None
            view = self._viewer.look(now, sources, own, self.readiness().reasons, alerts)
            self._view = msgspec.json.encode(view)

    def _save_each_second(self) -> None:
        while not self._stopping.wait(_SAVE_INTERVAL):
            self._save()

    def _save(self) -> None:
        state = self._state
        if state is not None:
            ledgers = {reader.broker.name: reader.ledgers() for reader in self._readers}
            self._guard.run("state_file", lambda: state.save(ledgers))


def _share(settings: Settings) -> str:
    """Return which share of a broker's tasks this process counts, for people; nothing if it counts all."""
    part = settings.part
    return f" (shard {part.index} of {part.count})" if part is not None else ""


def _now() -> Instant:
    return Instant(time.time(), time.monotonic())
