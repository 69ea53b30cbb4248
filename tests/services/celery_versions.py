"""Environments with other versions of Celery, for workers that are not of today."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import venv
from pathlib import Path

HOME = Path(sys.prefix) / "celery"


def interpreter(version: str) -> str:
    """The Python of an environment with this version of Celery, and gevent; made in some 6 s if it is not there yet."""
    home = HOME / version
    HOME.mkdir(exist_ok=True)
    with (HOME / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not (home / "complete").exists():
            _make(home, version)
    return str(home / "bin" / "python")


def packages(version: str) -> Path:
    """Its packages, to be put before those of this environment: what is instrumented needs both."""
    return Path(interpreter(version)).parents[1] / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"


def _make(home: Path, version: str) -> None:
    venv.create(home, clear=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "--python",
        str(home / "bin" / "python"),
    ]
    subprocess.run([*pip, "install", f"celery[redis,gevent]=={version}"], check=True, timeout=90)
    (home / "complete").touch()
