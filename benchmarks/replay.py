"""What it costs to rebuild traces from events, and whether that keeps up on one core.

Events come at a pace, once to an exporter without and once to one with `--replay-traces`, which may use one core only;
a collector takes all spans and forgets them. What the exporter says became of the attempts is compared with what was
published. On a machine that does other work, `--realtime` (as root) gives it the core it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from collector import collector
from consumers import DEFAULT_CACHE, OURS_CONSUMER, Consumer, Running, quietly
from corpus import Simulation
from feed import Block, Feed, feed_for, server_for

from services.waiting import eventually

EVENTS_PER_TASK = 4.18
PACE = 5_000
ATTEMPTS = "celery_observe_replay_attempts_total"


@dataclass(frozen=True)
class Result:
    """One way of running the exporter."""

    mode: str
    attempts: int  # that have ended, by its count
    exported: int
    dropped: dict[str, int]  # the others, by what became of them
    lost: int  # task events published less counted
    microseconds: float  # CPU per attempt
    share: float  # of one core while events came
    megabytes: float


def priority(arguments: argparse.Namespace) -> tuple[str, ...]:
    """What exporter and collector are started by."""
    return ("chrt", "--rr", "1") if arguments.realtime else ()


def consumer(mode: str, endpoint: str, arguments: argparse.Namespace) -> Consumer:
    """The exporter on one core, with or without traces."""
    core = max(os.sched_getaffinity(0))
    variables = (f"OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
    replay = ("--replay-traces", "--replay-ratio", str(arguments.ratio)) if mode == "replay" else ()
    command = (
        *priority(arguments),
        "taskset",
        "--cpu-list",
        str(core),
        "env",
        *variables,
        *OURS_CONSUMER.command,
        *replay,
    )
    return OURS_CONSUMER._replace(name=f"{OURS_CONSUMER.name}-{mode}", command=command)


def pour(mode: str, blocks: list[Block], feed: Feed, url: str, endpoint: str, arguments: argparse.Namespace) -> Result:
    """Let it read all events at the pace, and ask what became of them."""
    with tempfile.TemporaryDirectory() as folder:
        eventually(lambda: not feed.listeners(), what="the last exporter is gone")
        running = Running(consumer(mode, endpoint, arguments), url, Path(folder), Path(DEFAULT_CACHE))
        with quietly(running):
            eventually(feed.listeners, 60, what="the exporter listens")
            before, began = running.quiet(), time.monotonic()
            feed.pour(blocks, arguments.tasks * EVENTS_PER_TASK)
            busy, seconds = running.cpu() - before, time.monotonic() - began
            if mode == "replay":
                eventually(lambda: sum(by_outcome(running).values()) >= ended_in(running), 60, what="all are exported")
            spent, memory = running.quiet() - before, running.memory()
            counted = running.counted() or 0
            became = by_outcome(running)
            ended = ended_in(running)
    exported = became.pop("exported", 0)
    return Result(
        mode=mode,
        attempts=ended,
        exported=exported,
        dropped={outcome: count for outcome, count in became.items() if count},
        lost=sum(block.tasks for block in blocks) - counted,
        microseconds=spent / max(1, ended) * 1e6,
        share=busy / seconds,
        megabytes=memory,
    )


def ended_in(running: Running) -> int:
    """How many attempts have ended, as it says."""
    return running.total("celery_task_outcomes_total")


def by_outcome(running: Running) -> dict[str, int]:
    """What the exporter says became of attempts."""
    lines = (line for line in running.page().splitlines() if line.startswith(ATTEMPTS))
    return {line.split('"')[1]: round(float(line.rpartition(" ")[2])) for line in lines}


def table(results: list[Result]) -> str:
    """The results as a table of Markdown."""
    lines = [
        "| mode | attempts | exported | dropped | events lost | CPU µs per attempt | of one core | MB |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for each in results:
        dropped = ", ".join(f"{count:,} {outcome}" for outcome, count in each.dropped.items())
        cells = (each.mode, f"{each.attempts:,}", f"{each.exported:,}", dropped, f"{each.lost:,}")
        lines.append(f"| {' | '.join(cells)} | {each.microseconds:.0f} | {each.share:.0%} | {each.megabytes:.0f} |")
    return "\n".join(lines)


def verdict(replayed: Result, tasks: float) -> tuple[bool, str]:
    """Whether one core is enough for so many tasks a second and every attempt was accounted for; and the sentence."""
    core = replayed.microseconds * tasks / 1e6
    accounted = replayed.exported + sum(replayed.dropped.values()) == replayed.attempts
    kept = core <= 1 and accounted and not replayed.lost
    told = "each is accounted for" if accounted else "some are NOT accounted for"
    return kept, f"{'kept  ' if kept else 'BROKEN'} {tasks:,.0f} tasks a second take {core:.2f} of a core; {told}"


def arguments_from_command_line() -> argparse.Namespace:
    """What the user wants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=float, default=PACE, help="a second")
    parser.add_argument("--seconds", type=float, default=20, help="how long events come")
    parser.add_argument("--ratio", type=float, default=1.0, help="how many of all traces to keep")
    parser.add_argument("--realtime", action="store_true", help="exporter and collector go before all else")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the bar is broken")
    return parser.parse_args()


def main() -> int:
    """Measure without and with traces, and print the table."""
    arguments = arguments_from_command_line()
    with tempfile.TemporaryDirectory() as folder, collector(*priority(arguments)) as endpoint:
        server = server_for("redis", Path(folder))
        with quietly(server):
            feed = feed_for(server.url)
            blocks = list(feed.encode(Simulation(round(arguments.tasks * arguments.seconds)).messages()))
            results = [pour(mode, blocks, feed, server.url, endpoint, arguments) for mode in ("plain", "replay")]
            feed.close()
    print(f"{arguments.tasks:,.0f} tasks a second for {arguments.seconds:.0f} s\n\n{table(results)}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in results], indent=2))
    kept, sentence = verdict(results[-1], arguments.tasks)
    print(f"\n{sentence}")
    return int(arguments.check and not kept)


if __name__ == "__main__":
    sys.exit(main())
