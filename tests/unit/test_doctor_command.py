"""The command line of the doctor: its options, its formats and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from celery_observe import cli, doctor, logs
from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import diagnose
from celery_observe.findings import Report
from celery_observe.settings import Settings
from unit.healthy import HEALTHY, but, redis, told


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, float]]:
    """What the doctor was asked to look at, and for how long; it sees `HEALTHY`."""
    return of(monkeypatch, HEALTHY)


def of(monkeypatch: pytest.MonkeyPatch, evidence: Evidence) -> list[tuple[Settings, float]]:
    """Let the doctor see this."""
    asked: list[tuple[Settings, float]] = []

    def examine(settings: Settings, _celery: Any = None, *, listen: float) -> Report:
        asked.append((settings, listen))
        found = diagnose(evidence)
        return Report(tool="doctor", subject="s", rules=found.rules, findings=found.findings, unchecked=found.unchecked)

    monkeypatch.setattr(doctor, "examine", examine)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    return asked


def invoked(*arguments: str) -> Result:
    """Run a command line in this process."""
    return CliRunner().invoke(cli.main, ["doctor", *arguments])


def test_settings_are_handed_on(looks: list[tuple[Settings, float]]) -> None:
    """Those of the source and of queues, and for how long to listen."""
    result = invoked("-b", "redis://h", "--inspect-timeout", "3", "--queue", "a", "--listen-for", "9")

    ((settings, listen),) = looks
    assert result.exit_code == 0
    assert (settings.brokers[0].url, settings.inspect_timeout, settings.queue, listen) == (
        "redis://h",
        3.0,
        ("a",),
        9.0,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [((), 4), (("--fail-on", "critical"), 4), (("--fail-on", "never"), 0), (("--fail-on", "info"), 4)],
)
def test_the_exit_code_is_that_of_the_worst(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int
) -> None:
    """Here of something critical."""
    of(monkeypatch, told(accept_content=["pickle"]))

    assert invoked("-b", "redis://h", *arguments).exit_code == code


@pytest.mark.parametrize(("arguments", "code"), [((), 3), (("--fail-on", "critical"), 0)])
def test_a_warning_is_less(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int) -> None:
    """It may be let pass."""
    of(monkeypatch, but(redis=redis(disconnected=2)))

    assert invoked("-b", "redis://h", *arguments).exit_code == code


@pytest.mark.usefixtures("looks")
def test_what_is_worth_knowing_only_is_let_pass() -> None:
    """Unless it is asked for."""
    assert invoked("-b", "redis://h").exit_code == 0
    assert invoked("-b", "redis://h", "--fail-on", "info").exit_code == 3


@pytest.mark.usefixtures("looks")
def test_each_format_can_be_had() -> None:
    """And text has no colours where there is no terminal."""
    assert invoked("-b", "redis://h").output.startswith("celery-observe doctor: s\n")
    assert "\x1b" not in invoked("-b", "redis://h").output
    assert json.loads(invoked("-b", "redis://h", "--format", "json").output)["counts"]["critical"] == 0
    assert json.loads(invoked("-b", "redis://h", "--format", "sarif").output)["version"] == "2.1.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Nothing to observe"),
        (("-b", "a=redis://a", "-b", "b=redis://b"), "doctor looks at one broker at a time"),
        (("-b", "nope://:hunter2@h"), "--broker: 'nope://:***@h'"),
        (("-A", "no_such_app"), "--app no_such_app cannot be loaded"),
        (("-b", "redis://h", "--format", "xml"), "Invalid value for '--format'"),
        (("-b", "redis://h", "--enable-events"), "No such option"),
        (("-b", "redis://h", "--listen-for", "-1"), "Invalid value for '--listen-for'"),
    ],
)
def test_what_cannot_be_is_refused_with_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    """In a line, without a password."""
    result = invoked(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("named", "file"),
    [
        ("module_of_doctor", "module_of_doctor.py"),
        ("attribute_of_doctor:app", "attribute_of_doctor.py"),
        ("package_of_doctor", "package_of_doctor/celery.py"),
    ],
)
def test_findings_stand_at_the_file_of_the_app(
    named: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative to where the command ran, as code scanning wants it."""
    text = "from celery import Celery\napp = Celery('shop', broker='redis://127.0.0.1:1', set_as_current=False)\n"
    (tmp_path / "package_of_doctor").mkdir()
    (tmp_path / "package_of_doctor" / "__init__.py").touch()
    (tmp_path / file).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda *_: None)

    run = json.loads(invoked("-A", named, "--format", "sarif").output)["runs"][0]

    uris = {each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in run["results"]}
    assert uris == {file}
