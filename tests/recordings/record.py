"""Record what real Celery workers say: one file for each Celery version, pool and scenario.

python tests/recordings/record.py --celery 5.7.0 --pool prefork --scenario retry --output tests/recordings

Each option may be given again; one left out means all. Needs redis-server and, for the scenarios that
say so, rabbitmq-server. Every recording has a broker, ports and folders of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from recordings.scenarios import ALL, SCENARIOS, VERSIONS
from recordings.tables import write_readme

HERE = Path(__file__).parent


class Take(NamedTuple):
    """One recording to make."""

    version: str
    pool: str
    scenario: str

    def file(self, output: Path) -> Path:
        """Return where the recording belongs: <minor version>/<pool>/<scenario>.jsonl."""
        minor = self.version.rpartition(".")[0]
        return output / minor / self.pool / f"{self.scenario}.jsonl"


def takes(versions: list[str], pools: list[str], scenarios: list[str]) -> list[Take]:
    """Return the recordings that are asked for and make sense."""
    return [
        Take(version, pool, name)
        for pool in pools
        for version in versions
        for name in scenarios
        if pool in SCENARIOS[name].pools and version in SCENARIOS[name].versions
    ]


def environment(version: str, folder: Path) -> Path:
    """Return the interpreter of an environment with this version of Celery, made if it is not there."""
    home = folder / version
    python = home / "bin" / "python"
    if not (home / "bin" / "celery").exists():
        venv.create(home, with_pip=True)
        requirements = [f"celery[redis,gevent,eventlet]=={version}", "cryptography"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
    return python


def record(take: Take, *, environments: Path, output: Path) -> str | None:
    """Make one recording and return why it failed, if it did; a second try is made then."""
    python = environments / take.version / "bin" / "python"
    command = [str(python), "-m", "recordings.stage", "--pool", take.pool, "--scenario", take.scenario]
    command += ["--file", str(take.file(output.absolute()))]
    complaint = ""
    for _ in range(2):
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if not done.returncode:
            print(take.file(output), flush=True)
            return None
        complaint = done.stderr[-2000:]
    return f"{take}: {complaint}"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--celery", action="append", choices=VERSIONS)
    parser.add_argument("--pool", action="append", choices=ALL)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--output", type=Path, default=HERE)
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "celery-observe-recordings")
    parser.add_argument("--jobs", type=int, default=5, help="recordings made at the same time")
    parser.add_argument("--only-readme", action="store_true", help="write the tables again, record nothing")
    return parser.parse_args(arguments)


def main() -> int:
    """Record, write the README's tables, and return how many recordings failed."""
    options = parse(sys.argv[1:])
    versions = options.celery or list(VERSIONS)
    wanted = takes(versions, options.pool or list(ALL), options.scenario or list(SCENARIOS))
    failures: list[str] = []
    if not options.only_readme:
        for version in versions:
            environment(version, options.environments)
        work = partial(record, environments=options.environments, output=options.output)
        with ThreadPoolExecutor(options.jobs) as pool:
            failures = [failure for failure in pool.map(work, wanted) if failure]
    write_readme(options.output)
    for failure in failures:
        print(failure, file=sys.stderr)
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
