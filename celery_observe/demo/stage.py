"""The demo from its first child to its last: starts them, plays the load, shows what the exporter says."""

from __future__ import annotations

import http.client
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator

from kombu.exceptions import OperationalError

from celery_observe.broker import url_problem
from celery_observe.demo import broker
from celery_observe.demo.load import Load, Shop, plan
from celery_observe.demo.processes import LOOPBACK, Children, Pause, free_port, is_free, stoppable
from celery_observe.demo.reading import Reading, fetch
from celery_observe.demo.shop import QUEUES, app
from celery_observe.demo.summary import Summary, summarise
from celery_observe.demo.terminal import Terminal
from celery_observe.errors import DemoError
from celery_observe.masking import mask_text, mask_url
from celery_observe.metrics import observer, tasks
from celery_observe.settings import environment

_PORT = 9808
_SEED = 1
_TASKS_PER_SECOND = 8.0
_SLOTS = {"high": 2, "default": 3, "low": 3}
_TICK = 0.05
_READ_EVERY = 1.0
_READY_WITHIN = 30.0
_SETTLED_WITHIN = 15.0

_INTRODUCTION = f"""
  metrics    {{url}}/metrics
  readiness  {{url}}/readyz
  overview   {{url}}/
  broker     {{broker}}
  logs       {{logs}}

What to look at in /metrics:
  {tasks.OUTCOMES.name:38} how every attempt ended, each counted once
  {tasks.FAILURES.name:38} by exception and cause, such as a time limit
  {tasks.RUNTIME.name:38} of failed, retried and terminated attempts too
  {tasks.QUEUE_WAIT.name:38} how long tasks waited once they were due
  {observer.TASKS_UNOBSERVED.name:38} what was missed: at 0, believe the rest

Ctrl-C ends it.
"""


def run(*, given_broker: str | None, given_port: int | None, duration: float | None) -> int:
    """Do what `celery_observe.demo.run` says."""
    terminal = Terminal(sys.stdout)
    port = _choose_port(given_port, terminal)
    url = given_broker or f"redis://{LOOPBACK}:{free_port()}/0"
    if problem := url_problem(url):
        raise DemoError(f"--broker: {problem}")
    broker.connect(app, url)
    # Not by arguments, which every user of a machine may read of every process.
    variables = environment(CELERY_BROKER_URL=url, CELERY_OBSERVE_BROKER=url)
    with stoppable() as pause, Children(variables) as children:
        stage = Stage(url=url, port=port, pause=pause, children=children, terminal=terminal)
        try:
            if stage.prepare(embedded=given_broker is None):
                stage.play(duration)
        except OperationalError as error:
            pause(1.0)  # what ran the server notices its death within half a second
            children.check()
            raise DemoError(f"the broker {mask_url(url)} does not answer: {mask_text(str(error))}") from error
    return 0


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

    def __init__(self, *, url: str, port: int, pause: Pause, children: Children, terminal: Terminal) -> None:
        self._url = url
        self._port = port
        self._pause = pause
        self._children = children
        self._terminal = terminal

    def prepare(self, *, embedded: bool) -> bool:
        """Start broker, exporter and workers, and introduce them; return False when stopped meanwhile."""
        self._terminal.say("Starting a broker, an exporter and three workers …")
        if embedded:
            port = int(self._url.rpartition(":")[2].partition("/")[0])
            self._children.start("broker", broker.command(port, self._children.folder))
            if not self._until("a broker", lambda: not is_free(port)):
                return False
        else:
            broker.require_unused(app, QUEUES)
        self._children.start("exporter", [sys.executable, "-m", "celery_observe", "run", "--port", str(self._port)])
        for queue in QUEUES:
            self._children.start(f"worker {queue}", _worker(queue), signal.SIGQUIT)  # running tasks must not delay it
        return self._until("an exporter that sees three workers", self._ready) and self._introduce()

    def _until(self, name: str, ready: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _READY_WITHIN
        while time.monotonic() < deadline:
            self._children.check()  # first, since somebody else may answer at the port of a child that could not
            if ready():
                return True
            if not self._pause(0.1):
                return False
        raise DemoError(f"there was not {name} within {_READY_WITHIN:.0f} s")

    def _ready(self) -> bool:
        """Tell whether the exporter is ready and sees every worker."""
        try:
            status, _ = fetch(LOOPBACK, self._port, "/readyz")
        except (OSError, http.client.HTTPException):
            return False
        return status == http.HTTPStatus.OK and self._read(0).workers_up == len(QUEUES)

    def _introduce(self) -> bool:
        self._terminal.say(
            _INTRODUCTION.format(
                url=f"http://{LOOPBACK}:{self._port}",
                broker=mask_url(self._url),
                logs=self._children.folder,
            )
        )
        return True

    def play(self, duration: float | None) -> None:
        """Play the load and show what the exporter makes of it, until stopped or over and settled."""
        load = Load(Shop(app), plan(_SEED), rate=_TASKS_PER_SECOND, clock=time.monotonic)
        elapsed = self._perform(load, math.inf if duration is None else duration)
        self._terminal.finish(self._read(load.published.total()), elapsed)

    def _perform(self, load: Load, duration: float) -> float:
        """Play the load; return the time it took."""
        next_reading = elapsed = 0.0
        for elapsed in self._ticks():
            load.tick(publish=elapsed < duration)
            if elapsed >= next_reading:
                next_reading = elapsed + _READ_EVERY
                self._children.check()
                summary = self._read(load.published.total())
                self._terminal.show(summary, elapsed)
                if elapsed >= duration and (summary.settled or elapsed >= duration + _SETTLED_WITHIN):
                    break
        return elapsed

    def _ticks(self) -> Iterator[float]:
        start = time.monotonic()
        while self._pause(_TICK):
            yield time.monotonic() - start

    def _read(self, load: int) -> Summary:
        try:
            status, text = fetch(LOOPBACK, self._port, "/metrics")
        except (OSError, http.client.HTTPException) as error:
            self._pause(_TICK)  # a child that dies stops to answer a moment before it is dead
            self._children.check()
            raise DemoError(f"the exporter does not answer: {error}") from error
        if status != http.HTTPStatus.OK:
            raise DemoError(f"the exporter answers /metrics with status {status}")
        return summarise(Reading(text), load)


def _worker(queue: str) -> list[str]:
    """Return the command of the worker for a queue, without what only delays the start of a small cluster."""
    celery = [sys.executable, "-m", "celery", "--quiet", "-A", "celery_observe.demo.shop", "worker"]
    slots = ["--queues", queue, "--concurrency", str(_SLOTS[queue]), "--hostname", f"{queue}@shop"]
    return [*celery, *slots, "--task-events", "--without-mingle", "--without-gossip", "--loglevel", "INFO"]
