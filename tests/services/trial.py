"""Workers that are sabotaged, each a fork of one process that has imported all but celery_observe, if that can be."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, Self

from apps import green
from apps.sabotaged import MESSAGE, Trial, run
from apps.sample import make_app
from services.exporter import Samples, Served
from services.ports import free_port
from services.redis import Redis
from services.waiting import eventually

PRELOADED = ("celery.apps.worker", "celery.backends.redis", "kombu.transport.redis", "tornado.httpserver", "structlog")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*PRELOADED, "prometheus_client.openmetrics.exposition", "msgspec", "apps.sabotaged"])

_afresh = multiprocessing.get_context("spawn")

KINDS = ("fail", "retry", "give_up", "ignore", "replace", "reject", "reject_once")
STORED = {"fail": "FAILURE", "retry": "SUCCESS", "give_up": "FAILURE", "replace": "SUCCESS", "reject_once": "SUCCESS"}
"""How those of them end that have a result."""
UNSERVED_AFTER = 3.0
"""Seconds after which a page that is not there says enough."""
CONF: dict[str, Any] = {
    "task_ignore_result": False,
    "result_extended": True,
    "broker_transport_options": {"polling_interval": 0.1},  # a worker that ends waits until Redis has answered
}
PLAIN = [f"plain-{number}" for number in range(5)]
"""The ids of tasks that just return something."""


class Outcome(NamedTuple):
    """What users see of a worker."""

    results: dict[str, tuple[str, str, str]]
    """Task id → name, state and result."""
    order: list[str]
    """The ids of plain tasks as they ended."""
    left: int
    """Messages that are still queued."""
    exit_code: int | None


class Guinea(Served):
    """A worker that is tried out. What it is asked to do is the same each time.

    Args:
        redis: broker and result backend; emptied first.
        trial: what is sabotaged, and how the worker is instrumented.
    """

    def __init__(self, redis: Redis, trial: Trial) -> None:
        self.port = free_port()
        self.name = trial.function
        conf = {**CONF, "result_backend": redis.url, **trial.conf}
        observed = trial.instrument is not None
        settings = {"port": self.port, "resource": True, **(trial.instrument or {})} if observed else None
        self.trial = replace(trial, instrument=settings, conf=conf)
        self.seconds = 0.0
        self._redis = redis
        self._publisher = make_app(redis.url, **conf)
        self._process = (
            _afresh.Process(target=green.run, args=(trial.pool, vars(self.trial)))
            if trial.pool in {"gevent", "eventlet"}
            else _context.Process(target=run, args=(self.trial,))
        )

    def __enter__(self) -> Self:
        """Start it."""
        self._started = time.monotonic()
        with self._redis.client() as client:
            client.flushall()
        self._process.start()
        eventually(self._is_up, 30.0, what=f"a worker is ready in {self.trial.log}")
        return self

    def __exit__(self, *_: object) -> None:
        """Be sure that it is gone, with its children, and show its log."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.join()
        self._process.close()
        self._publisher.close()
        print(self.output)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has printed."""
        return self.trial.log.read_text(errors="replace") if self.trial.log.exists() else ""

    def _is_up(self) -> bool:
        assert self._process.is_alive(), self.output
        return " ready." in self.output

    def send(self, task: str, *args: Any, **options: Any) -> None:
        """Publish a task to it."""
        self._publisher.send_task(task, args, **options)

    def work(self) -> None:
        """Have it execute tasks of all kinds, and wait until it has."""
        began = time.monotonic()
        for kind in KINDS:
            self.send(kind, task_id=kind)
        for number, task_id in enumerate(PLAIN):
            self.send("add", number, 2, task_id=task_id)
        eventually(self._has_worked, 30.0, what=f"all tasks have ended, with {self.name} sabotaged")
        self.seconds = time.monotonic() - began

    def states(self) -> dict[str, str]:
        """Task id → state, of those that have one."""
        return {meta["task_id"]: meta["status"] for meta in self._metas()}

    def _has_worked(self) -> bool:
        states = self.states()
        return all(states.get(task_id) == state for task_id, state in STORED.items()) and states.keys() >= set(PLAIN)

    def _metas(self) -> list[dict[str, Any]]:
        with self._redis.client() as client:
            found = client.mget(client.keys("celery-task-meta-*") or ["none"])
        return [json.loads(meta) for meta in found if meta is not None]

    def end(self) -> Outcome:
        """Ask it to end, and say what came of it all."""
        os.kill(self.pid, signal.SIGTERM)
        self._publisher.control.broadcast("ping")  # wakes its loop, which would sleep for a second
        self._process.join(10.0)
        metas = sorted(self._metas(), key=lambda meta: meta["date_done"])
        results = {meta["task_id"]: (meta["name"], meta["status"], json.dumps(meta["result"])) for meta in metas}
        with self._redis.client() as client:
            left = client.llen("celery")
        return Outcome(results, [each for each in results if each in PLAIN], left, self._process.exitcode)

    @property
    def is_struck(self) -> bool:
        """Whether what is sabotaged was called."""
        return self.trial.struck.exists()

    def tells(self) -> bool:
        """Whether somebody could know of what failed: from the log, or the page."""
        if MESSAGE in self.output:
            return True
        try:
            status, body = self.get("/metrics")
            page = Samples.parse(body if status == 200 else "")
            return any(page.total(name) > 0 for name in TELLING) or self.get("/readyz")[0] != 200
        except OSError:
            return time.monotonic() - self._started > UNSERVED_AFTER


TELLING = (
    "celery_observe_handler_errors_total",
    "celery_observe_plugin_errors_total",
    "celery_observe_reports_dropped_total",
    "celery_observe_events_malformed_total",
)
