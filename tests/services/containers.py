"""Images and containers without a daemon: buildah builds, podman runs, and the base is made of Debian's packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from services.process import Process

PROGRAMS = ("buildah", "podman", "crun", "mmdebstrap", "unshare")
PYTHON = "3.13"
"""Of Debian's trixie, as in the base that the Dockerfile names."""
MEMORY, ROOM = Path("/dev/shm"), 4_000_000_000
_PACKAGES = "ca-certificates,python3,python3-venv"
_ANY_SIGNATURE = {"default": [{"type": "insecureAcceptAnything"}]}
# As strict as Kubernetes' profile "restricted". Of a mixed hierarchy of cgroups crun understands the old half only.
_RUN = ["run", "--no-healthcheck", "--cgroups=disabled", "--network=host", "--read-only", "--read-only-tmpfs=false"]
_RUN += ["--cap-drop=all", "--security-opt=no-new-privileges", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]
_APART = 'if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"'
_IN_OWN_MOUNTS = ("unshare", "--mount", "sh", "-c", _APART, "sh")


def installed() -> bool:
    """Whether all that is needed to build and run images is there."""
    return all(map(shutil.which, PROGRAMS))


@cache
def allowed() -> bool:
    """Whether we may: root, with the right to have mounts of our own."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


@contextmanager
def roomy_folder() -> Iterator[Path]:
    """A folder for a gigabyte or two, for a while: in memory if that can be, as disks are slow."""
    with TemporaryDirectory(dir=MEMORY if _can_be_in_memory() else None, prefix="containers-") as folder:
        Path(folder).chmod(0o755)  # users without a name look into it
        yield Path(folder)


def _can_be_in_memory() -> bool:
    if not MEMORY.exists() or shutil.disk_usage(MEMORY).free < ROOM:
        return False
    return not os.statvfs(MEMORY).f_flag & (os.ST_NOEXEC | os.ST_NODEV)


class Containers:
    """A store of images and containers in a folder, which nothing outside knows of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._store = ("--root", str(folder / "store"), "--runroot", str(folder / "run"))
        self._policy = folder / "policy.json"
        self._policy.write_text(json.dumps(_ANY_SIGNATURE))

    def make_base(self, name: str) -> None:
        """Make a minimal Debian with Python, and give it the name of the base that a Dockerfile wants."""
        archive = self.folder / "base.tar"
        command = ["mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", "--dpkgopt=force-unsafe-io"]
        _done([*command, "trixie", str(archive)], TMPDIR=str(self.folder))
        self.podman("import", str(archive), name)
        archive.unlink()

    def build(self, context: Path, tag: str, wheels: Path, **arguments: str) -> None:
        """Build the Dockerfile of a folder, with no network: pip takes all from `wheels`."""
        pip = self.folder / "pip.conf"
        pip.write_text("[install]\nno-index = true\nfind-links = /wheels\n")
        command = ["buildah", *self._store, "bud", "--isolation=chroot", "--pull-never", "--format=docker"]
        command += ["--signature-policy", str(self._policy), "--volume", f"{wheels}:/wheels:ro"]
        command += ["--secret", f"id=pip,src={pip}", "--tag", tag]
        command += [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        _done([*command, str(context)])

    def podman(self, *arguments: str) -> str:
        """Run podman on this store; what it prints."""
        return _done([*_IN_OWN_MOUNTS, "podman", *self._store, *arguments])

    def inspect(self, image: str) -> dict[str, Any]:
        """What podman knows of an image."""
        (found,) = json.loads(self.podman("image", "inspect", image))
        return dict(found)

    def container(
        self, image: str, *arguments: str, options: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Container:
        """A container to be started: `options` are podman's, `arguments` are those of the image's entry point."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        settings = [word for key, value in (env or {}).items() for word in ("--env", f"{key}={value}")]
        command = [*_IN_OWN_MOUNTS, "podman", *self._store, *_RUN, "--name", name, *options, *settings]
        return Container(name, [*command, image, *arguments], self)

    def output(self, image: str, *arguments: str, entrypoint: str) -> str:
        """What a program of an image prints; it must succeed."""
        return self.podman(*_RUN, "--rm", "--entrypoint", entrypoint, image, *arguments)


class Container(Process):
    """A container in the foreground: signals go through, its exit code is the program's."""

    def __init__(self, name: str, command: Sequence[str], containers: Containers) -> None:
        super().__init__(name, command, containers.folder)
        self._containers = containers

    def execute(self, *command: str) -> str:
        """What a program prints that runs inside; it must succeed."""
        return self._containers.podman("exec", self.name, *command)

    @property
    def since(self) -> float:
        """When its program was started, in Unix seconds: what podman did before, such as copying layers, is over."""
        (found,) = json.loads(self._containers.podman("container", "inspect", self.name))
        return datetime.fromisoformat(found["State"]["StartedAt"]).timestamp()

    def kill(self) -> None:
        """Remove it: it would outlive the podman that started it."""
        self._containers.podman("rm", "--force", "--ignore", "--time=0", self.name)
        super().kill()


def download(wheels: Path, *requirements: Path) -> None:
    """Get the wheels that locks name, for the Python of the base, each with one of its hashes."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
    command += ["--only-binary=:all:", f"--python-version={PYTHON}", f"--dest={wheels}"]
    _done([*command, *(word for file in requirements for word in ("--requirement", str(file)))])


def _done(command: Sequence[str], **env: str) -> str:
    ended = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}:\n{ended.stdout[-4_000:]}\n{ended.stderr[-4_000:]}"
    return ended.stdout
