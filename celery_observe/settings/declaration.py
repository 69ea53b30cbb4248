"""The declarations: one field of `Settings` each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from celery_observe.broker import BrokerSettings
from celery_observe.masking import mask, mask_destination, mask_url

ENV_PREFIX = "CELERY_OBSERVE_"

Seconds = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Buckets = tuple[Seconds, ...]
Amount = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
File = str | None


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of one setting, as command line, environment, TOML and documentation see it."""

    name: str
    type: Any
    default: Any
    help: str
    group: str
    metavar: str
    secret: bool
    separator: str | None
    short: str | None

    @property
    def flag(self) -> str:
        """The command line option."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def env(self) -> str:
        """The environment variable."""
        return f"{ENV_PREFIX}{self.name.upper()}"

    @property
    def form(self) -> Any:
        """What decides how it is written: `bool`, `int`, `dict` (KEY=VALUE), `tuple` (a list), …."""
        return get_origin(self.type) or self.type

    @property
    def default_text(self) -> str:
        """The default as one would write it; empty if there is none."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        return f"{self.default:.15g}" if isinstance(self.default, float | int) else str(self.default or "")

    def show(self, value: Any) -> Any:
        """Return `value` as it may be shown."""
        if self.group == ALERTS and self.secret:
            return mask_destination(value)
        return [mask_url(url) for url in value] if self.secret and self.form is tuple else mask(value)


def _setting(
    group: str,
    text: str,
    metavar: str = "",
    *,
    secret: bool = False,
    separator: str | None = None,
    short: str | None = None,
) -> msgspec.Meta:
    extra = {"group": group, "metavar": metavar, "secret": secret, "separator": separator, "short": short}
    return msgspec.Meta(description=text, extra=extra)


WORKER = "Worker"
"""The group of the settings that only instrumented processes have: no flags of a command line."""

ALERTS = "Alerts"

_source = partial(_setting, "Source")
_worker = partial(_setting, WORKER)
_tasks = partial(_setting, "Tasks")
_queues = partial(_setting, "Queues")
_metrics = partial(_setting, "Metrics")
_server = partial(_setting, "Server")
_replay = partial(_setting, "Traces")
_log = partial(_setting, "Log")
_alerts = partial(_setting, ALERTS)


class Part(msgspec.Struct, frozen=True):
    """One of `count` shards, numbered from 0."""

    index: int
    count: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, defaults filled in. `load` makes them, valid; times are seconds."""

    broker: Annotated[
        tuple[str, ...],
        _source(
            "Broker to observe, as Celery's broker_url. Repeatable as NAME=URL: NAME is the label `broker`. "
            "With --app it replaces the app's broker.",
            "[NAME=]URL",
            secret=True,
            short="-b",
        ),
    ] = ()
    app: Annotated[
        str | None,
        _source(
            "Celery app to take broker, transport options, TLS, event exchange, queues and routes from.",
            "MODULE[:ATTR]",
            short="-A",
        ),
    ] = None
    transport_option: Annotated[
        dict[str, Any],
        _source(
            "One of Celery's broker_transport_options. VALUE is JSON, or else text. Repeatable.",
            "KEY=VALUE",
            secret=True,
        ),
    ] = {}
    listen: Annotated[
        str | None,
        _source(
            "Observe the instrumented processes beside us that report to this socket, instead of a broker.",
            "unix:///PATH",
        ),
    ] = None
    shard: Annotated[
        str | None,
        _source(
            "Count one share of what happens: this one is number INDEX, from 0, of COUNT exporters of the same broker. "
            "auto: the number at the end of the host's name, as in a StatefulSet.",
            "INDEX|auto/COUNT",
        ),
    ] = None
    accept_content: Annotated[
        tuple[str, ...],
        _source(
            "Content types to decode. Pickle lets every publisher run code here: it is refused unless named.",
            "TYPE,…",
            separator=",",
        ),
    ] = ("json",)
    event_exchange: Annotated[str, _source("Exchange of the events.", "NAME")] = "celeryev"
    event_queue_prefix: Annotated[str, _source("What the name of our queue begins with.", "NAME")] = "celeryev"
    event_queue_ttl: Annotated[
        Seconds, _source("How long the broker keeps an event that we have not read yet.", "SECONDS")
    ] = 5.0
    broker_tls_ca_file: Annotated[File, _source("CA to verify the broker with. Turns TLS on.", "FILE")] = None
    broker_tls_cert_file: Annotated[File, _source("Certificate to show the broker. Turns TLS on.", "FILE")] = None
    broker_tls_key_file: Annotated[File, _source("Private key of that certificate.", "FILE")] = None
    broker_tls_insecure: Annotated[
        bool, _source("Do not verify the broker's certificate: for tests. Turns TLS on.")
    ] = False
    enable_events: Annotated[bool, _source("Turn task events on in workers that run without -E.")] = False
    remote_control: Annotated[
        bool, _source("Ask workers by inspect and control. Without it, only events are used.")
    ] = True
    inspect_timeout: Annotated[Seconds, _source("How long workers have to answer.", "SECONDS")] = 1.0
    inspect_interval: Annotated[
        Seconds,
        _source(
            "Time between two questions, each one broadcast; there are six, which take turns.",
            "SECONDS",
        ),
    ] = 5.0
    probe: Annotated[
        Literal["on", "off", "leader"],
        _source(
            "Ask brokers and workers on a timer, do not, or let one of several replicas do it (Redis, RabbitMQ).",
            "on|off|leader",
        ),
    ] = "on"
    state_file: Annotated[File, _source("Where the counters of loss survive a restart.", "FILE")] = None

    task_queue: Annotated[
        dict[str, str],
        _tasks("Queue of the tasks that match, where events do not tell. First match. Repeatable.", "GLOB=QUEUE"),
    ] = {}
    task_allow: Annotated[tuple[str, ...], _tasks("Only these tasks are named in labels. Repeatable.", "GLOB")] = ()
    task_deny: Annotated[tuple[str, ...], _tasks("These tasks are never named in labels. Repeatable.", "GLOB")] = ()
    task_rename: Annotated[
        dict[str, str],
        _tasks("Name the tasks that match have in labels. First match. Repeatable.", "GLOB=NAME"),
    ] = {}
    worker_label: Annotated[
        bool, _tasks("Add the label `worker` to the families of tasks, and count tasks by worker.")
    ] = False

    queue_probe: Annotated[bool, _queues("Ask the broker what queues hold.")] = True
    queue_interval: Annotated[Seconds, _queues("Time between two rounds of these questions.", "SECONDS")] = 10.0
    queue: Annotated[
        tuple[str, ...],
        _queues("Show only these queues, and one without wildcards even while it is empty. Repeatable.", "GLOB"),
    ] = ()
    queue_deny: Annotated[tuple[str, ...], _queues("Never show these queues. Repeatable.", "GLOB")] = ()
    dead_letter: Annotated[
        tuple[str, ...],
        _queues("Queues that hold what failed for good: counted apart from what waits. Repeatable.", "GLOB"),
    ] = ("*dead*letter*", "*dlq*")
    management_url: Annotated[
        tuple[str, ...],
        _queues(
            "RabbitMQ's management API, for what AMQP does not tell. User and password default to the broker's. "
            "Repeatable as NAME=URL, NAME as in --broker.",
            "[NAME=]URL",
            secret=True,
        ),
    ] = ()

    drain_target: Annotated[
        Seconds, _queues("Time in which the desired slots would finish what there is to do in a queue.", "SECONDS")
    ] = 60.0
    min_slots: Annotated[int, msgspec.Meta(ge=0), _queues("Slots desired of each queue, at the least.", "N")] = 0
    max_slots: Annotated[Amount, _queues("Slots desired of each queue, at the most.", "N")] = 1000
    stalled_after: Annotated[
        Seconds, _queues("Call a worker stalled that could take waiting messages and took none for so long.", "SECONDS")
    ] = 60.0

    runtime_buckets: Annotated[
        Buckets,
        _metrics("Upper bounds of the runtime. Default: from 5 ms to 12 h.", "SECONDS,…", separator=","),
    ] = ()
    task_buckets: Annotated[
        dict[str, Buckets],
        _metrics("Those of the tasks that match. First match. Repeatable.", "GLOB=SECONDS,…"),
    ] = {}
    families: Annotated[
        Literal["all", "process"],
        _metrics(
            "Serve all families, or only what events cannot tell, where an exporter counts the rest.", "all|process"
        ),
    ] = "all"
    compat: Annotated[
        tuple[Literal["celery-exporter", "flower"], ...],
        _metrics("Serve the families of that exporter too. Repeatable.", "celery-exporter|flower"),
    ] = ()
    compat_prefix: Annotated[
        str, _metrics("What the names of --compat celery-exporter begin with: its --metric-prefix.", "PREFIX")
    ] = "celery_"
    label_names: Annotated[
        tuple[str, ...],
        _metrics("Labels of your own, which instrumented processes say of tasks.", "NAME,…", separator=","),
    ] = ()
    label_values: Annotated[Amount, _metrics("Values of such a label. More are counted as `__other__`.", "N")] = 100
    push_metrics: Annotated[
        bool,
        _metrics(
            "Push all that is served to an OpenTelemetry Collector too, as OTEL_EXPORTER_OTLP_* say. Needs the extra "
            "otel."
        ),
    ] = False
    push_interval: Annotated[Seconds, _metrics("Time between two pushes.", "SECONDS")] = 15.0
    max_series: Annotated[Amount, _metrics("Series of a family. More are counted as `__other__`.", "N")] = 2000
    max_tracked_tasks: Annotated[Amount, _metrics("Tasks remembered until they end.", "N")] = 40_000
    workflow_quiet: Annotated[
        Seconds,
        _metrics("A workflow has ended when none of its tasks is open and nothing came for so long.", "SECONDS"),
    ] = 10.0
    workflow_timeout: Annotated[
        Seconds, _metrics("Give up on a workflow of which nothing was heard for so long.", "SECONDS")
    ] = 86_400.0
    worker_timeout: Annotated[Seconds, _metrics("Forget a worker that long after it went.", "SECONDS")] = 300.0
    replacement_window: Annotated[
        Seconds,
        _metrics(
            "A worker that comes so long before or after the goodbye of another takes its place; at the most half of "
            "--worker-timeout.",
            "SECONDS",
        ),
    ] = 120.0

    host: Annotated[str, _server("Address to listen on; 0.0.0.0 is all of them.", "ADDRESS")] = "127.0.0.1"
    port: Annotated[Port, _server("Port to listen on; 0 is any free one.", "PORT")] = 9808
    tls_cert_file: Annotated[File, _server("Certificate to serve HTTPS with.", "FILE")] = None
    tls_key_file: Annotated[File, _server("Private key of that certificate.", "FILE")] = None
    tls_client_ca_file: Annotated[File, _server("CA that client certificates must be of.", "FILE")] = None
    basic_auth_file: Annotated[
        File, _server("Demand basic auth. Lines of USER:PASSWORD, re-read on change.", "FILE")
    ] = None
    bearer_token_file: Annotated[File, _server("Demand the bearer token in this file, re-read on change.", "FILE")] = (
        None
    )

    flower_url: Annotated[
        str | None,
        _server("Flower beside us, as browsers reach it: what the page and alerts of hooks link to.", "URL"),
    ] = None

    alert_rule: Annotated[
        tuple[dict[str, Any], ...],
        _alerts("What raises an alert the moment it happens: `[[alert_rule]]` in TOML. Repeatable.", "JSON"),
    ] = ()
    alert_sink: Annotated[
        dict[str, Any],
        _alerts(
            "Where alerts go: `[alert_sink.NAME]` in TOML. A URL is that of a sink whose type is its name. Repeatable.",
            "NAME=URL|JSON",
            secret=True,
        ),
    ] = {}
    alert_link: Annotated[
        dict[str, str],
        _alerts("Link of alerts in which {task}, {queue}, {uuid} and the like are filled in. Repeatable.", "TITLE=URL"),
    ] = {}
    alert_detail: Annotated[
        Literal["auto", "none", "traceback", "text", "arguments"],
        _alerts(
            "What is told of a failure: frames of its traceback, the exception's text too, arguments too (instrumented "
            "workers know them); the last two may hold secrets. auto: traceback, where there are rules.",
            "auto|none|traceback|text|arguments",
        ),
    ] = "auto"
    alert_hooks: Annotated[
        tuple[str, ...], _alerts("Import this module, which has hooks: functions with @on_fact. Repeatable.", "MODULE")
    ] = ()

    replay_traces: Annotated[
        bool,
        _replay(
            "Rebuild OpenTelemetry spans of tasks from events, and export them as OTEL_EXPORTER_OTLP_* say. Needs the "
            "extra otel."
        ),
    ] = False
    replay_ratio: Annotated[
        Annotated[float, msgspec.Meta(ge=0, le=1)],
        _replay("How many of all traces to keep, from 0 to 1, beside those of tasks that fail or are slow.", "RATIO"),
    ] = 1.0
    replay_slow: Annotated[
        Seconds, _replay("An attempt is slow that ran, or waited to run, for so long.", "SECONDS")
    ] = 10.0
    replay_waits: Annotated[bool, _replay("Make a span of the time that a message waits, too.")] = False

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _log("The least severity that is logged.", "debug|info|warning|error"),
    ] = "info"
    log_format: Annotated[Literal["console", "json"], _log("A line for people, or a JSON object.", "console|json")] = (
        "console"
    )

    sidecar: Annotated[
        str | None,
        _worker(
            "Report to the `celery-observe run --listen` at this socket, instead of serving metrics.", "unix:///PATH"
        ),
    ] = None
    resource: Annotated[bool, _worker("Measure CPU time and memory of each attempt.")] = False
    logs: Annotated[
        Literal["off", "console", "json"],
        _worker("Log what becomes of each task, and have all that the worker logs in this form.", "off|console|json"),
    ] = "off"
    log_context: Annotated[
        tuple[str, ...],
        _worker("What of structlog's context goes along from publisher to task.", "NAME,…", separator=","),
    ] = ("request_id",)
    log_exception_text: Annotated[
        bool, _worker("Log the texts of exceptions of tasks too. They may quote arguments.")
    ] = False
    tracing: Annotated[
        bool, _worker("Make OpenTelemetry spans of tasks, where they are published and executed. Needs the extra otel.")
    ] = False
    tracing_links: Annotated[
        bool, _worker("Begin a trace with each attempt, linked to the span that published it instead of within it.")
    ] = False
    tracing_waits: Annotated[bool, _worker("Make a span of the time that a message waits, too.")] = False
    tracing_exception_text: Annotated[
        bool, _worker("Tell the texts of exceptions in spans too. They may quote arguments.")
    ] = False

    brokers: tuple[BrokerSettings, ...] = ()
    """What the group Source amounts to: one for each broker."""
    part: Part | None = None
    """What `shard` amounts to."""
    origins: dict[str, str] = {}
    """What set a setting, such as `--port`, for those that are not defaults."""

    def masked(self) -> dict[str, Any]:
        """Return the declared settings as they may be shown."""
        return {name: setting.show(getattr(self, name)) for name, setting in SETTINGS.items()}

    def origin(self, name: str) -> str:
        """Return what set a setting, or the flag that would."""
        return self.origins.get(name, SETTINGS[name].flag)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.masked().items())
        return f"Settings({shown}, brokers={self.brokers!r})"


FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}
"""What msgspec knows of them."""


def _declared() -> Iterator[Setting]:
    for name, field in FIELDS.items():
        if get_origin(field.type) is Annotated:
            base, *_, meta = get_args(field.type)
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            yield Setting(name=name, type=base, default=default, help=meta.description, **meta.extra)


SETTINGS: dict[str, Setting] = {setting.name: setting for setting in _declared()}
"""Every setting by its name, in the order of `--help`."""
