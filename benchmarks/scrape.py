"""What `GET /metrics` costs with eight real workers connected, and whether the event stream waits for it.

The floor is prometheus_client's `generate_latest` for a registry with the same families, labels and buckets as the
page that was served, in the same run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from consumers import (
    CELERY_EXPORTER_CONSUMER,
    DEFAULT_CACHE,
    OURS_CONSUMER,
    Consumer,
    Running,
    peers,
    quietly,
)
from corpus import Simulation, messages
from feed import Block, Feed, feed_for, server_for
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from services.ports import LOOPBACK
from services.waiting import eventually
from services.worker import Worker

WORKERS = 8
PACE = 1000.0  # published tasks a second while the stream is watched
PUBLISHED = ("celery_task_published_total", "celery_task_sent_total")  # ours, celery-exporter's
BAR = 1.3


@dataclass(frozen=True)
class Scraped:
    """What scraping one exporter costs."""

    exporter: str
    series: int
    milliseconds_cpu: float  # of the server's process, a scrape
    milliseconds_wall: float  # until the last byte, median
    milliseconds_floor: float  # CPU of generate_latest for the same series, best
    milliseconds_behind: float  # of the stream while being scraped without pause, at most

    @property
    def ratio(self) -> float:
        """CPU as a multiple of the floor's."""
        return self.milliseconds_cpu / self.milliseconds_floor


def scrape(connection: http.client.HTTPConnection) -> str:
    """One page, as Prometheus asks for it less compression."""
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def timed(connection: http.client.HTTPConnection) -> float:
    """Seconds until the whole page is there."""
    start = time.perf_counter()
    scrape(connection)
    return time.perf_counter() - start


def family_labels(family: Metric) -> tuple[str, ...]:
    """The label names of a family, without `le`."""
    return tuple(sorted({name for sample in family.samples for name in sample.labels} - {"le"}))


def rebuild(page: str) -> CollectorRegistry:
    """A registry of prometheus_client's own metrics with the same series as this page."""
    registry = CollectorRegistry()
    for family in text_string_to_metric_families(page):
        names = family_labels(family)
        if family.type == "histogram":
            rebuild_histogram(family, names, registry)
            continue
        metric_class = Counter if family.type == "counter" else Gauge
        # `_created` is a name that Counter keeps for itself, but it is a series like any other.
        metric = metric_class(
            family.name.replace("_created", "_creation"), family.documentation, names, registry=registry
        )
        for sample in family.samples:
            child = metric.labels(*(sample.labels.get(name, "") for name in names)) if names else metric
            child.inc(sample.value)
    return registry


def rebuild_histogram(family: Metric, names: tuple[str, ...], registry: CollectorRegistry) -> None:
    """The same children and buckets, one observation in each bucket."""
    buckets = sorted({float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels})
    metric = Histogram(family.name, family.documentation, names, buckets=buckets, registry=registry)
    for labels in {tuple(sample.labels.get(name, "") for name in names) for sample in family.samples}:
        child = metric.labels(*labels) if names else metric
        for bound in buckets[:-1]:
            child.observe(bound)


def floor(page: str, rounds: int) -> float:
    """Seconds of CPU that generate_latest needs for the same series, at best."""
    registry = rebuild(page)
    return min(cpu_of_rendering(registry) for _ in range(rounds))


def cpu_of_rendering(registry: CollectorRegistry) -> float:
    """Seconds of CPU for one page."""
    start = time.thread_time()
    generate_latest(registry)
    return time.thread_time() - start


def series(page: str) -> int:
    """How many samples a page has."""
    return sum(not line.startswith("#") for line in page.splitlines())


class Flow:
    """`task-sent` events that flow at a steady pace beside the scrapes."""

    def __init__(self, feed: Feed, seconds: float) -> None:
        events = Simulation(round(seconds * PACE)).messages()
        blocks = feed.encode(event for event in events if event.routing_key == "task.sent")
        self.tasks = 0
        self._thread = threading.Thread(target=feed.pour, args=(self._counted(list(blocks)), PACE))

    def _counted(self, blocks: list[Block]) -> Iterator[Block]:
        for block in blocks:
            yield block
            self.tasks += block.tasks  # by now it was sent

    def behind(self, running: Running) -> float:
        """How many seconds the exporter's count lags at most, scraped without pause until the flow ends."""
        before = running.total(*PUBLISHED)
        worst = 0
        self._thread.start()
        while self._thread.is_alive():
            published = self.tasks
            worst = max(worst, published + before - running.total(*PUBLISHED))
        self._thread.join()
        return worst / PACE


def measure(consumer: Consumer, url: str, feed: Feed, workers: list[Worker], arguments: argparse.Namespace) -> Scraped:
    """Fill an exporter with series, then scrape it while a few real tasks run."""
    with tempfile.TemporaryDirectory() as folder:
        running = Running(consumer, url, Path(folder), arguments.cache / "peers" / "bin")
        known = feed.listeners()
        with quietly(running):
            eventually(lambda: feed.listeners() > known or not running.running, 60, what=f"{consumer.name} listens")
            running.quiet()
            feed.pour(feed.encode(messages(arguments.events)))
            running.quiet()
            connection = http.client.HTTPConnection(LOOPBACK, running.port, timeout=60)
            page = scrape(connection)
            before, walls = running.cpu(), []
            for number in range(arguments.scrapes):
                workers[number % WORKERS].send("add", 1, number)
                walls.append(timed(connection))
            spent = (running.cpu() - before) / arguments.scrapes
            behind = Flow(feed, arguments.seconds).behind(running)
        best = floor(page, arguments.scrapes)
        return Scraped(consumer.name, series(page), *(1000 * value for value in (spent, median(walls), best, behind)))


def table(results: list[Scraped]) -> str:
    """The results as a table of Markdown."""
    lines = [
        "| exporter | series | CPU ms per scrape | generate_latest ms | ratio | wall ms | stream behind ms, at most |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for each in results:
        numbers = (each.milliseconds_cpu, each.milliseconds_floor, each.ratio, each.milliseconds_wall)
        cells = (each.exporter, f"{each.series:,}", *(f"{number:.2f}" for number in numbers))
        lines.append(f"| {' | '.join(cells)} | {each.milliseconds_behind:.0f} |")
    return "\n".join(lines)


def arguments_from_command_line() -> argparse.Namespace:
    """What the user wants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="this exporter; repeatable")
    parser.add_argument("--events", type=int, default=50_000, help="that fill the exporter with series first")
    parser.add_argument("--scrapes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="for which the stream is watched")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where the peers are installed")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the bar is broken")
    return parser.parse_args()


def measure_all(arguments: argparse.Namespace) -> list[Scraped]:
    """Each exporter at one Redis with eight solo workers."""
    wanted = (OURS_CONSUMER, CELERY_EXPORTER_CONSUMER)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = server_for("redis", folder)
        stack.enter_context(quietly(server))
        workers = [Worker(folder, server.url, name=f"bench{number}") for number in range(WORKERS)]
        for worker in workers:
            stack.enter_context(quietly(worker))
        feed = feed_for(server.url)
        stack.callback(feed.close)
        return [
            measure(consumer, server.url, feed, workers, arguments)
            for consumer in wanted
            if not arguments.only or consumer.name in arguments.only
        ]


def main() -> int:
    """Measure, print the table and the bar."""
    arguments = arguments_from_command_line()
    disable_created_metrics()  # type: ignore[no-untyped-call]
    peers(arguments.cache)
    results = measure_all(arguments)
    print(table(results))
    kept = all(each.ratio <= BAR for each in results if each.exporter == OURS_CONSUMER.name)
    print(f"\n{'kept  ' if kept else 'BROKEN'} rendering costs at most {BAR} x generate_latest")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in results], indent=2))
    return int(arguments.check and not kept)


if __name__ == "__main__":
    sys.exit(main())
