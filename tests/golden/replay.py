"""Play a recording through the pipeline, by the clock of the recording, and return the page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from celery_observe import gauges
from celery_observe.chronicle import Chronicle
from celery_observe.event import Decoder, Malformed
from celery_observe.fact import EventMalformed, Polled, Step, Traced
from celery_observe.fleet import Fleet, Instant
from celery_observe.metrics import CATALOGUE, Family
from celery_observe.page import Page
from celery_observe.recorder import Recorder
from celery_observe.shard import Shard
from celery_observe.tracing.replay import Span, spans_of
from celery_observe.tracker import Tracker
from celery_observe.workflow import Workflows
from services.exporter import Samples

RECORDINGS = Path(__file__).parents[1] / "recordings"
BOUNDS = (1.0,)
"""One bucket bound, in seconds, instead of the many of the catalogue, so that a golden page can be read."""
SETTLE = 2
"""Ticks after the last message: facts that wait for the name of a queue are out by then."""


def recordings() -> list[Path]:
    """All recordings: ``<version>/<pool>/<scenario>.jsonl``."""
    return sorted(RECORDINGS.glob("*/*/*.jsonl"))


class Replay:
    """The pipeline without threads and sockets; ``play`` a recording, ``wait``, and look at the page."""

    def __init__(self, worker_timeout: float = 300.0, *, traces: bool = False, shard: Shard | None = None) -> None:
        self.recorder = Recorder(catalogue=map(_readable, CATALOGUE))
        self.recorder.start_at_zero()
        tell = self.recorder.record if shard is None else shard.of_own_workers(self.recorder.record, lambda _fact: None)
        self.fleet = Fleet(tell, worker_timeout)
        self.spans: list[Span] = []
        """What is rebuilt of traces, if they are."""
        chronicle = Chronicle(self.recorder.record) if traces else None
        self.recorder.also(Traced, lambda traced: self.spans.extend(spans_of(traced, {})))
        self.tracker = Tracker(self.recorder.record, self.fleet, chronicle=chronicle, shard=shard)
        self.workflows = Workflows(self.recorder.record, quiet=1.0)
        follow, poll = self.workflows.follow, self.workflows.poll
        self.recorder.also(Step, follow if shard is None else shard.of_own_workflows(follow))
        self.recorder.also(Polled, poll if shard is None else shard.of_own_workflows(poll))
        self.now = 0.0
        self._decoder = Decoder(self._malformed, shard)

    def play(self, recording: Path) -> Replay:
        """Handle each message at the time at which it arrived."""
        return self.hear(_messages(recording))

    def hear(self, messages: Iterable[tuple[float, bytes]]) -> Replay:
        """Handle these bodies at these times."""
        for at, body in messages:
            if not self.now:
                self.now = at
                self.tracker.connected(Instant(at, at))
            while self.now + 1.0 <= at:
                self.wait(1)
            for event in self._decoder.decode([body]):
                self.tracker.handle(event, Instant(at, at))
                gauges.write_lag(self.recorder, event, self.fleet.get(event.hostname), at)
        return self.wait(SETTLE)

    def wait(self, seconds: int) -> Replay:
        """Let this much time pass without a message."""
        for _ in range(seconds):
            self.now += 1.0
            self.tracker.tick(Instant(self.now, self.now))
            self.workflows.tick(self.now)
            gauges.write(self.recorder, self.tracker, self.now)
            gauges.write_workflows(self.recorder, self.workflows)
        return self

    def page(self) -> str:
        """Return the page as it is served."""
        return Page().render([self.recorder], live=[True]).decode()

    def samples(self) -> Samples:
        """Return the page, parsed."""
        return Samples.parse(self.page())

    def _malformed(self, reason: Malformed) -> None:
        self.recorder.record(EventMalformed(reason))


def _messages(recording: Path) -> Iterator[tuple[float, bytes]]:
    for line in recording.read_text().splitlines()[1:]:
        message = json.loads(line)
        yield message["at"], json.dumps(message["body"]).encode()


def _readable(family: Family) -> Family:
    return msgspec.structs.replace(family, buckets=BOUNDS) if family.buckets else family
