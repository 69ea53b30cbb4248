"""`celery-observe doctor`, run as users run it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from services.exporter import COMMAND
from services.worker import TESTS


class Look(NamedTuple):
    """What it printed as JSON, and its exit code."""

    code: int
    told: dict[str, Any]

    def of(self, rule: str) -> list[dict[str, Any]]:
        """What one check found."""
        return [each for each in self.told["findings"] if each["rule"] == rule]

    @property
    def severities(self) -> dict[str, str]:
        """The worst severity of each check that found something."""
        return {each["rule"]: each["severity"] for each in reversed(self.told["findings"])}

    @property
    def unchecked(self) -> dict[str, str]:
        """The checks that could not look, and why."""
        return {each["rule"]: each["reason"] for each in self.told["unchecked"]}


def printed(*arguments: str, form: str = "json", env: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code and the output of one run."""
    command = [*COMMAND, "doctor", "--format", form, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), **(env or {})}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert not ran.stderr, ran.stderr
    return ran.returncode, ran.stdout


def look(*arguments: str, app: str = "", broker: str = "", celery: Path | None = None, **conf: Any) -> Look:
    """Run it, with an app for a broker if one is named, and with the packages of another Celery if they are given."""
    env = {"SAMPLE_BROKER": broker, "SAMPLE_CONF": json.dumps(conf)} if app else {}
    env |= {"PYTHONPATH": os.pathsep.join(map(str, (celery, TESTS)))} if celery else {}
    source = ["-A", app] if app else ["-b", broker]
    code, output = printed(*source, *arguments, env=env)
    return Look(code, json.loads(output))
