"""Consumer CPU per event, from the broker's socket to a counted sample, as ratios in the same run.

What is measured is the CPU time (user and system, all threads) of the consumer's process from the first event
published until it has nothing left to do. The clock on the wall plays no part, so a busy machine disturbs little.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import corpus
from consumers import (
    CELERY_EXPORTER,
    CONSUMERS,
    DECODE_FLOORS,
    DEFAULT_CACHE,
    OURS,
    Consumer,
    Running,
    peers,
    quietly,
)
from feed import Block, Feed, feed_for, server_for

from services.waiting import eventually

BROKERS = ("redis", "rabbitmq")


@dataclass(frozen=True)
class Corpus:
    """Encoded events, and how many they are."""

    blocks: list[Block]
    tasks: int
    workers: int

    @classmethod
    def encoded(cls, feed: Feed, events: int, pours: int) -> list[Corpus]:
        """About so many events for each of several pours, one simulation, in the bytes of this feed's broker."""
        blocks = list(feed.encode(corpus.messages(events * pours)))
        share = -(-len(blocks) // pours)
        return [cls.of(blocks[start : start + share]) for start in range(0, len(blocks), share)]

    @classmethod
    def of(cls, blocks: list[Block]) -> Corpus:
        """These blocks."""
        return cls(blocks, sum(block.tasks for block in blocks), sum(block.workers for block in blocks))

    @property
    def events(self) -> int:
        """All events."""
        return self.tasks + self.workers


@dataclass(frozen=True)
class Run:
    """One pour into one consumer."""

    microseconds: float  # CPU per event
    lost: int | None  # in all pours since it was started; None: it does not tell
    megabytes: float


@dataclass(frozen=True)
class Result:
    """All pours into one consumer."""

    consumer: str
    best: float
    median: float
    lost: int | None  # the most in any run
    megabytes: float

    @classmethod
    def of(cls, consumer: str, runs: Sequence[Run]) -> Result:
        """Sum up these runs."""
        costs = [run.microseconds for run in runs]
        losses = [run.lost for run in runs if run.lost is not None]
        lost = max(losses, default=None)
        return cls(consumer, min(costs), median(costs), lost, max(run.megabytes for run in runs))


@dataclass(frozen=True)
class Bar:
    """A promise: ours costs at most `factor` of what another costs."""

    broker: str
    other: str
    factor: float

    def verdict(self, results: dict[str, Result]) -> tuple[bool, str] | None:
        """Whether it holds, and the sentence that says so; None if one of the two was not measured."""
        if OURS not in results or self.other not in results:
            return None
        ratio = results[OURS].best / results[self.other].best
        kept = ratio <= self.factor
        sentence = f"{self.broker}: {ratio:.3f} of {self.other}, at most {self.factor:.3f} promised"
        return kept, f"{'kept  ' if kept else 'BROKEN'} {sentence}"


BARS = (
    Bar("redis", CELERY_EXPORTER, 1 / 20),
    Bar("redis", DECODE_FLOORS["redis"], 1.8),
    Bar("redis", "EventReceiver", 1 / 2),
    Bar("rabbitmq", CELERY_EXPORTER, 1 / 7),
)


def pour_into(
    consumer: Consumer, feed: Feed, url: str, given: Sequence[Corpus], arguments: argparse.Namespace
) -> list[Run]:
    """Start the consumer, let it read each corpus to the end, and take its CPU time for each."""
    programs = Path(arguments.cache) / "peers" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        running = Running(consumer, url, Path(folder), programs)
        eventually(lambda: not feed.listeners(), what="the last consumer is gone")
        with quietly(running):
            eventually(lambda: feed.listeners() or not running.running, 60, what=f"{consumer.name} listens")
            pace = arguments.pace or (0 if url.startswith("redis") else consumer.pace)
            clock = [running.quiet()]
            for each in given:
                # Held, it has the processor to itself once it reads; not where events are paced, and live for seconds.
                with nullcontext() if pace or not url.startswith("redis") else running.held():
                    feed.pour(each.blocks, pace)
                clock.append(running.quiet())
            memory = running.memory()
            expected = sum(each.events if consumer.is_floor else each.tasks for each in given)
            counted = running.counted()
        lost = None if counted is None else expected - counted
        spent = (after - before for before, after in pairwise(clock))
        return [Run(cpu / each.events * 1e6, lost, memory) for cpu, each in zip(spent, given, strict=True)]


def compare(broker: str, arguments: argparse.Namespace) -> list[Result]:
    """Every consumer in turn, as many rounds as asked for."""
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    wanted = [each for each in CONSUMERS[broker] if not arguments.only or each.name in arguments.only]
    with tempfile.TemporaryDirectory() as folder:
        server = server_for(broker, Path(folder))
        with quietly(server):
            feed = feed_for(server.url)
            whole = Corpus.encoded(feed, arguments.events, arguments.pours)
            part = Corpus.encoded(feed, arguments.peer_events, arguments.pours)
            for number in range(arguments.rounds):
                for consumer in wanted:
                    given = part if is_slow(consumer) else whole
                    for run in pour_into(consumer, feed, server.url, given, arguments):
                        runs[consumer.name].append(run)
                        print(f"{broker} {number + 1}: {consumer.name} {run}", file=sys.stderr, flush=True)
            feed.close()
    return [Result.of(name, each) for name, each in runs.items()]


def is_slow(consumer: Consumer) -> bool:
    """Whether it gets the smaller corpus: what costs too much to be given all."""
    return not consumer.name.startswith(OURS) and (not consumer.is_floor or consumer.name.startswith("EventReceiver"))


def table(broker: str, results: list[Result]) -> str:
    """The results as a table of Markdown."""
    best = {result.consumer: result.best for result in results}
    floor, peer = best.get(DECODE_FLOORS[broker]), best.get(CELERY_EXPORTER)
    lines = [
        f"| {broker}: consumer | µs per event, best | median | to the floor | to celery-exporter | lost | MB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        ratios = (f"{result.best / other:.2f}" if other else "" for other in (floor, peer))
        lost = "?" if result.lost is None else f"{result.lost:,}"
        cells = (result.consumer, f"{result.best:.1f}", f"{result.median:.1f}", *ratios, lost)
        lines.append(f"| {' | '.join(cells)} | {result.megabytes:.0f} |")
    return "\n".join(lines)


def arguments_from_command_line() -> argparse.Namespace:
    """What the user wants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=BROKERS, action="append", help="one of them only")
    parser.add_argument("--only", action="append", help="this consumer, as named in the table; repeatable")
    parser.add_argument("--events", type=int, default=200_000, help="for the floors and for ours")
    parser.add_argument("--peer-events", type=int, default=50_000, help="for what is slow")
    parser.add_argument("--pace", type=float, default=0, help="events a second; 0: as fast as can be read")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is started anew")
    parser.add_argument("--pours", type=int, default=3, help="into each, one after the other")
    parser.add_argument("--cache", default=DEFAULT_CACHE, help="where the peers are installed")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is broken")
    return parser.parse_args()


def main() -> int:
    """Measure, print the tables and the bars."""
    arguments = arguments_from_command_line()
    peers(Path(arguments.cache))
    results: dict[str, list[Result]] = {}
    for broker in arguments.broker or BROKERS:
        results[broker] = compare(broker, arguments)
        print(f"\n{table(broker, results[broker])}", flush=True)
    named = {broker: {each.consumer: each for each in found} for broker, found in results.items()}
    verdicts = [each for bar in BARS if (each := bar.verdict(named.get(bar.broker, {})))]
    print("", *(sentence for _, sentence in verdicts), sep="\n")
    if arguments.json:
        plain = {broker: [asdict(each) for each in found] for broker, found in results.items()}
        arguments.json.write_text(json.dumps(plain, indent=2))
    return int(arguments.check and not all(kept for kept, _ in verdicts))


if __name__ == "__main__":
    sys.exit(main())
