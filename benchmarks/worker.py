"""What measuring costs a worker, in CPU per task of the whole process tree: nothing, `-E`, OpenTelemetry, files, ours.

The workers of all contestants stand side by side, each at a database of its own, and take turns: a slice of tasks each,
in another order each round. What a contestant adds is the median over all rounds of its slice less that of the bare
worker in the same round. Now and then all are started anew, since two processes of the same code differ by where they
lie in memory; the bare worker runs twice, to show by how much.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

from collector import collector
from consumers import DEFAULT_CACHE, OURS, peers, quietly
from contestants import BARE, CONTESTANTS, EXPORTED, MULTIPROCESS, OPENTELEMETRY, TRACED, Contestant, Spent
from recycling import Recycled, recycle
from recycling import table as table_of_children

from services.redis import Redis

_TO_SPREAD, _TO_ERROR = 1.4826, 1.2533  # median deviation to standard deviation; its mean's error to its median's


@dataclass(frozen=True)
class Cost:
    """CPU microseconds per task of one contestant: all of it, and what it adds to the bare worker."""

    contestant: str
    total: float
    main: float
    child: float
    added: float
    error: float  # standard error of `added`
    added_main: float
    added_child: float

    @classmethod
    def of(cls, contestant: str, slices: list[Spent], bare: list[Spent]) -> Cost:
        """Sum up its slices and, pair by pair, how they differ from those of the bare worker."""
        more = [mine - other for mine, other in zip(slices, bare, strict=True)]
        whole, added = (Spent(*(1e6 * median(part) for part in zip(*each, strict=True))) for each in (slices, more))
        totals = [1e6 * each.total for each in more]
        middle = median(totals)
        spread = _TO_SPREAD * median(abs(each - middle) for each in totals)
        error = _TO_ERROR * spread / sqrt(len(totals))
        return cls(contestant, 1e6 * median(each.total for each in slices), *whole, middle, error, *added)


def contest(arguments: argparse.Namespace, server: Redis, names: list[str]) -> dict[str, list[Spent]]:
    """All slices of each contestant, in the order of the rounds."""
    slices: dict[str, list[Spent]] = {name: [] for name in names}
    orders = Random(0)  # noqa: S311 - no secret
    for number in range(arguments.starts):
        with tempfile.TemporaryDirectory() as folder, collector() as endpoint, ExitStack() as running:
            contestants = line_up(arguments, server, names, Path(folder), endpoint)
            for each in contestants:
                running.enter_context(quietly(each))
                each.pour(arguments.warm_up)
            for _ in range(arguments.rounds):
                for each in orders.sample(contestants, len(contestants)):
                    slices[each.contestant].append(each.measured(arguments.lead, arguments.slice))
            sizes = slice_sizes(arguments)
            check_counts(contestants, sum(sizes) + len(sizes))
        print(f"start {number + 1}: {summary(slices)}", file=sys.stderr, flush=True)
    return slices


def slice_sizes(arguments: argparse.Namespace) -> list[int]:
    """How many tasks there are in each slice, beside the one that tells."""
    return [arguments.warm_up, *(arguments.lead, arguments.slice) * arguments.rounds]


def check_counts(contestants: list[Contestant], executions: int) -> None:
    """Make sure that who counts has counted all: to forget is cheap."""
    time.sleep(2.0)
    for each in contestants:
        counted = each.counted()
        if counted is not None and counted != executions:
            sys.exit(f"{each.contestant} has counted {counted:.0f} of {executions} executions")


def line_up(
    arguments: argparse.Namespace, server: Redis, names: list[str], folder: Path, endpoint: str
) -> list[Contestant]:
    """The contestants, not started, their tasks published."""
    with server.client() as client:
        client.flushall()
    programs = arguments.cache / "peers"
    contestants = [
        Contestant(name, server, database, folder, programs, "-c", "1", collector=endpoint)
        for database, name in enumerate(names)
    ]
    with ThreadPoolExecutor() as publishing:
        list(publishing.map(lambda each: each.publish(slice_sizes(arguments)), contestants))
    return contestants


def summary(slices: dict[str, list[Spent]]) -> str:
    """The medians so far, in microseconds."""
    return ", ".join(f"{name} {1e6 * median(each.total for each in found):.0f}" for name, found in slices.items())


def table(costs: list[Cost]) -> str:
    """The costs as a table of Markdown."""
    lines = [
        "| measured by | µs per task | main | child | adds | ± | of the bare worker | in main | in the child |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    bare = costs[0].total
    for each in costs:
        cells = [f"{each.total:,.0f}", f"{each.main:,.0f}", f"{each.child:,.0f}"]
        if each.contestant != BARE:
            cells += [f"{each.added:.1f}", f"{each.error:.1f}", f"{each.added / bare:.1%}"]
            cells += [f"{each.added_main:.1f}", f"{each.added_child:.1f}"]
        lines.append(f"| {' | '.join((each.contestant, *cells))} |" + " |" * (8 - len(cells)))
    return "\n".join(lines)


class Bar(NamedTuple):
    """A promise, and what was measured."""

    promise: str
    measured: float
    most: float

    @property
    def kept(self) -> bool:
        """Whether it is kept."""
        return self.measured <= self.most

    def __str__(self) -> str:
        """Say whether it is."""
        verdict = "kept  " if self.kept else "BROKEN"
        return f"{verdict} {self.promise}: {self.measured:.3f}, at most {self.most:.3f} promised"


def bars_of(costs: dict[str, Cost]) -> Iterator[Bar]:
    """What is promised of the cost, as far as who it is compared with was measured."""
    ours = costs[OURS]
    yield Bar("added to the CPU per task of the bare worker", ours.added / costs[BARE].total, 0.05)
    if EXPORTED in costs:
        promise = "of what OpenTelemetry's instrumentation adds, when its spans are exported"
        yield Bar(promise, ours.added / costs[EXPORTED].added, 1 / 3)
    if OPENTELEMETRY in costs and TRACED in costs:
        spans = costs[TRACED].added - ours.added
        yield Bar("of what OpenTelemetry's spans add, what ours do", spans / costs[OPENTELEMETRY].added, 1.0)
    if MULTIPROCESS in costs:
        yield Bar(
            "of what multiprocess mode adds in the child", ours.added_child / costs[MULTIPROCESS].added_child, 0.5
        )


def bars_of_children(early: Recycled, late: Recycled) -> Iterator[Bar]:
    """What is promised of a worker that recycles its children."""
    yield Bar(f"ms for /metrics after {late.children:,} children", late.milliseconds, 50)
    yield Bar("series more than early", late.series - early.series, 0)
    yield Bar("files more than early", late.files - early.files, 0)
    yield Bar("MB more than early", late.megabytes - early.megabytes, 2)


def look_at_children(arguments: argparse.Namespace, server: Redis) -> list[Recycled]:
    """Ours, and the peer that leaves files behind."""
    found: list[Recycled] = []
    for name in (OURS, MULTIPROCESS):
        with server.client() as client, tempfile.TemporaryDirectory() as folder:
            client.flushall()
            options = ("-c", "2", "--max-tasks-per-child", "1")
            found += recycle(
                Contestant(name, server, 0, Path(folder), arguments.cache / "peers", *options), arguments.children
            )
    return found


def arguments_from_command_line() -> argparse.Namespace:
    """What the user wants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="this contestant, as named in the table; repeatable")
    parser.add_argument("--starts", type=int, default=16, help="how often the workers are started anew")
    parser.add_argument("--rounds", type=int, default=3, help="slices of each contestant per start")
    parser.add_argument(
        "--slice", type=int, default=640, help="tasks that are measured at a time: enough that spans are exported"
    )
    parser.add_argument("--lead", type=int, default=60, help="tasks just before them, which are not")
    parser.add_argument("--warm-up", type=int, default=1000, help="tasks before the first slice")
    parser.add_argument("--children", type=int, default=1000, help="to be recycled; 0: leave that out")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where the peers are installed")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is broken")
    return parser.parse_args()


def main() -> int:
    """Measure, print the tables and the bars."""
    arguments = arguments_from_command_line()
    peers(arguments.cache)
    names = [each for each in CONTESTANTS if each in (BARE, OURS, *(arguments.only or CONTESTANTS))]
    with tempfile.TemporaryDirectory() as folder:
        server = Redis(Path(folder))
        with quietly(server):
            slices = contest(arguments, server, names)
            children = look_at_children(arguments, server) if arguments.children else []
    costs = [Cost.of(name, slices[name], slices[BARE]) for name in names]
    bars = [*bars_of({each.contestant: each for each in costs})]
    print(table(costs))
    if children:
        print("", table_of_children(children), sep="\n")
        bars += bars_of_children(*children[:2])
    print("", *bars, sep="\n")
    if arguments.json:
        plain = {
            "costs": [asdict(each) for each in costs],
            "children": [asdict(each) for each in children],
            "slices": slices,
        }
        arguments.json.write_text(json.dumps(plain, indent=2))
    return int(arguments.check and not all(bar.kept for bar in bars))


if __name__ == "__main__":
    sys.exit(main())
