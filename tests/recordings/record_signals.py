"""Record which signals real Celery workers send, and in which order: one file for each Celery version and pool.

python tests/recordings/record_signals.py --celery 5.7.0 --pool prefork --output tests/recordings

Each option may be given again; one left out means all. Needs redis-server. All takes some ten minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from recordings.record import HERE, environment
from recordings.scenarios import VERSIONS
from recordings.signals import ALL


def record(python: Path, pool: str, file: Path) -> str | None:
    """Make one recording and return why it failed, if it did."""
    command = [str(python), "-m", "recordings.signals", "--pool", pool, "--file", str(file.absolute())]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    print(file if not done.returncode else f"{file} failed", flush=True)
    return done.stderr[-2000:] if done.returncode else None


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--celery", action="append", choices=VERSIONS)
    parser.add_argument("--pool", action="append", choices=ALL)
    parser.add_argument("--output", type=Path, default=HERE)
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "celery-observe-recordings")
    parser.add_argument("--jobs", type=int, default=5, help="recordings made at the same time")
    return parser.parse_args(arguments)


def main() -> int:
    """Record, and return how many recordings failed."""
    options = parse(sys.argv[1:])
    with ThreadPoolExecutor(options.jobs) as jobs:
        takes = [
            jobs.submit(record, python, pool, options.output / version.rpartition(".")[0] / f"signals-{pool}.json")
            for version in options.celery or VERSIONS
            for python in [environment(version, options.environments)]
            for pool in options.pool or ALL
        ]
        failures = [failure for take in takes if (failure := take.result())]
    print(*failures, sep="\n", file=sys.stderr)
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
