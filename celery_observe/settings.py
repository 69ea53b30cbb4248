"""Flags, `CELERY_OBSERVE_*` and a TOML file → one frozen, validated `Settings`.

A setting is declared once, as a field of `Settings`: its flag, environment variable, TOML key, help and row
of `docs/settings.md` derive from the declaration. This is the only file that reads `os.environ`.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
from kombu.serialization import registry

from celery_observe import broker
from celery_observe.broker import BrokerSettings
from celery_observe.errors import SettingsError
from celery_observe.masking import MASK, mask, mask_url

__all__ = ["SETTINGS", "BrokerSettings", "Setting", "Settings", "load"]

ENV_PREFIX = "CELERY_OBSERVE_"
RESERVED = frozenset({"CELERY_OBSERVE_CONFIG", "CELERY_OBSERVE_DISABLED"})
"""Environment variables that are no settings: where the TOML file is, and the off switch inside workers."""

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

_source = partial(_setting, "Source")
_worker = partial(_setting, WORKER)
_tasks = partial(_setting, "Tasks")
_queues = partial(_setting, "Queues")
_metrics = partial(_setting, "Metrics")
_server = partial(_setting, "Server")
_log = partial(_setting, "Log")


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
    inspect_interval: Annotated[Seconds, _source("Time between two rounds of questions.", "SECONDS")] = 30.0
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
    label_names: Annotated[
        tuple[str, ...],
        _metrics("Labels of your own, which instrumented processes say of tasks.", "NAME,…", separator=","),
    ] = ()
    label_values: Annotated[Amount, _metrics("Values of such a label. More are counted as `__other__`.", "N")] = 100
    max_series: Annotated[Amount, _metrics("Series of a family. More are counted as `__other__`.", "N")] = 2000
    max_tracked_tasks: Annotated[Amount, _metrics("Tasks remembered until they end.", "N")] = 50_000
    worker_timeout: Annotated[Seconds, _metrics("Forget a worker that long after it went.", "SECONDS")] = 300.0

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

    brokers: tuple[BrokerSettings, ...] = ()
    """What the group Source amounts to: one for each broker."""
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


_FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def _declared() -> Iterator[Setting]:
    for name, field in _FIELDS.items():
        if get_origin(field.type) is Annotated:
            base, *_, meta = get_args(field.type)
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            yield Setting(name=name, type=base, default=default, help=meta.description, **meta.extra)


SETTINGS: dict[str, Setting] = {setting.name: setting for setting in _declared()}
"""Every setting by its name, in the order of `--help`."""


class _Given(NamedTuple):
    value: Any
    origin: str


def is_disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether CELERY_OBSERVE_DISABLED turns instrumentation off."""
    return environ.get("CELERY_OBSERVE_DISABLED", "").lower() not in {"", "0", "false", "no"}


def load(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ, *, instrumented: bool = False) -> Settings:
    """Merge flags over environment over TOML file over defaults, and validate.

    The keys of `flags` are names of settings, or `config`, the path of the TOML file; None and () are unset.
    A setting comes whole from the highest place that has it: lists and mappings are not merged. An `instrumented`
    process observes itself: it needs no source.

    Raises:
        SettingsError: a setting is unknown, malformed or contradicts another; the message has the fix.
    """
    flags = {name: value for name, value in flags.items() if value is not None and value != ()}
    file = flags.pop("config", None) or environ.get("CELERY_OBSERVE_CONFIG")
    given = {**(_from_file(file) if file else {}), **_from_environ(environ), **_from_flags(flags)}
    settings = Settings(
        **{name: _convert(SETTINGS[name], item) for name, item in given.items()},
        origins={name: item.origin for name, item in given.items()},
    )
    problem = _source_problem(settings) if not instrumented else None
    problem = problem or next(filter(None, (check(settings) for check in _CHECKS)), None)
    if problem:
        raise SettingsError(problem)
    return msgspec.structs.replace(settings, brokers=_brokers(settings))


def _from_flags(flags: Mapping[str, Any]) -> dict[str, _Given]:
    return {name: _Given(value, SETTINGS[name].flag) for name, value in flags.items()}


def _from_environ(environ: Mapping[str, str]) -> dict[str, _Given]:
    names = {setting.env: setting.name for setting in SETTINGS.values()}
    given = {}
    for key, value in environ.items():
        if not key.startswith(ENV_PREFIX) or not value or key in RESERVED or _is_service_link(key, value):
            continue
        if key not in names:
            hint = _did_you_mean(key.removeprefix(ENV_PREFIX), [name.upper() for name in SETTINGS], ENV_PREFIX)
            raise SettingsError(f"{key} is not a setting. {hint}")
        given[names[key]] = _Given(value, key)
    return given


_SERVICE_LINK = re.compile(r"\w+_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


def _is_service_link(key: str, value: str) -> bool:
    """Tell whether Kubernetes set the variable, for a Service whose name begins with `celery-observe`.

    Kubernetes documentation: Service, Discovering services, Environment variables.
    """
    return bool(_SERVICE_LINK.fullmatch(key) or (key.endswith("_PORT") and _SERVICE_URL.match(value)))


def _from_file(path: str) -> dict[str, _Given]:
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--config {path} is not valid TOML: {error}.") from None
    for key in table:
        if key not in SETTINGS:
            raise SettingsError(f"{key} in {path} is not a setting. {_did_you_mean(key, SETTINGS)}")
    return {key: _Given(value, f"{key} in {path}") for key, value in table.items()}


def _did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {prefix}{close[0]}?" if close else "`celery-observe run --help` lists the settings."


def _convert(setting: Setting, given: _Given) -> Any:
    try:
        return msgspec.convert(_shape(setting, given.value), _FIELDS[setting.name].type, strict=False)
    except (msgspec.MsgspecError, ValueError) as error:
        reason = re.sub(r" enum value '.*'|, got `\w+`| - at `.*`$|`", "", str(error))
    except RecursionError:
        reason = "Nested too deeply"
    raise SettingsError(f"{given.origin}: {reason}, got {_shown(setting, given.value)}. Give {_example(setting)}.")


def _shown(setting: Setting, value: Any) -> str:
    """Return what was given, shortened. What was not understood is not searched for secrets: it is one."""
    return MASK if setting.secret else f"{mask(value)!r:.100}"


def _example(setting: Setting) -> str:
    if setting.form is bool:
        return "true or false"
    if setting.form is Literal:
        return " or ".join(get_args(setting.type))
    return f"{setting.metavar}, such as {setting.default_text}" if setting.default_text else setting.metavar


def _shape(setting: Setting, value: Any) -> Any:
    """Return what msgspec can convert: texts taken apart into lists and mappings."""
    if setting.form is dict:
        return _mapping(setting, value)
    if setting.form is tuple:
        return _items(value, setting.separator)
    return value.lower() if setting.form is Literal and isinstance(value, str) else value


def _items(value: Any, separator: str | None = None) -> Any:
    """Return the items of a text: JSON, or separated by `separator` (None: white space)."""
    if isinstance(value, str):
        return msgspec.json.decode(value) if value.startswith("[") else _split(value, separator)
    if isinstance(value, tuple) and separator:
        return [item for text in value for item in _split(text, separator)]
    return value


def _split(text: str, separator: str | None) -> list[str]:
    return [item.strip() for item in text.split(separator) if item.strip()]


def _mapping(setting: Setting, value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return msgspec.json.decode(value)
    if isinstance(value, Mapping) or not isinstance(value, str | tuple | list):
        return value
    mapping: dict[str, Any] = {}
    for pair in _items(value):
        key, _, text = str(pair).partition("=")
        if not key or not text:
            raise ValueError(f"Expected {setting.metavar}")
        if key in mapping:
            raise ValueError(f"Expected one value for {key}")
        mapping[key] = _value(text, get_args(setting.type)[1])
    return mapping


def _value(text: str, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        return _split(text, ",")
    if kind is not Any:
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        if text.startswith(("{", "[", '"')):
            raise
        return text


def _brokers(settings: Settings) -> tuple[BrokerSettings, ...]:
    return tuple(
        BrokerSettings(
            name=name,
            url=url,
            transport_options=settings.transport_option,
            use_ssl=use_ssl(settings, url),
            accept_content=settings.accept_content,
            event_exchange=settings.event_exchange,
            event_queue_prefix=settings.event_queue_prefix,
            event_queue_ttl=settings.event_queue_ttl,
            task_queue=settings.task_queue,
        )
        for name, url in map(broker.name_and_url, settings.broker)
    )


def use_ssl(settings: Settings, url: str) -> dict[str, Any] | None:
    """Return what the settings `broker_tls_*` amount to for a broker; None if none is given."""
    files = {
        "ca_certs": settings.broker_tls_ca_file,
        "certfile": settings.broker_tls_cert_file,
        "keyfile": settings.broker_tls_key_file,
    }
    given = {word: path for word, path in files.items() if path}
    insecure = settings.broker_tls_insecure
    return broker.tls_options(broker.transport_of(url), given, verify=not insecure) if given or insecure else None


_CONTRADICTIONS: tuple[tuple[Callable[[Settings], Any], str], ...] = (
    (
        lambda s: s.listen and (s.broker or s.app),
        "--listen and --broker or --app would count each task twice: give one of them.",
    ),
    (
        lambda s: s.sidecar and s.listen,
        "CELERY_OBSERVE_SIDECAR is where workers report, --listen where they are heard: one process has one of them.",
    ),
    (
        lambda s: s.broker_tls_key_file and not s.broker_tls_cert_file,
        "--broker-tls-key-file needs --broker-tls-cert-file, the certificate that the key belongs to.",
    ),
    (
        lambda s: s.broker_tls_insecure and s.broker_tls_ca_file,
        "--broker-tls-insecure verifies nothing, --broker-tls-ca-file verifies with a CA: give one of them.",
    ),
    (
        lambda s: s.min_slots > s.max_slots,
        "--min-slots is above --max-slots: there is no number between them.",
    ),
    (
        lambda s: s.enable_events and not s.remote_control,
        "--enable-events needs the remote control that --no-remote-control forbids: give one of them.",
    ),
    (
        lambda s: bool(s.tls_cert_file) != bool(s.tls_key_file),
        "--tls-cert-file and --tls-key-file need each other: give both.",
    ),
    (
        lambda s: s.tls_client_ca_file and not s.tls_cert_file,
        "--tls-client-ca-file needs HTTPS: give --tls-cert-file and --tls-key-file too.",
    ),
)


def _source_problem(settings: Settings) -> str | None:
    if settings.broker or settings.app or settings.listen:
        return None
    return "Nothing to observe: give --broker URL or --app MODULE (CELERY_OBSERVE_BROKER, CELERY_OBSERVE_APP)."


def _socket_problem(settings: Settings) -> str | None:
    for name in ("listen", "sidecar"):
        url = getattr(settings, name)
        if url and not broker.socket_path(url):
            return f"{settings.origin(name)}: {mask_url(url)!r} is no socket. Give unix:///run/celery-observe.sock."
    return None


def _contradiction(settings: Settings) -> str | None:
    return next((message for holds, message in _CONTRADICTIONS if holds(settings)), None)


def _broker_problem(settings: Settings) -> str | None:
    named = [broker.name_and_url(text) for text in settings.broker]
    origin = settings.origin("broker")
    for _, url in named:
        problem = broker.url_problem(url)
        if problem:
            return f"{origin}: {problem}"
        if use_ssl(settings, url) and broker.transport_of(url) not in broker.REDIS | broker.AMQP:
            return f"{origin}: {mask_url(url)!r} has no TLS. Leave the settings --broker-tls-* out."
    names = [name for name, _ in named]
    if len(names) > 1 and (not all(names) or len(set(names)) < len(names)):
        return f"{origin}: got {', '.join(map(mask_url, settings.broker))}. Give each a NAME=URL of its own."
    return None


def _management_problem(settings: Settings) -> str | None:
    brokers = {broker.name_and_url(text)[0] for text in settings.broker} or {""}
    for name, url in map(broker.name_and_url, settings.management_url):
        if not broker.is_http_url(url):
            return f"{settings.origin('management_url')}: {mask_url(url)!r} is not a URL. Give http://HOST:15672."
        if name not in brokers:
            return f"{settings.origin('management_url')}: no --broker is called {name!r}. Give it the NAME of one."
    return None


def _content_problem(settings: Settings) -> str | None:
    known = registry.name_to_type
    unknown = [content for content in settings.accept_content if content not in {*known, *known.values()}]
    if settings.accept_content and not unknown:
        return None
    return f"{settings.origin('accept_content')}: got {unknown}. Give some of {', '.join(sorted(known))}."


def _bucket_problem(settings: Settings) -> str | None:
    for name, buckets in (
        ("runtime_buckets", settings.runtime_buckets or (1.0,)),
        *(("task_buckets", buckets) for buckets in settings.task_buckets.values()),
    ):
        if not buckets or any(low >= high for low, high in pairwise(buckets)):
            shown = ",".join(f"{bound:g}" for bound in buckets)
            return f"{settings.origin(name)}: got {shown or 'none'}. Give bounds that ascend, such as 0.1,1,10."
    return None


_TAKEN = frozenset({"task", "queue", "worker", "outcome", "runtime", "broker", "le", "quantile"})
"""Names of labels that stand, or may stand, beside users' own."""
_MOST_LABELS = 5


def _label_problem(settings: Settings) -> str | None:
    names = settings.label_names
    origin = settings.origin("label_names")
    for name in names:
        if name in _TAKEN or not re.fullmatch(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", name):
            return f"{origin}: {name!r} is taken, or no name of a label. Give letters, digits and _, such as tenant."
    if len(set(names)) < len(names) or len(names) > _MOST_LABELS:
        return f"{origin}: got {', '.join(names)}. Give each once, and {_MOST_LABELS} at the most."
    return None


def _file_problem(settings: Settings) -> str | None:
    for name in (name for name in SETTINGS if name.endswith("_file") and getattr(settings, name)):
        path = Path(getattr(settings, name))
        if name == "state_file":
            path = path.absolute().parent
        if not path.exists() or not os.access(path, os.R_OK):
            return f"{settings.origin(name)}: {str(path)!r} does not exist or may not be read. Create it first."
    return None


_CHECKS = (
    _contradiction,
    _socket_problem,
    _broker_problem,
    _management_problem,
    _content_problem,
    _bucket_problem,
    _label_problem,
    _file_problem,
)


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment for a child, with `changes` and without any CELERY_*."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CELERY_")} | changes
