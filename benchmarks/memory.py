"""Resident memory after many distinct tasks: ours after a million, the peers after fifty thousand."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from consumers import (
    CELERY_EXPORTER_CONSUMER,
    DEFAULT_CACHE,
    FLOWER_CONSUMER,
    OURS_CONSUMER,
    Consumer,
    Running,
    peers,
    quietly,
)
from corpus import Simulation
from feed import Block, Feed, feed_for, server_for

from services.waiting import eventually

BAR = 90.0  # MB


@dataclass(frozen=True)
class Memory:
    """What one exporter holds."""

    exporter: str
    tasks: int
    megabytes: float
    series: int
    lost: int  # task events published less counted


class Tally:
    """Passes blocks on and counts their task events."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks = blocks
        self.tasks = 0

    def __iter__(self) -> Iterator[Block]:
        """The blocks."""
        for block in self._blocks:
            self.tasks += block.tasks
            yield block


def measure(consumer: Consumer, tasks: int, url: str, feed: Feed, cache: Path) -> Memory:
    """Feed so many tasks, scrape once, and read the resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        running = Running(consumer, url, Path(folder), cache / "peers" / "bin")
        eventually(lambda: not feed.listeners(), what="the last consumer is gone")
        with quietly(running):
            eventually(lambda: feed.listeners() or not running.running, 60, what=f"{consumer.name} listens")
            running.quiet()
            published = Tally(feed.encode(Simulation(tasks).messages()))
            feed.pour(published)
            running.quiet()
            series = sum(not line.startswith("#") for line in running.page().splitlines())
            lost = published.tasks - (running.counted() or 0)
            return Memory(consumer.name, tasks, running.memory(), series, lost)


def table(results: list[Memory]) -> str:
    """The results as a table of Markdown."""
    lines = ["| exporter | distinct tasks | resident MB | series | lost |", "|---|---:|---:|---:|---:|"]
    for each in results:
        numbers = (f"{each.tasks:,}", f"{each.megabytes:.0f}", f"{each.series:,}", f"{each.lost:,}")
        lines.append(f"| {' | '.join((each.exporter, *numbers))} |")
    return "\n".join(lines)


def arguments_from_command_line() -> argparse.Namespace:
    """What the user wants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="this exporter; repeatable")
    parser.add_argument("--tasks", type=int, default=1_000_000, help="for ours")
    parser.add_argument("--peer-tasks", type=int, default=50_000)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where the peers are installed")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the bar is broken")
    return parser.parse_args()


def measure_all(arguments: argparse.Namespace) -> list[Memory]:
    """Each exporter in turn at one Redis."""
    load = {
        OURS_CONSUMER: arguments.tasks,
        CELERY_EXPORTER_CONSUMER: arguments.peer_tasks,
        FLOWER_CONSUMER: arguments.peer_tasks,
    }
    with tempfile.TemporaryDirectory() as folder:
        server = server_for("redis", Path(folder))
        with quietly(server):
            feed = feed_for(server.url)
            results = [
                measure(consumer, tasks, server.url, feed, arguments.cache)
                for consumer, tasks in load.items()
                if not arguments.only or consumer.name in arguments.only
            ]
            feed.close()
    return results


def main() -> int:
    """Measure, print the table and the bar."""
    arguments = arguments_from_command_line()
    peers(arguments.cache)
    results = measure_all(arguments)
    print(table(results))
    kept = all(each.megabytes <= BAR for each in results if each.exporter == OURS_CONSUMER.name)
    print(f"\n{'kept  ' if kept else 'BROKEN'} at most {BAR:.0f} MB resident")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in results], indent=2))
    return int(arguments.check and not kept)


if __name__ == "__main__":
    sys.exit(main())
