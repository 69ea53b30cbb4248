"""Environments of their own, for what cannot be installed beside the rest; made once in the test environment."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path


def environment(home: Path, *requirements: str, python: str = sys.executable) -> Path:
    """The folder of an environment in which `pip install` has installed these; made if it is not there yet."""
    wanted = "\n".join(requirements)
    stamp = home / "complete"
    home.parent.mkdir(exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not stamp.exists() or stamp.read_text() != wanted:
            _make(home, requirements, python)
            stamp.write_text(wanted)
    return home


def _make(home: Path, requirements: tuple[str, ...], python: str) -> None:
    subprocess.run([python, "-m", "venv", "--without-pip", "--clear", home], check=True, timeout=60)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "--python", home / "bin" / "python", "install", *requirements], check=True, timeout=180)
