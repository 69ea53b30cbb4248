"""What the live page costs its exporter: CPU of a view and of remembering, memory, size of the answer.

python benchmarks/overview.py
"""

from __future__ import annotations

import time
import tracemalloc

import msgspec

from celery_observe.fleet import Instant
from celery_observe.metrics import queues, tasks, workers
from celery_observe.overview import Source, Viewer
from celery_observe.recorder import Recorder

SIZES = ((20, 3), (200, 50), (1000, 500))
"""Tasks and workers."""
TURNS = 10
OUTCOMES = ("succeeded", "failed", "retried")


def world(task_count: int, worker_count: int) -> Recorder:
    """Return what an exporter knows that has seen all of them."""
    recorder = Recorder()
    for task in (f"package.task{number}" for number in range(task_count)):
        recorder[tasks.PUBLISHED].increase((task, "q"))
        recorder[tasks.FAILURES].increase((task, "q", "ValueError", "exception"))
        for outcome in OUTCOMES:
            recorder[tasks.OUTCOMES].increase((task, "q", outcome), 5)
            recorder[tasks.RUNTIME].observe((task, "q", outcome), 0.2)
    of_workers = (workers.UP, workers.SLOTS, workers.ACTIVE, workers.LAST_HEARTBEAT, workers.PROCESSED, workers.STALLED)
    for worker in (f"worker{number}@host" for number in range(worker_count)):
        recorder[workers.INFO].set((worker, "5.7.0", "prefork"), 1)
        for family in of_workers:
            recorder[family].set((worker,), 1)
    for number in range(50):
        recorder[queues.WAITING].set((f"queue{number}", "0"), 1)
    return recorder


def measure(task_count: int, worker_count: int) -> str:
    """Return a line of results."""
    sources, own = [Source(world(task_count, worker_count))], Source(Recorder())
    viewer = Viewer(Instant(0, 0), version="1", brokers=["redis://h"], flower=None)

    def look(at: float) -> bytes:
        return msgspec.json.encode(viewer.look(Instant(at, at), sources, own, [], None))

    tracemalloc.start()
    for turn in range(400):
        viewer.remember(Instant(turn * 2, turn * 2), sources)
        if turn % 30 == 0:
            look(turn * 2)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    began = time.process_time()
    for turn in range(TURNS):
        viewer.remember(Instant(1000 + turn * 4, 1000 + turn * 4), sources)
    remembered = time.process_time()
    sizes = [len(look(2000 + turn * 2)) for turn in range(TURNS)]
    looked = time.process_time()
    return (
        f"{task_count:6} {worker_count:8} {(looked - remembered) / TURNS * 1000:9.2f} "
        f"{(remembered - began) / TURNS * 1000:13.2f} {kept / 1e6:8.1f} {sizes[-1]:9}"
    )


if __name__ == "__main__":
    print(" tasks  workers   view ms   remember ms  kept MB     bytes")
    for size in SIZES:
        print(measure(*size))
