"""What it costs to push all metrics to a collector, beside a scrape of the same series.

An exporter is filled with series from events. Another pushes the same several times a second to a collector, in a
process of its own, which takes all and forgets it: what it uses more than the first in that time is for the pushes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from consumers import DEFAULT_CACHE, OURS_CONSUMER, Running, quietly
from corpus import messages
from feed import Feed, feed_for, server_for
from prometheus_client.parser import text_string_to_metric_families
from replay import collector
from scrape import series

from services.waiting import eventually

INTERVAL = 0.25  # seconds between two pushes, or scrapes
DEFAULT_INTERVAL = 15.0  # of --push-interval
BAR = 0.005  # of a core, at that interval


@dataclass(frozen=True)
class Cost:
    """One way to have the metrics."""

    way: str
    series: int
    points: int  # of one push; a histogram is one
    milliseconds: float  # CPU of the exporter, each time
    megabytes: float  # that it has

    @property
    def share(self) -> float:
        """Of one core, once per default interval."""
        return self.milliseconds / 1000 / DEFAULT_INTERVAL


def counted(page: str, name: str, **labels: str) -> float:
    """The value of a sample."""
    families = text_string_to_metric_families(page)
    found = (sample for family in families for sample in family.samples)
    return sum(each.value for each in found if each.name == name and labels.items() <= each.labels.items())


def measure(way: str, endpoint: str, url: str, feed: Feed, arguments: argparse.Namespace) -> Cost:
    """Fill an exporter with series, and watch it with or without pushes, or with scrapes."""
    variables = (f"OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
    flags = ("--push-metrics", "--push-interval", str(INTERVAL)) if way == "push" else ()
    command = ("env", *variables, *OURS_CONSUMER.command, *flags)
    with tempfile.TemporaryDirectory() as folder:
        eventually(lambda: not feed.listeners(), 60, what="the last exporter is gone")
        running = Running(OURS_CONSUMER._replace(command=command), url, Path(folder), Path(DEFAULT_CACHE))
        with quietly(running):
            eventually(feed.listeners, 60, what="the exporter listens")
            feed.pour(feed.encode(messages(arguments.events)))
            time.sleep(3.0)
            before, spent = running.page(), running.cpu()
            scrapes = watch(running, arguments.seconds, scraping=way == "scrape")
            spent, after = running.cpu() - spent, running.page()
            memory = running.memory()
    done = [
        (
            counted(page, "celery_observe_plugin_duration_seconds_count", plugin="push"),
            counted(page, "celery_observe_pushed_points_total", outcome="exported"),
        )
        for page in (before, after)
    ]
    times = done[1][0] - done[0][0] if way == "push" else scrapes
    points = (done[1][1] - done[0][1]) / times if way == "push" else 0
    return Cost(way, series(after), round(points), 1000 * spent / max(times, 1), memory)


def watch(running: Running, seconds: float, *, scraping: bool) -> int:
    """Let time go by, or scrape; how often."""
    times = round(seconds / INTERVAL)
    for _ in range(times):
        if scraping:
            running.page()
        time.sleep(INTERVAL)
    return times


def table(costs: list[Cost]) -> str:
    """The results as a table of Markdown."""
    lines = ["| | series | points | CPU ms each time | of a core at 15 s | MB |", "|---|---:|---:|---:|---:|---:|"]
    for each in costs:
        cells = (each.way, f"{each.series:,}", f"{each.points or ''}", f"{each.milliseconds:.1f}", f"{each.share:.2%}")
        lines.append(f"| {' | '.join(cells)} | {each.megabytes:.0f} |")
    return "\n".join(lines)


def arguments_from_command_line() -> argparse.Namespace:
    """What the user wants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000, help="that fill the exporter with series first")
    parser.add_argument("--seconds", type=float, default=20.0, help="for which each way is watched")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the bar is broken")
    return parser.parse_args()


def main() -> int:
    """Measure, print the table and the bar."""
    arguments = arguments_from_command_line()
    with tempfile.TemporaryDirectory() as folder, collector(()) as endpoint:
        server = server_for("redis", Path(folder))
        with quietly(server):
            feed = feed_for(server.url)
            idle, *busy = (measure(way, endpoint, server.url, feed, arguments) for way in ("neither", "scrape", "push"))
            feed.close()
    costs = [replace(each, milliseconds=each.milliseconds - idle.milliseconds) for each in busy]
    print(table([replace(idle, milliseconds=0), *costs]))
    kept = costs[-1].share <= BAR
    print(f"\n{'kept  ' if kept else 'BROKEN'} pushing takes at most {BAR:.1%} of a core")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in costs], indent=2))
    return int(arguments.check and not kept)


if __name__ == "__main__":
    sys.exit(main())
