"""Programs from the packages of another Debian than this one: unpacked in the test environment, never installed."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

HOME = Path(sys.prefix) / "debian"


def unpacked(package: str, suite: str) -> Path:
    """The root folder of what a package holds; fetched in some seconds if it is not there yet."""
    home = HOME / suite / package
    home.mkdir(parents=True, exist_ok=True)
    stamp = home / "complete"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not stamp.exists():
            _fetch(package, suite, home)
            stamp.touch()
    return home / "root"


def _fetch(package: str, suite: str, home: Path) -> None:
    """Download a package with lists and settings that this machine's own apt knows nothing of."""
    sources = home / "sources.list"
    sources.write_text(f"deb {_mirror()} {suite} main\n")
    for folder in ("lists/partial", "cache/archives/partial", "archive"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": home / "lists",
        "Dir::Cache": home / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-q=2", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    subprocess.run([*apt, "update"], check=True, timeout=120)
    subprocess.run([*apt, "download", package], cwd=home / "archive", check=True, timeout=180)
    (archive,) = (home / "archive").glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", archive, home / "root"], check=True, timeout=60)
    archive.unlink()


def _mirror() -> str:
    """Where this machine's own apt has Debian from."""
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(ORIGIN)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    sites = (line.split() for line in listed if line.endswith(" Debian"))
    return next(site for site, codename, *_ in sites if "-" not in codename)
