"""Environments with other versions of Celery, for workers that are not of today."""

from __future__ import annotations

import sys
from pathlib import Path

from services.environments import environment

HOME = Path(sys.prefix) / "celery"


def interpreter(version: str) -> str:
    """The Python of an environment with this version of Celery, and gevent; made in some 6 s if it is not there yet."""
    return str(environment(HOME / version, f"celery[redis,gevent]=={version}") / "bin" / "python")


def packages(version: str) -> Path:
    """Its packages, to be put before those of this environment: what is instrumented needs both."""
    return Path(interpreter(version)).parents[1] / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
