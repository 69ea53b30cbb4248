"""What a worker holds that recycles its children: a new one for each task, of which each could leave something."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from consumers import quietly
from contestants import Contestant

SCRAPES = 20
WARM_UP = 100  # children before the first look
# Of reports: a kind appears when the first is told, such as of a task that still runs when the worker looks.
KINDS = "celery_observe_events_total"


@dataclass(frozen=True)
class Recycled:
    """The worker's main process after so many children."""

    measured_by: str
    children: int
    milliseconds: float  # of a scrape, the clock on the wall
    series: int  # but for kinds of reports
    files: int  # on disk, less the log, and open in the main process
    megabytes: float


def recycle(contestant: Contestant, children: int) -> tuple[Recycled, Recycled]:
    """Look at a worker early, and again when so many of its children have come and gone."""
    contestant.publish([WARM_UP, children - WARM_UP])
    with quietly(contestant):
        contestant.pour(WARM_UP)
        early = look(contestant, WARM_UP)
        contestant.pour(children - WARM_UP)
        return early, look(contestant, children)


def look(contestant: Contestant, children: int) -> Recycled:
    """Scrape it some times, and count what it holds."""
    time.sleep(2.0)  # children are reaped and counted once a second
    process = Path(f"/proc/{contestant.pid}")
    walls, page, files = [], "", 0
    for _ in range(SCRAPES):
        began = time.perf_counter()
        _, page = contestant.get("/metrics")
        walls.append(1000 * (time.perf_counter() - began))
        files = max(files, len([*(process / "fd").iterdir()]))  # fewer while a child is being replaced
    files += sum(path.is_file() for path in contestant.home.rglob("*"))
    (kilobytes,) = (line.split()[1] for line in (process / "status").read_text().splitlines() if "VmRSS" in line)
    series = sum(not line.startswith(("#", KINDS)) for line in page.splitlines())
    return Recycled(contestant.contestant, children, median(walls), series, files, int(kilobytes) / 1024)


def table(found: list[Recycled]) -> str:
    """What was found as a table of Markdown."""
    lines = [
        "| measured by | children so far | scrape ms | series | files | main MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for each in found:
        numbers = (f"{each.children:,}", f"{each.milliseconds:.1f}", f"{each.series:,}", f"{each.files:,}")
        lines.append(f"| {' | '.join((each.measured_by, *numbers))} | {each.megabytes:.1f} |")
    return "\n".join(lines)
