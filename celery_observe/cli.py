"""The command line: `celery-observe run`, `health`, `trace` and others, and `celery -A proj observe`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import click
import msgspec
from click.core import ParameterSource

from celery_observe import __version__, app, logs
from celery_observe.broker import BrokerSettings
from celery_observe.errors import CeleryObserveError, SettingsError
from celery_observe.findings import FORMATS, Report, Severity, exit_code
from celery_observe.masking import mask_text
from celery_observe.settings import SETTINGS, WORKER, Setting, Settings, load

EPILOG = (
    "Every option is also an environment variable, --log-level for example CELERY_OBSERVE_LOG_LEVEL, and a key of "
    "the TOML file, log_level. A flag goes before the environment, which goes before the file."
)


class Refusal(click.ClickException):
    """What was asked for cannot be done: one line on stderr, exit code 2, no traceback."""

    exit_code = 2


@contextmanager
def _masked() -> Iterator[None]:
    """Mask what click quotes: a broker URL that stands where no argument belongs, for example."""
    try:
        yield
    except click.UsageError as error:
        raise click.UsageError(mask_text(error.format_message()), error.ctx) from None


@contextmanager
def _refusing() -> Iterator[None]:
    """Show our own errors as one line: exit code 2 for settings, 1 for what went wrong at work."""
    try:
        yield
    except SettingsError as error:
        raise Refusal(str(error)) from None
    except CeleryObserveError as error:
        raise click.ClickException(str(error)) from None


class _Group(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        with _masked():
            return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _masked():
            return super().parse_args(ctx, args)


class _Command(click.Command):
    """A command whose options are listed by the group of their setting."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _masked():
            return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, params in groupby(self.get_params(ctx), lambda param: getattr(param, "group", "Options")):
            with formatter.section(group):
                formatter.write_dl(filter(None, (param.get_help_record(ctx) for param in params)))


class _SettingOption(click.Option):
    """The command line option of a setting. Its value stays text: `settings.load` converts and validates."""

    def __init__(self, setting: Setting) -> None:
        self.group = setting.group
        super().__init__(
            [setting.name, _declaration(setting), *filter(None, [setting.short])],
            type=bool if setting.form is bool else click.UNPROCESSED,
            default=None,
            multiple=setting.form in {tuple, dict},
            metavar=setting.metavar or None,
            help=setting.help + _default(setting),
            # `celery` reads CELERY_<command>_<option>, which is our prefix: `settings.load` knows which to ignore.
            allow_from_autoenv=False,
        )


def _declaration(setting: Setting) -> str:
    return f"{setting.flag}/--no-{setting.flag[2:]}" if setting.form is bool else setting.flag


def _default(setting: Setting) -> str:
    return f"  [default: {setting.default_text}]" if setting.default_text else ""


def _options(settings: Iterable[Setting]) -> list[click.Parameter]:
    """Return the options of a command that runs the pipeline."""
    config = click.Option(["--config"], metavar="FILE", allow_from_autoenv=False, help="TOML file with settings.")
    check = click.Option(
        ["--check"], is_flag=True, allow_from_autoenv=False, help="Show the settings in effect, and exit."
    )
    return [*(_SettingOption(setting) for setting in settings if setting.group != WORKER), config, check]


def _reporting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that reports findings."""
    severities = click.Choice([*(str(severity) for severity in Severity), "never"])
    return click.option("--format", "form", type=click.Choice([*FORMATS]), default="text", show_default=True)(
        click.option(
            "--fail-on",
            type=severities,
            default="warning",
            show_default=True,
            help="The least severity that makes the exit code 3, or 4 if critical.",
        )(command)
    )


def _tell(ctx: click.Context, report: Report, form: str, fail_on: str) -> None:
    """Print a report, and exit as its findings demand."""
    click.echo(FORMATS[form](report))
    ctx.exit(exit_code(report.findings, None if fail_on == "never" else Severity(fail_on)))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="celery-observe")
def main() -> None:
    """Metrics of Celery from the events of its broker, and how far they can be believed."""


@main.command("run", cls=_Command, params=_options(SETTINGS.values()), epilog=EPILOG)
@click.pass_context
def run(ctx: click.Context, /, *, check: bool, **flags: Any) -> None:
    """Read the events of a broker and serve metrics."""
    with _refusing():
        settings = load(flags)
        if settings.app:
            settings = app.with_app(settings, app.load_app(settings.app))
        _start(ctx, settings, check=check)


@click.command(
    "observe",
    cls=_Command,
    params=_options(setting for name, setting in SETTINGS.items() if name not in {"broker", "app"}),
    epilog=EPILOG,
)
@click.pass_context
def observe(ctx: click.Context, /, *, check: bool, **flags: Any) -> None:
    """Read the events of this app's broker and serve metrics."""
    celery = ctx.obj.app
    with _refusing():
        settings = load(flags | {"app": celery.main or "default"})
        _start(ctx, app.with_app(settings, celery), check=check)


def _start(ctx: click.Context, settings: Settings, *, check: bool) -> None:
    if check:
        _check_alerts(settings)
        _check_opentelemetry(settings)
        click.echo("\n".join(_in_effect(settings)))
        return
    logs.configure(settings.log_level, settings.log_format)
    from celery_observe import pipeline  # noqa: PLC0415 - --help and --check do without it

    ctx.exit(pipeline.run(settings))


def _check_alerts(settings: Settings) -> None:
    from celery_observe import delivery  # noqa: PLC0415 - who has no alerts does without

    delivery.plan(settings)


def _check_opentelemetry(settings: Settings) -> None:
    if settings.replay_traces or settings.push_metrics:
        from celery_observe import pipeline  # noqa: PLC0415 - who has neither does without

        for wanted, check in ((settings.replay_traces, pipeline.replayer), (settings.push_metrics, pipeline.pusher)):
            if wanted:
                check(settings)


def _in_effect(settings: Settings) -> Iterator[str]:
    """Yield the lines of a TOML file that says the same, with what set each value, and then the brokers."""
    for name, value in settings.masked().items():
        origin = settings.origins.get(name)
        comment = f"  # {origin}" if origin else ""
        yield f"# {name} =" if value is None else f"{name} = {_toml(value)}{comment}"
    for broker in settings.brokers:
        yield from _described(broker)


def _described(broker: BrokerSettings) -> Iterator[str]:
    yield f"\n# broker {broker.name or broker.masked_url}"
    yield from (f"#   {name} = {value!r}" for name, value in broker.masked().items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(str(key))} = {_toml(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, default=str)


@main.command("metrics", cls=_Command)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
def metrics(form: Literal["table", "markdown", "json"]) -> None:
    """Print the catalogue: every metric family that can be served."""
    from celery_observe.metrics import CATALOGUE  # noqa: PLC0415 - other commands do without it

    rows = [(family.name, str(family.kind), ", ".join(family.labels), family.help) for family in CATALOGUE]
    click.echo(_FORMATS[form](("name", "type", "labels", "help"), rows))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    )


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows])


def _json(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [dict(zip(header, row, strict=True)) for row in rows]
    return msgspec.json.format(msgspec.json.encode(table)).decode()


_FORMATS: dict[str, Callable[[Sequence[str], Sequence[Sequence[str]]], str]] = {
    "table": _table,
    "markdown": _markdown,
    "json": _json,
}


@main.command("health", cls=_Command)
@click.option(
    "--port", metavar="PORT", help="Port of the worker or exporter on this host; CELERY_OBSERVE_PORT or 9808."
)
@click.option("--host", metavar="ADDRESS", help="Its address; CELERY_OBSERVE_HOST or 127.0.0.1.")
@click.option(
    "--ready", is_flag=True, help="Ask whether it does its work (/readyz), not only whether it lives (/healthz)."
)
@click.option("--broker", "-b", metavar="URL", help="Ask all workers of this broker instead.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, metavar="SECONDS"
)
@click.pass_context
def health(ctx: click.Context, /, *, ready: bool, broker: str | None, timeout: float, **flags: Any) -> None:
    """Tell as JSON and by the exit code, 0 or 1, whether a process, or a broker's workers, are healthy."""
    from celery_observe import health as check  # noqa: PLC0415 - other commands do without

    with _refusing():
        if broker:
            answer = check.of_cluster(load({"broker": (broker,)}).brokers[0], timeout)
        else:
            answer = check.of_process(load(flags, instrumented=True), ready=ready, timeout=timeout)
    click.echo(msgspec.json.encode(answer))
    ctx.exit(0 if answer.is_healthy else 1)


@main.command("trace", cls=_Command)
@click.argument("root_id")
@click.option("--url", metavar="URL", help="Exporter, sidecar or worker to ask.  [default: http://127.0.0.1:9808]")
@click.option("--basic-auth-file", metavar="FILE", help="Whose first line is USER:PASSWORD to show.")
@click.option("--bearer-token-file", metavar="FILE", help="Whose first line is the token to show.")
@click.option("--ca-file", metavar="FILE", help="CA to verify its certificate with, for https.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True, metavar="SECONDS"
)
def trace(*, root_id: str, url: str | None, ca_file: str | None, timeout: float, **flags: Any) -> None:
    """Print the tasks of a recent workflow as a tree; a * marks its critical path."""
    from celery_observe import trace as tracing  # noqa: PLC0415 - other commands do without

    with _refusing():
        settings = load(flags, instrumented=True)
        printed = tracing.lines(root_id, url, settings, ca_file=ca_file, timeout=timeout)
    click.echo("\n".join(printed))


_LOOKING = (
    {name for name, setting in SETTINGS.items() if setting.group == "Source"}
    - {"listen", "enable_events", "remote_control", "inspect_interval", "probe", "state_file"}
) | {"queue", "queue_deny", "dead_letter", "management_url"}
"""The settings of a look that is taken once."""


@main.command(
    "doctor",
    cls=_Command,
    params=[*(_SettingOption(setting) for name, setting in SETTINGS.items() if name in _LOOKING)],
    epilog="The exit code is 4 if something critical was found, 3 for a warning, 0 otherwise. See docs/doctor.md.",
)
@click.option("--config", metavar="FILE", help="TOML file with settings; CELERY_OBSERVE_CONFIG.")
@click.option(
    "--listen-for",
    type=click.FloatRange(min=0, max=600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Read events for so long.",
)
@_reporting
@click.pass_context
def doctor(ctx: click.Context, /, *, listen_for: float, form: str, fail_on: str, **flags: Any) -> None:
    """Check a live system against a checklist for production, and change nothing."""
    from celery_observe import doctor as house_call  # noqa: PLC0415 - other commands do without

    logs.configure("error", "console")
    with _refusing():
        settings = load(flags)
        celery = app.load_app(settings.app) if settings.app else None
        settings = app.with_app(settings, celery) if celery else settings
        if len(settings.brokers) > 1:
            raise SettingsError("doctor looks at one broker at a time: give one --broker.")
        report = house_call.examine(settings, celery, listen=listen_for)
    _tell(ctx, report, form, fail_on)


@main.command("lint", cls=_Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(exists=True, path_type=Path))
@click.option("--select", multiple=True, metavar="RULE", help="Apply only this rule. Repeatable.")
@click.option("--ignore", multiple=True, metavar="RULE", help="Do not apply this rule. Repeatable.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out matching files or folders. Repeatable.")
@click.option(
    "--visibility-timeout", type=float, metavar="SECONDS", help="That of the broker.  [default: as in source]"
)
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Instead of pyproject.toml at or above."
)
@_reporting
@click.pass_context
def lint(
    ctx: click.Context, /, *, paths: tuple[Path, ...], config: Path | None, form: str, fail_on: str, **flags: Any
) -> None:
    """Find Celery's known traps in source, without importing it."""
    from celery_observe import lint as linting  # noqa: PLC0415 - other commands do without

    if ctx.get_parameter_source("fail_on") is ParameterSource.COMMANDLINE:
        flags["fail_on"] = fail_on
    with _refusing():
        options = linting.load(paths[0], flags, config)
        report = linting.lint(paths, options)
    _tell(ctx, report, form, options.fail_on)


@main.group("alerts", cls=_Group)
def alerts() -> None:
    """Alerts by hooks: see docs/hooks.md."""


@alerts.command("facts", cls=_Command)
def alerts_facts() -> None:
    """Print what rules can be about: each fact, and the keys of its conditions."""
    from celery_observe.hooks.conditions import FACTS, keys  # noqa: PLC0415 - other commands do without

    click.echo(_table(("on", "conditions"), [(name, " ".join(keys(kind))) for name, kind in FACTS.items()]))


@alerts.command("test", cls=_Command)
@click.option("--config", metavar="FILE", help="TOML file with settings; CELERY_OBSERVE_CONFIG.")
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="NAME[=URL|JSON]",
    help="A sink of the settings, or any. Repeatable. Default: all of the settings.",
)
@click.pass_context
def alerts_test(ctx: click.Context, /, *, sinks: tuple[str, ...], config: str | None) -> None:
    """Send a test alert to sinks, and its end; the exit code is 1 if one does not take it."""
    from celery_observe import delivery  # noqa: PLC0415 - other commands do without

    given = tuple(sink for sink in sinks if "=" in sink)
    with _refusing():
        settings = load({"config": config, "alert_sink": given}, instrumented=True)
        answers = list(delivery.rehearse(settings, [sink.partition("=")[0] for sink in sinks]))
    for name, problem in answers:
        click.echo(f"{name}: {problem or 'delivered'}", err=bool(problem))
    ctx.exit(1 if any(problem for _name, problem in answers) else 0)


@main.command("demo", cls=_Command)
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="End by itself.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port of the exporter; 0 is any free one, for what stands around it too.",
)
@click.option("--broker", metavar="URL", help="Broker to use instead of the embedded one.")
@click.option("--flower", is_flag=True, help="Start a Flower beside it.")
@click.option("--traces", is_flag=True, help="Have workers and beat trace what they do, and send that by OTEL_*.")
@click.option(
    "--prometheus/--no-prometheus",
    default=True,
    help="Start Prometheus and Alertmanager with the shipped rules, if they are installed.  [default: yes]",
)
@click.option(
    "--browser/--no-browser",
    default=True,
    help="Open the live page, if there is a display and a terminal.  [default: yes]",
)
@click.pass_context
def demo(ctx: click.Context, /, **options: Any) -> None:
    """Run a shop of real workers under load, with a broker of its own, and the exporter that watches it."""
    from celery_observe import demo as shop  # noqa: PLC0415 - needs the extra `demo`

    with _refusing():
        ctx.exit(shop.run(**options))
