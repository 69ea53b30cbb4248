"""Where celery-observe spends its time while it reads events: a sampling profile by line and by module.

The samples are taken from outside by py-spy, which needs the right to trace the process (root, or
`kernel.yama.ptrace_scope` 0).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import corpus
from consumers import DEFAULT_CACHE, OURS_CONSUMER, Running, peers, quietly
from feed import feed_for, server_for

from services.waiting import eventually

FRAME = re.compile(r"(?P<function>.+) \((?P<file>.+):(?P<line>\d+)\)")
RATE = 500  # samples a second


def shown(frame: str) -> tuple[str, str]:
    """The module and the line of a frame, `file.py` and `function file.py:12`."""
    found = FRAME.fullmatch(frame)
    if found is None:
        return "?", frame
    path = "/".join(Path(found["file"]).parts[-2:])
    return path, f"{found['function']} {path}:{found['line']}"


def summary(samples: str, top: int) -> str:
    """The share of each module and line, as tables of Markdown; a sample belongs to the innermost frame."""
    modules: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for row in samples.splitlines():
        stack, _, times = row.rpartition(" ")
        module, line = shown(stack.rpartition(";")[2])
        modules[module] += int(times)
        lines[line] += int(times)
    return "\n\n".join(shares(counts, top) for counts in (modules, lines))


def shares(counts: Counter[str], top: int) -> str:
    """The largest shares in per cent."""
    rows = [f"| {100 * times / counts.total():.1f} | {what} |" for what, times in counts.most_common(top)]
    return "\n".join(["| % | where |", "|---:|---|", *rows])


def profile(running: Running, cache: Path, seconds: int, file: Path) -> subprocess.Popen[bytes]:
    """Start py-spy at the running process; it writes to `file` after so many seconds."""
    command = [str(cache / "peers" / "bin" / "py-spy"), "record", "--nonblocking", "--format", "raw"]
    options = {"--pid": running.pid, "--rate": RATE, "--duration": seconds, "--output": file}
    command += [str(word) for option in options.items() for word in option]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(arguments: argparse.Namespace) -> str:
    """Profile one pour."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = server_for(arguments.broker, folder)
        with quietly(server):
            feed = feed_for(server.url)
            blocks = list(feed.encode(corpus.messages(arguments.events)))
            running = Running(OURS_CONSUMER, server.url, folder, arguments.cache / "peers" / "bin")
            with quietly(running):
                eventually(lambda: feed.listeners() or not running.running, 60, what="it listens")
                running.quiet()
                profiler = profile(running, arguments.cache, arguments.seconds, folder / "samples")
                deadline = time.monotonic() + arguments.seconds
                while time.monotonic() < deadline:
                    feed.pour(blocks)
                profiler.wait()
            feed.close()
        return (folder / "samples").read_text()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("redis", "rabbitmq"), default="redis")
    parser.add_argument("--events", type=int, default=100_000, help="poured again and again")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--top", type=int, default=25, help="rows of each table")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where py-spy is installed")
    arguments = parser.parse_args()
    peers(arguments.cache)
    print(summary(measure(arguments), arguments.top))


if __name__ == "__main__":
    main()
