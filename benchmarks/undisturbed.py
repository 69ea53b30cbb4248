"""What measuring costs a worker, for machines that others use too: CPU per task in the quietest tenth of the time.

Where neighbours share a core a task may cost twice as much from one moment to the next, and the slices of worker.py
differ by more than what they are to tell apart. Here the threads that execute tasks note their own CPU time every few
tasks, and the tenth percentile is what they take undisturbed (`marks.py`). What is done now and then, by other threads
of the worker or its child, is all of their time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from statistics import mean, median, stdev
from typing import NamedTuple

from collector import collector
from consumers import DEFAULT_CACHE, OURS, peers, quietly
from contestants import BARE, CONTROL, EXPORTED, MULTIPROCESS, OPENTELEMETRY, Contestant
from worker import Bar, check_counts

from services.redis import Redis

CONTESTANTS = (BARE, CONTROL, OPENTELEMETRY, EXPORTED, MULTIPROCESS, OURS)
WARM_UP = 1000


class Undisturbed(NamedTuple):
    """CPU microseconds per task of one worker."""

    main: float
    """The thread of Celery's loop."""
    beside: float
    """Other threads of that process."""
    child: float
    """The thread that executes tasks, and others of its process."""

    @property
    def total(self) -> float:
        """Of the whole tree."""
        return sum(self)


class Marked(Contestant):
    """A worker that marks its time."""

    def measured_undisturbed(self, tasks: int) -> Undisturbed:
        """What a task costs of so many, after a warm-up."""
        self.pour(WARM_UP)
        before = [self._beside(pid) for pid in self._processes()]
        self.pour(tasks)
        main, child = (
            1e6 * (after - earlier) / tasks
            for earlier, after in zip(before, map(self._beside, self._processes()), strict=True)
        )
        marked = {name: json.loads((self.home / name).read_text()) / 1e3 for name in ("main", "child")}
        return Undisturbed(marked["main"], main, marked["child"] + child)

    def _processes(self) -> list[int]:
        return [self.pid, self._children()[0]]

    def _beside(self, pid: int) -> float:
        """CPU seconds of all threads of a process but its first (schedstat, proc(5))."""
        threads = [each for each in Path(f"/proc/{pid}/task").iterdir() if each.name != str(pid)]
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def contest(arguments: argparse.Namespace, server: Redis) -> dict[str, list[Undisturbed]]:
    """Start each worker so many times, one after the other."""
    found: dict[str, list[Undisturbed]] = {name: [] for name in CONTESTANTS}
    for number in range(arguments.starts):
        for name in CONTESTANTS:
            with server.client() as client:
                client.flushall()
            with tempfile.TemporaryDirectory() as folder, collector() as endpoint:
                programs = arguments.cache / "peers"
                worker = Marked(name, server, 0, Path(folder), programs, "-c", "1", collector=endpoint)
                worker.env["MARKS"] = str(worker.home)
                worker.publish([WARM_UP, arguments.tasks])
                with quietly(worker):
                    found[name].append(worker.measured_undisturbed(arguments.tasks))
                    check_counts([worker], WARM_UP + 1 + arguments.tasks + 1)
        print(f"start {number + 1}:", {name: round(each[-1].total) for name, each in found.items()}, file=sys.stderr)
    return found


def table(found: dict[str, list[Undisturbed]]) -> str:
    """The medians as a table of Markdown; what each adds to the bare worker is a mean, with its standard error."""
    lines = [
        "| measured by | µs per task | main thread | threads beside it | child | adds | ± | of the bare worker |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, costs in found.items():
        main, beside, child = (median(part) for part in zip(*costs, strict=True))
        cells = [f"{median(each.total for each in costs):,.0f}", f"{main:,.0f}", f"{beside:.1f}", f"{child:,.0f}"]
        if name != BARE:
            added, error = added_by(found, name)
            cells += [f"{added:.1f}", f"{error:.1f}", f"{added / bare_of(found):.1%}"]
        lines.append(f"| {' | '.join((name, *cells))} |" + " |" * (7 - len(cells)))
    return "\n".join(lines)


def bare_of(found: dict[str, list[Undisturbed]]) -> float:
    """Microseconds of the bare worker: both are one."""
    return mean(each.total for each in found[BARE] + found[CONTROL])


def added_by(found: dict[str, list[Undisturbed]], name: str) -> tuple[float, float]:
    """Return the microseconds that a contestant adds, and their standard error."""
    bare = [each.total for each in (found[BARE] if name == CONTROL else found[BARE] + found[CONTROL])]
    costs = [each.total for each in found[name]]
    error = sqrt(stdev(bare) ** 2 / len(bare) + stdev(costs) ** 2 / len(costs))
    return mean(costs) - mean(bare), error


def bars_of(found: dict[str, list[Undisturbed]]) -> Iterator[Bar]:
    """What is promised of the cost."""
    ours, child = added_by(found, OURS)[0], mean(each.child for each in found[BARE] + found[CONTROL])
    yield Bar("added to the CPU per task of the bare worker", ours / bare_of(found), 0.05)
    yield Bar(
        "of what OpenTelemetry's instrumentation adds, when its spans are exported",
        ours / added_by(found, EXPORTED)[0],
        1 / 3,
    )
    yield Bar("of that, when its spans are forgotten", ours / added_by(found, OPENTELEMETRY)[0], 1 / 3)
    in_child = {name: mean(each.child for each in found[name]) - child for name in (OURS, MULTIPROCESS)}
    yield Bar("of what multiprocess mode adds in the child", in_child[OURS] / in_child[MULTIPROCESS], 0.5)


def main() -> int:
    """Measure, print the table and the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=8, help="how often each worker is started")
    parser.add_argument("--tasks", type=int, default=6000, help="tasks that are measured of each start")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where the peers are installed")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is broken")
    arguments = parser.parse_args()
    peers(arguments.cache)
    with tempfile.TemporaryDirectory() as folder:
        server = Redis(Path(folder))
        with quietly(server):
            found = contest(arguments, server)
    bars = [*bars_of(found)]
    print(table(found), "", *bars, sep="\n")
    return int(arguments.check and not all(bar.kept for bar in bars))


if __name__ == "__main__":
    sys.exit(main())
