"""How long the panels of the dashboards take over 1,000 tasks and 500 workers, an hour of them in a Prometheus.

Every family of the catalogue is written into a real Prometheus with as many series as such a fleet has, as if an
exporter and a sidecar had been scraped each 15 s. What the rules record is asked of it and written likewise, rule by
rule, with its time. Then each query of each panel is asked as Grafana would, and the slowest are told.
"""

from __future__ import annotations

import argparse
import itertools
import json
import struct
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median

from celery_observe.fact import Cause, Ending, Exit, Outcome, Stage
from celery_observe.metrics import CATALOGUE, Family, Kind
from house.boards import queries
from house.rules import Rule, asked, records
from services.prometheus import Prometheus

TASKS, WORKERS, QUEUES, ROOTS, ENTRIES = 1000, 500, 50, 100, 100
STEP = 15  # seconds between two scrapes
SCRAPES = 200  # of 50 minutes: Prometheus takes an hour of what is past
BATCH = 5_000  # series of a request
BAR = 5.0  # seconds that the slowest query may take

Labels = dict[str, str]

VALUES: dict[str, list[str]] = {
    "worker": [f"celery@host{number}" for number in range(WORKERS)],
    "queue": [f"queue{number}" for number in range(QUEUES)],
    "root": [f"app.root{number}" for number in range(ROOTS)],
    "entry": [f"entry{number}" for number in range(ENTRIES)],
    "priority": [str(number) for number in range(10)],
    "cause": [Cause.EXCEPTION, Cause.HARD_TIME_LIMIT],
    "kind": list(Exit),
    "stage": list(Stage),
    "state": ["PROGRESS"],
    "version": ["5.7.0"],
    "pool": ["prefork"],
    "exception": ["TimeoutError"],
    "plugin": [f"plugin{number}" for number in range(8)],
    "type": [f"task-{number}" for number in range(10)],
    "reason": ["sigkill", "recycled"],
    "family": ["celery_task_runtime_seconds"],
    "label": ["tier"],
    "rule": ["failed"],
    "sink": ["slack"],
}
OUTCOMES: list[str] = [Outcome.SUCCEEDED, Outcome.FAILED]
ENDINGS: list[str] = [Ending.SUCCEEDED, Ending.FAILED]
TARGET = {"job": "celery", "instance": "exporter:9808"}


def label_sets(family: Family) -> Iterator[Labels]:
    """The labels of each series that a family has in this fleet."""
    values = VALUES | {"outcome": ENDINGS if family.name.startswith("celery_workflow") else OUTCOMES}
    told = {"task", "worker", "queue"}
    others = [name for name in family.labels if name not in told]
    for subject in subjects(family):
        for chosen in itertools.product(*(values[name] for name in others)):
            yield subject | dict(zip(others, map(str, chosen), strict=True))


def subjects(family: Family) -> Iterator[Labels]:
    """Tasks, each with one queue; workers; both, where a worker limits a task; or nothing."""
    has = set(family.labels)
    if {"task", "worker"} <= has:
        yield from ({"worker": worker, "task": "app.task1"} for worker in VALUES["worker"])
    elif "task" in has:
        for number in range(TASKS):
            queue = {"queue": VALUES["queue"][number % QUEUES]} if "queue" in has else {}
            yield {"task": f"app.task{number}", **queue}
    elif "worker" in has:
        for number, worker in enumerate(VALUES["worker"]):
            queue = {"queue": VALUES["queue"][number % QUEUES]} if "queue" in has else {}
            yield {"worker": worker, **queue}
    else:
        yield from ({"queue": queue} for queue in VALUES["queue"]) if "queue" in has else [{}]


def series(family: Family) -> Iterator[tuple[Labels, int]]:
    """Name and labels of each series of a family, and how fast it grows: the wider a bucket, the more; 0 not at all."""
    for labels in label_sets(family):
        if family.kind is not Kind.HISTOGRAM:
            yield {"__name__": family.name, **labels, **TARGET}, int(family.kind is Kind.COUNTER)
            continue
        bounds = [*map(str, family.buckets), "+Inf"]
        for number, bound in enumerate(bounds, start=1):
            yield {"__name__": f"{family.name}_bucket", "le": bound, **labels, **TARGET}, number
        for part in ("sum", "count"):
            yield {"__name__": f"{family.name}_{part}", **labels, **TARGET}, len(bounds)


def field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that is text or a message."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(number: int) -> bytes:
    """A number as protocol buffers and snappy have it."""
    out = bytearray()
    while number >= 1 << 7:
        out.append(number % (1 << 7) + (1 << 7))
        number >>= 7
    return bytes([*out, number])


def samples(begin: float, value: Callable[[int], float]) -> bytes:
    """The values of a series at all scrapes, as remote write has them."""
    return b"".join(
        field(2, b"\x09" + struct.pack("<d", value(number)) + b"\x10" + varint(int((begin + number * STEP) * 1000)))
        for number in range(SCRAPES)
    )


def time_series(labels: Labels, values: bytes) -> bytes:
    """One series with its values."""
    named = b"".join(field(1, field(1, name.encode()) + field(2, labels[name].encode())) for name in sorted(labels))
    return field(1, named + values)


def snappy(content: bytes) -> bytes:
    """The content as snappy, all of it literal."""
    parts = [varint(len(content))]
    for start in range(0, len(content), 65_536):
        part = content[start : start + 65_536]
        parts += [bytes([61 << 2]), struct.pack("<H", len(part) - 1), part]
    return b"".join(parts)


def write(prometheus: Prometheus, written: Iterable[bytes]) -> int:
    """Write series into a Prometheus; return how many."""
    count = 0
    while batch := list(itertools.islice(written, BATCH)):
        count += len(batch)
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        request = urllib.request.Request(f"{prometheus.url}/api/v1/write", snappy(b"".join(batch)), headers)  # noqa: S310  # of our own
        urllib.request.urlopen(request, timeout=300).close()  # noqa: S310  # of our own
    return count


def fleet(begin: float) -> Iterator[bytes]:
    """All series of the fleet."""
    growing = {pace: samples(begin, lambda number, pace=pace: float(number * pace)) for pace in range(1, 40)}
    lasting = samples(begin, lambda _: 1.0)
    for family in CATALOGUE:
        for labels, pace in series(family):
            yield time_series(labels, growing[pace] if pace else lasting)
    for name in ("up", "scrape_duration_seconds", "scrape_samples_scraped", "process_open_fds"):
        yield time_series({"__name__": name, **TARGET}, lasting)
    for name in ("process_resident_memory_bytes", "process_start_time_seconds", "process_cpu_seconds_total"):
        yield time_series({"__name__": name, **TARGET}, lasting)


def record(prometheus: Prometheus, rule: Rule, begin: float) -> float:
    """Write what a rule yields now as if it had yielded that all the time; return the seconds that it takes."""
    begun = time.perf_counter()
    found = prometheus.ask("/api/v1/query", query=rule.expression)["data"]["result"]
    took = time.perf_counter() - begun
    labels = rule.content.get("labels", {})
    rows = ({**each["metric"], **labels, "__name__": rule.name} for each in found)
    values = [float(each["value"][1]) for each in found]
    held = {value: samples(begin, lambda _, value=value: value) for value in set(values)}
    write(prometheus, (time_series(row, held[value]) for row, value in zip(rows, values, strict=True)))
    return took


def ordered() -> Iterator[Rule]:
    """The recording rules, each after those that it builds on."""
    pending = records()
    while pending:
        unknown = {rule.name for rule in pending}
        ready = [rule for rule in pending if not asked(rule.expression) & unknown]
        yield from ready
        pending = [rule for rule in pending if rule not in ready]


def ask(prometheus: Prometheus) -> dict[str, float]:
    """The seconds that each query of each panel takes, over all that was written."""
    took = {}
    for query in queries():
        expression = query.filled(task="app.task1", __range=f"{STEP * SCRAPES}s")
        begun = time.perf_counter()
        if query.instant:
            prometheus.query(expression)
        else:
            prometheus.query_range(expression, span=STEP * SCRAPES, step=STEP)
        took[str(query)] = time.perf_counter() - begun
    return took


def measure(folder: Path) -> dict[str, float]:
    """Write the fleet, then ask all; return the seconds of each query."""
    with Prometheus(folder, {}, remote_write=True) as prometheus:
        begin = time.time() - STEP * SCRAPES
        print(f"{write(prometheus, fleet(begin)):,} series written")
        rules = {f"{rule.name} {number}": record(prometheus, rule, begin) for number, rule in enumerate(ordered())}
        print(f"{sum(rules.values()):.2f} s for all {len(rules)} recording rules, the slowest:")
        tell(rules)
        took = ask(prometheus)
    print(f"{sum(took.values()):.2f} s for all {len(took)} queries, median {median(took.values()):.3f} s, the slowest:")
    tell(took)
    return took


def tell(seconds: dict[str, float]) -> None:
    """Print the slowest."""
    for name, took in sorted(seconds.items(), key=lambda each: -each[1])[:12]:
        print(f"  {took:7.3f} s  {name}")


def main() -> int:
    """Run it; with --check the exit code says whether a query took longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the seconds of each query there")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 if a query takes longer than {BAR} s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        took = measure(Path(folder))
    if options.json:
        options.json.write_text(json.dumps(took, indent=2))
    return int(options.check and max(took.values()) > BAR)


if __name__ == "__main__":
    raise SystemExit(main())
