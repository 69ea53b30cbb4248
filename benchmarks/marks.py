"""What a task costs where nothing disturbs: CPU time of the thread that executes Celery's loop, and of that of a child.

`mark` has a worker note its thread's CPU time at each message that it takes, and its child at each task that it begins.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from time import thread_time_ns
from typing import Any

from celery import Celery, signals

WINDOW = 16
"""Tasks from one mark that is used to the next: the loop takes several messages at a time."""
QUIETEST = 0.1
"""The share of windows that are held to be undisturbed."""
TELLING = "tell"


class Marks:
    """CPU times (ns) of one thread, written to a file when the task that tells has come."""

    def __init__(self, name: str) -> None:
        self._file = Path(os.environ["MARKS"]) / name
        self._marks: list[int] = []

    def add(self, task: str) -> None:
        """Note the time now."""
        self._marks.append(thread_time_ns())
        if task == TELLING:
            marks = self._marks[::WINDOW]
            self._marks = []
            costs = sorted((after - before) / WINDOW for before, after in pairwise(marks))
            self._file.write_text(json.dumps(costs[int(len(costs) * QUIETEST)]))


def mark(app: Celery) -> None:
    """Note CPU times in the worker of this app; to be called after all else that connects to signals."""

    def prepare(**_: Any) -> None:
        signals.worker_ready.connect(_mark_main, weak=False)
        signals.worker_process_init.connect(lambda **_: _mark_child(app), weak=False)

    signals.worker_init.connect(prepare, weak=False)


def _mark_main(**_: Any) -> None:
    send, marks = signals.task_received.send, Marks("main")

    def send_marked(sender: Any, request: Any) -> Any:
        marks.add(request.name)
        return send(sender=sender, request=request)

    signals.task_received.send = send_marked


def _mark_child(app: Celery) -> None:
    marks = Marks("child")
    for task in app.tasks.values():
        if task.__trace__ is not None:
            task.__trace__ = _marked(task.name, task.__trace__, marks)


def _marked(name: str, trace: Any, marks: Marks) -> Any:
    def trace_marked(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        marks.add(name)
        return trace(uuid, args, kwargs, request)

    return trace_marked
