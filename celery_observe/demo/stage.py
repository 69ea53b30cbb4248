"""The demo from its first child to its last: starts them, plays the load, shows what the observers say."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator

import msgspec
from kombu.exceptions import OperationalError

from celery_observe.broker import url_problem
from celery_observe.demo import around, broker, valkey
from celery_observe.demo.around import HOW_TO_GET, Flower, Monitoring, monitoring
from celery_observe.demo.load import Load, Shop, plan
from celery_observe.demo.observer import Observer
from celery_observe.demo.opening import may_open, open_page
from celery_observe.demo.processes import LOOPBACK, Children, Pause, free_port, is_free, stoppable
from celery_observe.demo.shop import app
from celery_observe.demo.shop.routing import DEAD_LETTERS, QUEUES
from celery_observe.demo.summary import Summary, summarise
from celery_observe.demo.terminal import Terminal
from celery_observe.errors import DemoError
from celery_observe.masking import mask_text, mask_url
from celery_observe.metrics import observer, progress, queues, tasks, workers
from celery_observe.settings import environment

_APP = "celery_observe.demo.shop"
_PORT = 9808
_SEED = 1
_VISITS_PER_SECOND = 3.0
_TICK = 0.05
_READ_EVERY = 1.0
_READY_WITHIN = 90.0
_SETTLED_WITHIN = 20.0
_AGREED_WITHIN = 3.0

_INTRODUCTION = f"""
  live page  {{exporter}}/   open it in a browser

  metrics    {{exporter}}/metrics   from events, the broker and remote control
  sidecar    {{sidecar}}/metrics   what only workers and beat themselves know
  readiness  {{exporter}}/readyz
{{around}}  broker     {{broker}}
  logs       {{logs}}

What to look at in /metrics:
  {tasks.OUTCOMES.name:38} how every attempt ended, each counted once
  {tasks.FAILURES.name:38} by exception and cause, such as a time limit
  {tasks.RUNTIME.name:38} of failed, retried and terminated attempts too
  {tasks.QUEUE_WAIT.name:38} how long tasks waited once they were due
  {queues.WAITING.name:38} by priority
  {observer.TASKS_UNOBSERVED.name:38} what was missed: at 0, believe the rest
and in the sidecar's:
  {workers.RATE_LIMITED.name:38} how many tasks wait for their rate limit
  {progress.RATIO.name:38} how far those tasks are that tell it

Ctrl-C ends it.
"""


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asks for: the arguments of `celery_observe.demo.run`."""

    broker: str | None = None
    port: int | None = None
    duration: float | None = None
    flower: bool = False
    traces: bool = False
    prometheus: bool = True
    browser: bool = True


def run(wishes: Wishes) -> int:
    """Do what `celery_observe.demo.run` says."""
    given_broker = wishes.broker
    terminal = Terminal(sys.stdout)
    anywhere = wishes.port == 0  # as for one of several at once, which would all find the usual ports free
    beside = around.flower(anywhere=anywhere) if wishes.flower else None
    exporter = _exporter(wishes.port, terminal, beside)
    server = f"redis://{LOOPBACK}:{free_port()}"
    url = given_broker or f"{server}/0"
    if problem := url_problem(url):
        raise DemoError(f"--broker: {problem}")
    broker.connect(app, url)
    # Not by arguments, which every user of a machine may read of every process.
    variables = environment(CELERY_BROKER_URL=url, CELERY_RESULT_BACKEND=f"{server}/1")
    with stoppable() as pause, Children(variables) as children:
        stage = Stage(exporter=exporter, flower=beside, pause=pause, children=children, terminal=terminal)
        stage.traces = wishes.traces
        stage.anywhere = anywhere
        try:
            if stage.prepare(server, given_broker, prometheus=wishes.prometheus):
                stage.open(wanted=wishes.browser)
                stage.play(wishes.duration)
        except OperationalError as error:
            pause(1.0)  # what ran the server notices its death within half a second
            children.check()
            raise DemoError(f"the broker {mask_url(url)} does not answer: {mask_text(str(error))}") from error
    return 0


def _exporter(given_port: int | None, terminal: Terminal, flower: Flower | None) -> Observer:
    arguments = ["--app", _APP, "--queue-interval", "2", "--inspect-interval", "1"]
    arguments += ["--flower-url", flower.url] if flower is not None else []
    return Observer("exporter", arguments, port=_choose_port(given_port, terminal), asked_for=bool(given_port))


def _choose_port(given: int | None, terminal: Terminal) -> int:
    if given == 0:
        return free_port()
    wanted = given or _PORT
    if is_free(wanted):
        return wanted
    if given:
        raise DemoError(f"port {wanted} is taken: give another --port, or none to have a free one chosen")
    chosen = free_port()
    terminal.say(f"Port {wanted} is taken: the exporter gets {chosen}.")
    return chosen


class Stage:
    """One run: its children, its load, and what is shown of it."""

    def __init__(
        self, *, exporter: Observer, flower: Flower | None, pause: Pause, children: Children, terminal: Terminal
    ) -> None:
        self.traces = False
        """Whether workers and beat make spans of what they do."""
        self.anywhere = False
        """Whether any free port will do for what stands around, too."""
        self._flower = flower
        self._monitoring: Monitoring | None = None
        self._exporter = exporter
        self._socket = f"unix://{children.folder}/observe.sock"
        told = ["--listen", self._socket, "--families", "process", "--label-names", "tier"]
        self._sidecar = Observer("sidecar", told, port=free_port())
        self._observers = (self._exporter, self._sidecar)
        self._pause = pause
        self._children = children
        self._terminal = terminal

    def prepare(self, server: str, given_broker: str | None, *, prometheus: bool) -> bool:
        """Start all in the order in which they need each other, and introduce them; return False when stopped."""
        self._terminal.say("Starting a broker, an exporter, a sidecar, three workers and beat …")
        port = int(server.rpartition(":")[2])
        self._children.start("valkey", valkey.command(port, self._children.folder))
        if not self._until("a server", lambda: not is_free(port)):
            return False
        if given_broker is not None:
            broker.require_unused(app, (*QUEUES, DEAD_LETTERS))
        broker.declare(app)
        for each in self._observers:
            each.start(self._children)
        if not self._until("an exporter and a sidecar", self._sees):  # what beat sends before them, nobody has seen
            return False
        for queue in QUEUES:
            self._start(f"worker {queue}", *_worker(queue), farewell=signal.SIGQUIT)  # running tasks must not delay it
        self._start("beat", "beat", "--schedule", "schedule")
        if not self._until("an exporter that sees three workers", self._sees_workers):
            return False
        self._start_around(prometheus=prometheus)  # last: what looks on must not delay what is looked at
        if not self._until("all that stands around them", lambda: not any(map(is_free, self._ports_around))):
            return False
        self._introduce(given_broker or f"{server}/0", prometheus=prometheus)
        return True

    def open(self, *, wanted: bool) -> None:
        """Open the live page in the browser of a user who sits here."""
        if wanted and may_open(environment(), terminal=self._terminal.live):
            open_page(f"{self._exporter.url}/")

    def _start_around(self, *, prometheus: bool) -> None:
        """Start what stands around the observers, which have their ports by now."""
        folder = self._children.folder
        self._monitoring = monitoring(anywhere=self.anywhere) if prometheus else None
        if self._monitoring is not None:
            ports = [each.port for each in self._observers]
            flower_url = self._flower.url if self._flower is not None else "http://localhost:5555"
            for name, command in self._monitoring.commands(folder / "monitoring", ports, flower_url).items():
                self._children.start(name, command)
        if self._flower is not None:
            command, login = self._flower.command(_APP, folder), self._flower.login
            self._children.start("flower", command, signal.SIGTERM, FLOWER_BASIC_AUTH=login)

    def _start(self, name: str, *command: str, farewell: signal.Signals = signal.SIGTERM) -> None:
        celery = [sys.executable, "-m", "celery", "--quiet", "--app", f"{_APP}.observed"]
        full = [*celery, *command, "--loglevel", "INFO"]
        tracing = str(self.traces).lower()
        self._children.start(name, full, farewell, CELERY_OBSERVE_SIDECAR=self._socket, CELERY_OBSERVE_TRACING=tracing)

    def _until(self, name: str, ready: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _READY_WITHIN
        while time.monotonic() < deadline:
            for each in self._observers:
                each.tend(self._children)
            self._children.check()  # first, since somebody else may answer at the port of a child that could not
            if ready():
                return True
            if not self._pause(0.1):
                return False
        raise DemoError(f"there was not {name} within {_READY_WITHIN:.0f} s")

    def _sees(self) -> bool:
        return all(each.ready for each in self._observers)

    def _sees_workers(self) -> bool:
        return self._sees() and self._read(0).workers_up == len(QUEUES)

    @property
    def _ports_around(self) -> list[int]:
        """The ports of what stands around the observers."""
        monitoring, flower = self._monitoring, self._flower
        ports = [monitoring.prometheus_port, monitoring.alertmanager_port] if monitoring is not None else []
        return [*ports, flower.port] if flower is not None else ports

    def _around(self, *, prometheus: bool) -> str:
        """Return the lines of the introduction about what stands around the observers."""
        told = {}
        if self._monitoring is not None:
            told["prometheus"] = f"{self._monitoring.url}/alerts   with the shipped rules"
            told["alerts"] = f"{self._monitoring.alertmanager_url}   Alertmanager"
        elif prometheus:
            told["prometheus"] = HOW_TO_GET
        if self._flower is not None:
            told["flower"] = f"{self._flower.url}   user demo, password {self._flower.password}"
        return "".join(f"  {name:10} {text}\n" for name, text in told.items())

    def _introduce(self, url: str, *, prometheus: bool) -> None:
        self._terminal.say(
            _INTRODUCTION.format(
                exporter=self._exporter.url,
                sidecar=self._sidecar.url,
                around=self._around(prometheus=prometheus),
                broker=mask_url(url),
                logs=self._children.folder,
            )
        )

    def play(self, duration: float | None) -> None:
        """Play the load and show what the observers make of it, until stopped or over and settled."""
        shop = Shop(app)
        load = Load(shop, plan(_SEED), rate=_VISITS_PER_SECOND, clock=time.monotonic)
        elapsed = self._perform(load, shop, math.inf if duration is None else duration)
        self._terminal.finish(self._agreed(shop), elapsed)

    def _perform(self, load: Load, shop: Shop, duration: float) -> float:
        """Play the load, and at its end let what is under way end too; return the time it took."""
        next_reading = elapsed = 0.0
        for elapsed in self._ticks():
            load.tick(publish=elapsed < duration)
            if elapsed >= duration:
                self._children.end("beat")
            if elapsed >= next_reading:
                next_reading = elapsed + _READ_EVERY
                self._children.check()
                summary = self._read(shop.published)
                self._terminal.show(summary, elapsed)
                if elapsed >= duration and (summary.settled or elapsed >= duration + _SETTLED_WITHIN):
                    break
        return elapsed

    def _ticks(self) -> Iterator[float]:
        start = time.monotonic()
        while self._pause(_TICK):
            yield time.monotonic() - start

    def _agreed(self, shop: Shop) -> Summary:
        """Return a last summary; to read exporter and sidecar between two publishes of workers takes some tries."""
        deadline = time.monotonic() + _AGREED_WITHIN
        while (summary := self._read(shop.published)).unaccounted and time.monotonic() < deadline:
            time.sleep(_TICK)
        return summary

    def _read(self, load: int) -> Summary:
        try:
            return summarise(self._exporter.page(), self._sidecar.page(), load)
        except DemoError:
            self._pause(_TICK)  # a child that dies stops to answer a moment before it is dead
            self._children.check()
            raise


def _worker(queue: str) -> list[str]:
    """Return the command of the worker for a queue, without what only delays the start of a small cluster."""
    slots = ["--concurrency", "4", "--prefetch-multiplier", "1"] if queue == "high" else ["--concurrency", "3"]
    return ["worker", "--queues", queue, *slots, "--hostname", f"{queue}@shop", "--without-mingle", "--without-gossip"]
