"""What is published of this project, and environments of those who install it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

from services.environments import environment

ROOT = Path(__file__).parents[2]
PINNED = ROOT / "requirements" / "runtime.txt"
HOME = Path(sys.prefix) / "installations"


def build(source: Path, folder: Path, epoch: int = 1_700_000_000) -> tuple[Path, Path]:
    """Build sdist and wheel from the source in a folder, as `make dist` does: their paths."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    subprocess.run(command, cwd=source, env=env, check=True, timeout=100, capture_output=True)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@dataclass(frozen=True)
class Installation:
    """The product in an environment of its own.

    Args:
        python: the interpreter of the environment, which has the dependencies.
        packages: the folder into which the wheel is unpacked.
    """

    python: str
    packages: Path

    @classmethod
    def make(cls, home: Path, wheel: Path, folder: Path) -> Installation:
        """Unpack a wheel into a folder, to be run in the environment at `home`."""
        zipfile.ZipFile(wheel).extractall(folder)
        return cls(str(home / "bin" / "python"), folder)

    @property
    def command(self) -> list[str]:
        """The product's command line; it needs `env`."""
        return [self.python, "-P", "-m", "celery_observe"]

    def env(self, *folders: Path) -> dict[str, str]:
        """What makes the product importable, and modules of these folders."""
        return {"PYTHONPATH": os.pathsep.join(map(str, (*folders, self.packages)))}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end."""
        return subprocess.run(
            command, env={**os.environ, **self.env()}, capture_output=True, text=True, check=False, timeout=60
        )


def lowest() -> list[str]:
    """All that pyproject.toml declares for users, each at its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = chain(project["dependencies"], *project["optional-dependencies"].values())
    declared = [Requirement(line) for line in lines if not line.startswith(project["name"])]
    return [f"{each.name}=={bound.version}" for each in declared for bound in each.specifier]


def lowest_environment() -> Path:
    """An environment with these: made in some 10 s if it is not there yet."""
    return environment(HOME / "lowest", *lowest())


def pinned_environment(python: str, version: str) -> Path:
    """An environment of this interpreter with what `requirements/runtime.txt` pins, made in the same time."""
    pins = hashlib.sha256(PINNED.read_bytes()).hexdigest()[:12]
    options = ("--no-deps", "--require-hashes", "--requirement", str(PINNED))
    return environment(HOME / f"{version}-{pins}", *options, python=python)


def interpreter(version: str) -> str | None:
    """The path of a Python of this minor version that works: of the PATH, or installed beside the one that runs us."""
    beside = Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python{version}")
    candidates = [shutil.which(f"python{version}"), *map(str, beside)]
    return next((path for path in candidates if path and _works(path)), None)


def _works(python: str) -> bool:
    found = subprocess.run([python, "-c", "import ssl, venv"], check=False, capture_output=True, timeout=30)
    return found.returncode == 0
