"""Play what happens to tasks with a real worker, and write down the signals that Celery sends, in their order.

Runs in the environment of the Celery to be recorded: `python -m recordings.signals`, started by record_signals.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from recordings import shop
from services.process import Process
from services.redis import Redis

TESTS = Path(__file__).parents[1]
ALL = ("prefork", "threads", "gevent", "eventlet", "solo")

#: Seconds without another signal after which a play is over; the pool looks for lost children every five.
QUIET = 1.5
LOST_QUIET = 6.0


class Play(NamedTuple):
    """One thing that happens to a task."""

    publish: Callable[[], object]
    pools: tuple[str, ...] = ALL
    quiet: float = QUIET


def sent(task: str, *args: object, **named: object) -> Callable[[], object]:
    """Return what publishes a task of the shop; looked up only then, for the shop wants its configuration."""
    return lambda: getattr(shop, task).delay(*args, **named)


def terminate() -> None:
    """Revoke a task while it runs."""
    running = shop.wait.delay(3)
    time.sleep(0.5)
    running.revoke(terminate=True)


def revoke_scheduled() -> None:
    """Revoke a task that waits for its ETA."""
    later = shop.add.apply_async((2, 3), countdown=1)
    time.sleep(0.3)
    later.revoke()


PLAYS = {
    "success": Play(sent("add", 2, 3)),
    "failure": Play(sent("pay")),
    "retry": Play(sent("fetch", 1)),
    "retries_exhausted": Play(sent("autofetch")),
    "ignore": Play(sent("ignore")),
    "replace": Play(sent("replace")),
    "reject": Play(sent("reject", requeue=False)),
    "reject_requeue": Play(sent("reject", requeue=True), quiet=4.0),
    "result_not_encodable": Play(sent("unprintable")),
    "unregistered": Play(lambda: shop.app.send_task("shop.closed")),
    "expired": Play(lambda: shop.add.apply_async((2, 3), expires=-1)),
    "revoked": Play(revoke_scheduled),
    "terminated": Play(terminate, ("prefork", "gevent", "eventlet"), 3.0),
    "soft_limit": Play(sent("soft"), ("prefork",), 3.0),
    "hard_limit": Play(sent("hard"), ("prefork", "gevent", "eventlet"), 3.0),
    "lost_child": Play(sent("sigkill"), ("prefork",), LOST_QUIET),
    "lost_child_requeue": Play(sent("sigkill_late"), ("prefork",), LOST_QUIET),
}


class Notes:
    """The file to which a worker writes its signals."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0

    def settled(self, quiet: float) -> list[str]:
        """Return the signals since the last time, once there are no more for some seconds."""
        lines, heard = self._lines(), time.monotonic()
        while not lines or time.monotonic() - heard < quiet:
            time.sleep(0.1)
            if len(now := self._lines()) > len(lines):
                lines, heard = now, time.monotonic()
        self._read += len(lines)
        return [self._short(line) for line in sorted(lines, key=lambda line: int(line["at"]))]

    def _lines(self) -> list[dict[str, str]]:
        text = self._file.read_text() if self._file.exists() else ""
        return [json.loads(line) for line in text.splitlines()][self._read :]

    @staticmethod
    def _short(line: dict[str, str]) -> str:
        remark = f"[{line['remark']}]" if line["remark"] else ""
        return f"{line['signal']}{remark}@{line['where']}"


def play(pool: str) -> dict[str, list[str]]:
    """Return the signals of all plays on a pool."""
    with tempfile.TemporaryDirectory(prefix="signals-", ignore_cleanup_errors=True) as name, ExitStack() as ending:
        folder = Path(name)
        redis = ending.enter_context(Redis(folder))
        settings = {"broker_url": redis.url, "result_backend": redis.url, "worker_proc_alive_timeout": 20.0}
        (folder / "celeryconfig.py").write_text("".join(f"{key} = {value!r}\n" for key, value in settings.items()))
        sys.path.insert(0, name)
        command = [sys.executable, "-m", "celery", "-A", "recordings.witness", "worker", "-n", "worker@host"]
        path = {"PYTHONPATH": f"{folder}:{TESTS}", "WITNESS": str(folder / "notes"), "C_FORCE_ROOT": "1"}
        worker = Process("worker", [*command, "-P", pool, "-c", "1", "-l", "INFO", "--without-mingle"], folder, path)
        ending.enter_context(worker).wait_output(" ready.", 60.0)
        notes = Notes(folder / "notes")
        return {each: _signals(PLAYS[each], notes) for each in PLAYS if pool in PLAYS[each].pools}


def _signals(one: Play, notes: Notes) -> list[str]:
    one.publish()
    return notes.settled(one.quiet)


def main() -> None:
    """Record one pool into a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", required=True, choices=ALL)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args()
    with redirect_stdout(sys.stderr):
        plays = play(options.pool)
    packages = {package: version(package) for package in ("celery", "kombu", "billiard")}
    recording = {**packages, "python": platform.python_version(), "pool": options.pool, "plays": plays}
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_text(json.dumps(recording, indent=1) + "\n")


if __name__ == "__main__":
    main()
