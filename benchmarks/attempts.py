"""What spans cost where a task executes: CPU of Celery's tracer with nothing, OpenTelemetry's instrumentation, or ours.

PYTHONPATH=tests python benchmarks/attempts.py

No broker and no pool, so what is compared is all there is. Each contestant is a process of its own; they take turns,
and of each the best batch counts. worker.py has the whole worker, whose noise is larger than the difference.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery
from celery.app.trace import build_tracer
from consumers import DEFAULT_CACHE, HERE, OURS, peers
from contestants import BARE, OPENTELEMETRY, TRACED
from kombu.utils.imports import symbol_by_name

MEASURES = {
    BARE: "",
    OPENTELEMETRY: "spans:start",
    OURS: "celery_observe:instrument",
    TRACED: "spans:observe",
}
BATCH = 200
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def nothing() -> None:
    """Do nothing."""


def execute_with(measure: str) -> None:
    """Print the CPU microseconds of a task for each batch that a line on standard input asks for."""
    app = Celery("measured", broker="memory://", backend="disabled")
    task = app.task(name="nothing", ignore_result=True)(nothing)
    if measure:
        symbol_by_name(measure)()
    drain = _listen() if measure in {MEASURES[OURS], MEASURES[TRACED]} else lambda: None
    trace = build_tracer("nothing", task, app=app)
    for _ in sys.stdin:
        before = time.thread_time()
        for _ in range(BATCH):
            request = _request()
            trace(request["id"], (), {}, request)
        print((time.thread_time() - before) / BATCH * 1e6, flush=True)
        drain()


def _listen() -> Callable[[], None]:
    """Have reports sent to a socket, as in a worker's child, and return what reads them."""
    from celery_observe.streams.local import pair  # noqa: PLC0415 - the bare contestant does without
    from celery_observe.worker.reporter import reporter  # noqa: PLC0415 - likewise

    reading, writing = pair()
    reporter.hostname = "worker@host"
    reporter.write_to(writing)
    return partial(_drain, reading)


def _drain(reading: Any) -> None:
    try:
        while True:
            reading.recv(1 << 20)
    except BlockingIOError:
        return


def _request() -> dict[str, Any]:
    """A message as a child of the pool gets it."""
    task_id, now = str(uuid.uuid4()), time.time()
    return {
        "id": task_id,
        "task": "nothing",
        "root_id": task_id,
        "retries": 0,
        "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False},
        "hostname": "worker@host",
        "is_eager": False,
        "celery_observe_published": round(1e6 * (now - 0.1)),
        "celery_observe_received": now - 0.05,
        "traceparent": TRACEPARENT,
    }


def main() -> int:
    """Measure, and print the table and the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=40, help=f"of {BATCH} tasks, of each contestant")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the bar is broken")
    parser.add_argument("--execute", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.execute is not None:
        execute_with(arguments.execute)
        return 0
    peers(DEFAULT_CACHE)
    best = _contest(arguments.batches)
    print("| spans by | µs per task | adds |", "|---|---:|---:|", sep="\n")
    for name, spent in best.items():
        print(f"| {name} | {spent:.1f} | {spent - best[BARE]:.1f} |")
    alone = (best[TRACED] - best[OURS]) / (best[OPENTELEMETRY] - best[BARE])
    both = (best[TRACED] - best[BARE]) / (best[OPENTELEMETRY] - best[BARE])
    print(
        f"\nof what OpenTelemetry's adds: our spans {alone:.2f}, at most 1 promised; with all else of ours {both:.2f}"
    )
    return int(arguments.check and alone > 1)


def _contest(batches: int) -> dict[str, float]:
    """The best batch of each."""
    site = next((DEFAULT_CACHE / "peers").glob("lib/python*/site-packages"))
    environment = {**os.environ, "PEERS": str(site), "OTEL_TRACES_EXPORTER": "none", "CELERY_OBSERVE_PORT": "0"}
    running = {
        name: subprocess.Popen(
            [sys.executable, str(HERE / "attempts.py"), "--execute", measure],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for name, measure in MEASURES.items()
    }
    best = dict.fromkeys(running, float("inf"))
    for _ in range(batches):
        for name, process in running.items():
            best[name] = min(best[name], _batch(process))
    for process in running.values():
        process.communicate()
    return best


def _batch(process: subprocess.Popen[str]) -> float:
    if process.stdin is None or process.stdout is None:
        raise TypeError
    print(file=process.stdin, flush=True)
    return float(process.stdout.readline())


if __name__ == "__main__":
    sys.exit(main())
