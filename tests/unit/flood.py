"""Floods the pipeline, in a process of its own, and prints what it took: `python flood.py tasks [flower …]`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery_observe import gauges
from celery_observe.compat import Compat
from celery_observe.event import Event
from celery_observe.fleet import Fleet, Instant
from celery_observe.metrics import CATALOGUE, observer
from celery_observe.page import Page
from celery_observe.recorder import Recorder
from celery_observe.testing import EPOCH
from celery_observe.tracker import Tracker

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
TICK = 10_000
"""Events a second."""
SOME_TIME = 25_000
"""Events after which memory is measured."""
LONG = 100
"""Characters of a name that is made up."""


def said(type_: str, at: float, hostname: str, uuid: str | None = None, **fields: Any) -> Event:
    """What one process says."""
    return Event(type=type_, timestamp=at, hostname=hostname, uuid=uuid, pid=1, **fields)


def tasks() -> Iterator[Event]:
    """A million tasks that never end: a quarter of them run, the others are only sent."""
    for number in range(250_000):
        uuid, at = f"00000000-0000-4000-8000-{number:012}", EPOCH + number / TICK
        yield said("task-received", at, "w@h", uuid, name=f"t{number % 20}")
        yield said("task-started", at, "w@h", uuid)
        for part in range(3):
            yield said("task-sent", at, "gen@h", f"sent-{part}-{uuid}", name="t", queue="q")


def workers() -> Iterator[Event]:
    """Thousands of workers a second, of names that nobody had before."""
    for number in range(60_000):
        name, at = f"celery@pod-{number}", EPOCH + number / TICK
        yield said("worker-online", at, name, freq=2.0, active=0, processed=0, sw_ver="5.7.0")
        yield said("task-received", at, name, str(number % 1_000), name="t")
        yield said("task-started", at, name, str(number % 1_000))


def names() -> Iterator[Event]:
    """A producer that makes up tasks, queues, exceptions and types of events."""
    for number in range(100_000):
        uuid, at, made_up = str(number), EPOCH + number / TICK, f"{number:0{LONG}}"
        yield said("task-sent", at, "gen@h", uuid, name=f"t{made_up}", queue=f"q{made_up}")
        yield said("task-received", at, "w@h", uuid, name=f"t{made_up}")
        yield said("task-started", at, "w@h", uuid)
        yield said("task-failed", at, "w@h", uuid, exception=f"E{made_up}('no')")
        yield said(f"x{made_up}", at, "w@h", uuid)


def resident() -> float:
    """Megabytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_SIZE / 1e6


class House:
    """The pipeline after the decoder, with the bounds of the settings, and the families of these exporters too."""

    def __init__(self, *peers: str) -> None:
        compat = Compat(peers)
        self.recorder = Recorder(catalogue=compat.extend(CATALOGUE))
        compat.watch(self.recorder)
        self.fleet = Fleet(self.recorder.record, worker_timeout=1.0)
        self.tracker = Tracker(self.recorder.record, self.fleet)
        self.page = Page()
        self.clock = Instant(EPOCH, 0.0)

    def flood(self, events: Iterator[Event]) -> Iterator[dict[str, float]]:
        """Handle events, and tell from time to time what that takes."""
        for number, event in enumerate(events, 1):
            self.tracker.handle(event, self.clock)
            if number % TICK == 0:
                self.clock = Instant(self.clock.wall + 1, self.clock.monotonic + 1)
                self.tracker.tick(self.clock)
                gauges.write(self.recorder, self.tracker, self.clock.wall)
            if number % SOME_TIME == 0:
                yield self.measure()

    def measure(self) -> dict[str, float]:
        """What is kept, and served."""
        page = len(self.page.render([self.recorder], live=[True]))
        series = self.recorder.series.values()
        return {
            "resident": resident(),
            "page": page / 1e6,
            "tracked": len(self.tracker),
            "workers": len(list(self.fleet)),
            "series": max(len(each.values) + len(each.histograms) for each in series),
            "overflow": sum(self.recorder[observer.SERIES_OVERFLOW].values.values()),
            "evicted": sum(self.recorder[observer.TRACKER_EVICTIONS].values.values()),
        }


if __name__ == "__main__":
    flood = {"tasks": tasks, "workers": workers, "names": names}[sys.argv[1]]()
    print(json.dumps(list(House(*sys.argv[2:]).flood(flood))))
