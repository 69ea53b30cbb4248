"""Flags, environment and TOML become one valid Settings, or an error that says what to do."""

from __future__ import annotations

import runpy
import ssl
from pathlib import Path
from typing import Any

import pytest

from celery_observe.errors import SettingsError
from celery_observe.settings import SETTINGS, Part, Settings, load
from celery_observe.settings.sharding import part, shard_problem

ROOT = Path(__file__).parents[2]
BROKER = {"broker": ("redis://localhost",)}

SERVICE_LINKS = {
    "CELERY_OBSERVE_SERVICE_HOST": "10.0.0.1",
    "CELERY_OBSERVE_SERVICE_PORT": "9808",
    "CELERY_OBSERVE_SERVICE_PORT_METRICS": "9808",
    "CELERY_OBSERVE_PORT": "tcp://10.0.0.1:9808",
    "CELERY_OBSERVE_PORT_9808_TCP": "tcp://10.0.0.1:9808",
    "CELERY_OBSERVE_PORT_9808_TCP_PROTO": "tcp",
    "CELERY_OBSERVE_PORT_9808_TCP_PORT": "9808",
    "CELERY_OBSERVE_PORT_9808_TCP_ADDR": "10.0.0.1",
    "CELERY_OBSERVE_REDIS_SERVICE_HOST": "10.0.0.2",
    "CELERY_OBSERVE_REDIS_PORT": "tcp://10.0.0.2:6379",
    "CELERY_OBSERVE_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2",
}


def loaded(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    """Load settings with a broker."""
    return load(BROKER | flags, environ or {})


def refusal(environ: dict[str, str] | None = None, **flags: Any) -> str:
    """Return the message with which settings are refused."""
    with pytest.raises(SettingsError) as refused:
        loaded(environ, **flags)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def toml(tmp_path: Path, text: str) -> str:
    """Write a TOML file and return its path."""
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    """The four places of a setting have one order."""
    config = toml(tmp_path, "port = 1\nmax_series = 1\nhost = '::1'")
    environ = {"CELERY_OBSERVE_PORT": "2", "CELERY_OBSERVE_MAX_SERIES": "2"}

    settings = loaded(environ, config=config, port="3")

    assert (settings.port, settings.max_series, settings.host, settings.log_level) == (3, 2, "::1", "info")


def test_settings_know_what_set_them(tmp_path: Path) -> None:
    """`origins` names the flag, the variable or the key, and no default."""
    config = toml(tmp_path, "host = '::1'")

    settings = loaded({"CELERY_OBSERVE_PORT": "2"}, config=config)

    assert settings.origins == {
        "broker": "--broker",
        "port": "CELERY_OBSERVE_PORT",
        "host": f"host in {config}",
    }


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    """CELERY_OBSERVE_CONFIG is what --config is."""
    assert loaded({"CELERY_OBSERVE_CONFIG": toml(tmp_path, "port = 7")}).port == 7


def test_variables_that_kubernetes_sets_for_a_service_are_ignored() -> None:
    """A Service called celery-observe, or celery-observe-redis, does not change or break the settings."""
    assert loaded(SERVICE_LINKS) == loaded()


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    """As compose files and charts leave them."""
    assert loaded({"CELERY_OBSERVE_PORT": "", "CELERY_OBSERVE_NONSENSE": ""}) == loaded()


def test_the_off_switch_of_workers_is_accepted() -> None:
    """CELERY_OBSERVE_DISABLED in a shared environment does not stop the exporter."""
    assert loaded({"CELERY_OBSERVE_DISABLED": "1"}) == loaded()


@pytest.mark.parametrize(
    ("environ", "hint"),
    [
        ({"CELERY_OBSERVE_PROT": "1"}, "CELERY_OBSERVE_PORT?"),
        ({"CELERY_OBSERVE_BROKER_URL": "redis://:hunter2@h"}, "CELERY_OBSERVE_BROKER?"),
        ({"CELERY_OBSERVE_XYZZY": "1"}, "--help"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_one(environ: dict[str, str], hint: str) -> None:
    """A typing error in a name is found at start, and its value stays unsaid."""
    message = refusal(environ)

    assert next(iter(environ)) in message
    assert hint in message
    assert "hunter2" not in message


def test_an_unknown_key_of_the_file_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    """So is one in TOML."""
    assert "log-level in" in (message := refusal(config=toml(tmp_path, "log-level = 'info'")))
    assert "Did you mean log_level?" in message


@pytest.mark.parametrize("text", ["port = ", "a = [" + "[" * 5000, "\x00"])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    """With its path."""
    config = toml(tmp_path, text)

    assert f"{config} is not valid TOML" in refusal(config=config)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """TOML is UTF-8."""
    path = tmp_path / "latin.toml"
    path.write_bytes(b"host = '\xff'")

    assert "is not valid TOML" in refusal(config=str(path))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its path and the reason."""
    assert "cannot be read: No such file" in refusal(config=str(tmp_path / "nope.toml"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"port": "abc"}, "--port: Expected int, got 'abc'. Give PORT, such as 9808."),
        ({"port": "70000"}, "--port: Expected int <= 65535, got '70000'. Give PORT, such as 9808."),
        ({"max_series": "0"}, "--max-series: Expected int >= 1, got '0'. Give N, such as 2000."),
        ({"enable_events": "maybe"}, "--enable-events: Expected bool, got 'maybe'. Give true or false."),
        ({"log_level": "loud"}, "--log-level: Invalid, got 'loud'. Give debug or info or warning or error."),
        ({"inspect_timeout": "nan"}, "--inspect-timeout: Expected float > 0.0, got 'nan'."),
        ({"worker_timeout": "inf"}, "--worker-timeout: Expected float <= 1000000000.0, got 'inf'."),
        ({"task_queue": ("mail",)}, "--task-queue: Expected GLOB=QUEUE, got ['mail']. Give GLOB=QUEUE."),
        ({"task_queue": ("a=1", "a=2")}, "--task-queue: Expected one value for a"),
        ({"task_buckets": ("a=1,x",)}, "--task-buckets: Expected float, got ['a=1,x']."),
        ({"task_buckets": ("a=,",)}, "--task-buckets: got none. Give bounds that ascend"),
        ({"task_buckets": ("a=2,1",)}, "--task-buckets: got 2,1. Give bounds that ascend"),
        ({"runtime_buckets": ("1,1",)}, "--runtime-buckets: got 1,1. Give bounds that ascend"),
        ({"label_names": ("tenant,task",)}, "--label-names: 'task' is taken"),
        ({"label_names": ("of whom",)}, "--label-names: 'of whom' is taken, or no name of a label"),
        ({"label_names": ("__name",)}, "--label-names: '__name' is taken, or no name of a label"),
        ({"label_names": ("a,a",)}, "--label-names: got a, a. Give each once"),
        ({"label_names": ("a,b,c,d,e,f",)}, "--label-names: got a, b, c, d, e, f. Give each once, and 5 at the most"),
        ({"label_values": 0}, "--label-values"),
        ({"compat": ("grafana",)}, "--compat: Invalid, got ['grafana']. Give celery-exporter|flower."),
        ({"compat_prefix": "my-"}, "--compat-prefix: no name may begin with 'my-'. Give letters, digits and _."),
        ({"transport_option": ("secret",)}, "--transport-option: Expected KEY=VALUE, got ***."),
        ({"transport_option": ("a={1",)}, "got ***. Give KEY=VALUE."),
        ({"transport_option": ("a=" + "[" * 9000,)}, "got ***. Give KEY=VALUE."),
        ({"accept_content": ("xml",)}, "--accept-content: got ['xml']. Give some of json, "),
        ({"tls_cert_file": "/nope", "tls_key_file": "/nope"}, "--tls-cert-file: '/nope' does not exist"),
        ({"tls_cert_file": "\x00", "tls_key_file": "/nope"}, "--tls-cert-file: "),
        ({"shard": "3"}, "--shard: '3' is no shard. Give INDEX/COUNT, such as 0/3, or auto/3; 1000 at the most."),
        ({"shard": "-1/3"}, "--shard: '-1/3' is no shard."),
        ({"shard": "0/0"}, "--shard: '0/0' is no shard."),
        ({"shard": "0/1001"}, "--shard: '0/1001' is no shard."),
        ({"shard": "٣/4"}, "is no shard."),
        ({"shard": "3/3"}, "--shard: there is no shard 3 of 3: they are numbered from 0."),
        ({"state_file": "/nope/state"}, "--state-file: '/nope' does not exist"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_key_value_and_fix(flags: dict[str, Any], message: str) -> None:
    """One line says where it came from, what was expected, what was got, and what to give."""
    assert message in refusal(**flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"broker": ()}, "give --broker URL or --app MODULE"),
        ({"broker_tls_key_file": "k"}, "--broker-tls-cert-file"),
        ({"broker_tls_insecure": True, "broker_tls_ca_file": "c"}, "give one of them"),
        ({"enable_events": True, "remote_control": False}, "--no-remote-control"),
        ({"tls_cert_file": "c"}, "give both"),
        ({"tls_key_file": "k"}, "give both"),
        ({"tls_client_ca_file": "c"}, "--tls-client-ca-file needs HTTPS"),
        ({"broker": ("memory://",), "broker_tls_insecure": True}, "'memory://' has no TLS"),
        ({"broker": ("redis://a", "redis://b")}, "Give each a NAME=URL of its own"),
        ({"broker": ("n=redis://a", "n=redis://b")}, "Give each a NAME=URL of its own"),
        ({"broker": (), "listen": "unix:///s", "replay_traces": True}, "have the workers trace"),
        ({"broker": (), "listen": "unix:///s", "shard": "0/3"}, "--shard divides the events of a broker"),
        ({"replay_traces": True, "shard": "0/3"}, "run one exporter more for the traces"),
        ({"compat": ("flower",), "shard": "0/3"}, "--compat serves families whose dashboards look at one page"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags: dict[str, Any], message: str) -> None:
    """Both flags are named, and which to give."""
    assert message in refusal(**flags)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pw@localhost:6379/1",
        "rediss://localhost?ssl_cert_reqs=required",
        "redis+socket:///run/redis.sock",
        "sentinel://:pw@a:26379/0;sentinel://:pw@b:26379/0",
        "amqp://guest:guest@localhost:5672//",
        "amqp://a;b",
        "amqps://u:p%40@h/v",
        "pyamqp://",
        "memory://",
        "filesystem://",
        "sqs://",
        "SQS://",
        "sqla+postgresql://u:p@h/db",
        "mongodb://a,b/db",
    ],
)
def test_every_broker_that_kombu_knows_is_accepted(url: str) -> None:
    """What it is like is left to kombu."""
    (broker,) = loaded(broker=(url,)).brokers

    assert (broker.url, broker.name) == (url, "")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redsi://:hunter2@h", "'redsi://:***@h' is for no broker that kombu knows. Begin it with one of SLMQ"),
        ("redis://h;nope://:hunter2@h", "'redis://h;nope:***@h' is for no broker"),
        ("localhost:6379", "'localhost:6379' is not a URL. Give one such as redis://"),
        ("redis:/:hunter2@h", "'***' is not a URL"),
        ("redis://:hunter2", "'redis://***' has no valid host and port. Percent-encode"),
        ("amqp://u:hunter2/@h", "'amqp://u:***@h' has no valid host and port"),
        ("", "'' is not a URL"),
    ],
)
def test_a_url_that_kombu_cannot_use_is_refused_masked(url: str, message: str) -> None:
    """The password in it stays unsaid."""
    assert message in (refused := refusal(broker=(url,)))
    assert "hunter2" not in refused


def test_several_brokers_have_names() -> None:
    """NAME=URL; an equals sign within a URL is part of it."""
    settings = loaded(broker=("main=redis://a", "b-2=amqp://b/v?heartbeat=3"))

    assert [(broker.name, broker.url) for broker in settings.brokers] == [
        ("main", "redis://a"),
        ("b-2", "amqp://b/v?heartbeat=3"),
    ]
    assert loaded(broker=("redis://h/0?a=b",)).brokers[0].name == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3600", 3600),
        ("true", True),
        ("0.5", 0.5),
        ("null", None),
        ("prefix-", "prefix-"),
        ("a=b", "a=b"),
        ('"1"', "1"),
        ('{"password": "x y"}', {"password": "x y"}),
        ("[1, 2]", [1, 2]),
        ("\x06\x16", "\x06\x16"),
    ],
)
def test_a_transport_option_is_json_or_else_text(text: str, value: object) -> None:
    """Numbers are numbers, and text needs no quotes."""
    settings = loaded(transport_option=(f"key={text}",))

    assert settings.transport_option == {"key": value}
    assert settings.brokers[0].transport_options == {"key": value}


@pytest.mark.parametrize(
    ("environ", "toml_text"),
    [
        ("a.*=fast b.*=slow", 'task_queue = { "a.*" = "fast", "b.*" = "slow" }'),
        ("a.*=fast\nb.*=slow\n", 'task_queue = ["a.*=fast", "b.*=slow"]'),
        ('{"a.*": "fast", "b.*": "slow"}', "[task_queue]\n'a.*' = 'fast'\n'b.*' = 'slow'"),
        ('["a.*=fast", "b.*=slow"]', 'task_queue = "a.*=fast b.*=slow"'),
    ],
)
def test_pairs_can_be_written_in_each_place_in_its_own_way(tmp_path: Path, environ: str, toml_text: str) -> None:
    """Flags repeat, the environment separates by white space or is JSON, TOML has tables and lists."""
    expected = {"a.*": "fast", "b.*": "slow"}

    assert loaded(task_queue=("a.*=fast", "b.*=slow")).task_queue == expected
    assert loaded({"CELERY_OBSERVE_TASK_QUEUE": environ}).task_queue == expected
    assert loaded(config=toml(tmp_path, toml_text)).task_queue == expected


def test_lists_can_be_written_in_each_place_in_its_own_way(tmp_path: Path) -> None:
    """So can lists, with commas where the values have none."""
    by_file = loaded(config=toml(tmp_path, "task_deny = ['a', 'b']\nruntime_buckets = [0.5, 1]"))
    by_environ = loaded({"CELERY_OBSERVE_TASK_DENY": "a b", "CELERY_OBSERVE_RUNTIME_BUCKETS": "0.5, 1"})
    by_flags = loaded(task_deny=("a", "b"), runtime_buckets=("0.5,1",))

    for settings in (by_file, by_environ, by_flags):
        assert (settings.task_deny, settings.runtime_buckets) == (("a", "b"), (0.5, 1.0))


def test_task_buckets_are_bounds_by_pattern() -> None:
    """In the order given, for the first match counts."""
    settings = loaded(task_buckets=("b.*=1,10", "a.*=0.1"))

    assert list(settings.task_buckets.items()) == [("b.*", (1.0, 10.0)), ("a.*", (0.1,))]


@pytest.mark.parametrize(
    ("shard", "host", "found"),
    [
        ("1/3", "anywhere", (1, 3)),
        ("auto/3", "celery-observe-2", (2, 3)),
        ("auto/12", "celery-observe-11.celery-observe.default.svc", (11, 12)),
        ("auto/3", "ip-10-0-0-1", (1, 3)),
    ],
)
def test_a_shard_is_given_or_taken_from_the_name_of_the_host(shard: str, host: str, found: tuple[int, int]) -> None:
    """As pods of a StatefulSet are named."""
    settings = Settings(shard=shard)

    assert shard_problem(settings, host) is None
    assert part(settings, host) == Part(*found)


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("web", "--shard: the name of this host, 'web', does not end in -NUMBER. Give INDEX/COUNT."),
        ("celery-observe-7d9f-x2lwq", "does not end in -NUMBER"),
        ("celery-observe-3", "--shard: there is no shard 3 (of 'celery-observe-3') of 3: they are numbered from 0."),
    ],
)
def test_a_host_whose_name_has_no_number_that_fits_is_refused(host: str, problem: str) -> None:
    """Such as the pod of a Deployment, or one more of a StatefulSet than it was told."""
    assert problem in str(shard_problem(Settings(shard="auto/3"), host))


def test_without_a_shard_everything_is_counted() -> None:
    """By default."""
    assert loaded().part is None


def test_pickle_is_accepted_only_when_named() -> None:
    """It runs code of whoever can publish."""
    assert loaded().brokers[0].accept_content == ("json",)
    assert loaded(accept_content=("json,pickle",)).brokers[0].accept_content == ("json", "pickle")


def test_the_case_of_a_log_level_does_not_matter() -> None:
    """INFO is what other tools call it."""
    assert loaded({"CELERY_OBSERVE_LOG_LEVEL": "WARNING"}).log_level == "warning"


def test_tls_settings_are_said_in_the_words_of_the_transport(tmp_path: Path) -> None:
    """redis-py and py-amqp name the same things differently."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    urls = ("r=rediss://h", "a=amqps://h")

    redis, amqp = loaded(broker=urls, broker_tls_ca_file=str(ca)).brokers

    assert redis.use_ssl == {
        "ssl_ca_certs": str(ca),
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
    }
    assert amqp.use_ssl == {"ca_certs": str(ca), "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}


def test_insecure_tls_verifies_nothing() -> None:
    """Neither the certificate nor the name in it."""
    redis, amqp = loaded(broker=("r=redis://h", "a=amqp://h"), broker_tls_insecure=True).brokers

    assert redis.use_ssl == {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}
    assert amqp.use_ssl == {"cert_reqs": ssl.CERT_NONE}
    assert loaded().brokers[0].use_ssl is None


@pytest.mark.parametrize(
    ("url", "tls"),
    [
        ("redis://h", False),
        ("amqp://h", False),
        ("rediss://h", {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}),
        ("amqps://h", {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}),
        ("amqp://h;amqps://i", {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}),
    ],
)
def test_a_broker_whose_url_asks_for_tls_is_verified(url: str, tls: bool | dict[str, object]) -> None:
    """Certificate and host; of several URLs one that asks is enough."""
    assert loaded(broker=(url,)).brokers[0].tls == tls


def test_settings_hide_secrets_when_printed() -> None:
    """In URLs, their queries, lists of them, and transport options at any depth."""
    settings = loaded(
        broker=("sentinel://:hunter2@a:1;sentinel://u:hunter2@b:2/0?password=hunter2",),
        transport_option=('sentinel_kwargs={"password": "hunter2"}', "password=hunter2", "sep=|"),
    )

    shown = f"{settings!r} {settings!s} {settings.brokers[0]!r}"

    assert "hunter2" not in shown
    assert "sentinel://:***@a:1;sentinel://u:***@b:2/0?password=***" in shown
    assert "'sep': '|'" in shown


def test_each_setting_says_what_it_is() -> None:
    """The declaration is all that help and documentation have."""
    for setting in SETTINGS.values():
        assert setting.help.endswith("."), setting.name
        assert setting.group in {"Source", "Tasks", "Queues", "Metrics", "Server", "Alerts", "Traces", "Log", "Worker"}
        assert bool(setting.metavar) is (setting.form is not bool), setting.name


def test_the_page_of_settings_is_that_of_the_declarations() -> None:
    """`scripts/document_settings.py` writes it anew."""
    script = runpy.run_path(str(ROOT / "scripts" / "document_settings.py"))

    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == script["page"]()


def test_the_example_file_is_valid() -> None:
    """It can be run as it is."""
    settings = load({"config": str(ROOT / "examples" / "celery-observe.toml")}, {})

    assert [broker.name for broker in settings.brokers] == ["main", "reports"]
    assert settings.task_buckets["shop.reports.*"][-1] == 3600.0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"management_url": ("rabbit:15672",)},
            "--management-url: 'rabbit:15672' is not a URL. Give http://HOST:15672.",
        ),
        ({"management_url": ("http://u:hunter2@:1",)}, "is not a URL"),
        ({"management_url": ("x=http://h",)}, "no --broker is called 'x'"),
        ({"broker": ("a=amqp://h", "b=amqp://i"), "management_url": ("http://h",)}, "no --broker is called ''"),
    ],
)
def test_a_management_url_that_leads_nowhere_is_refused(given: dict[str, Any], problem: str) -> None:
    """It belongs to one of the brokers."""
    with pytest.raises(SettingsError) as caught:
        load({"broker": ("amqp://h",)} | given, {})

    assert problem in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_management_url_is_shown_without_its_password() -> None:
    """As that of a broker is."""
    settings = load({"broker": ("amqp://h",), "management_url": ("http://u:hunter2@h:15672",)}, {})

    assert settings.masked()["management_url"] == ["http://u:***@h:15672"]
    assert "hunter2" not in repr(settings)


def test_flower_is_linked_to_where_it_is() -> None:
    """A path in front of its pages is kept."""
    assert loaded(flower_url="https://h.example/flower").flower_url == "https://h.example/flower"


@pytest.mark.parametrize(
    "url", ["h:5555", "javascript:alert(1)", "http://", "http://u:hunter2@h:5555", "http://h/?a=b"]
)
def test_a_url_of_flower_that_is_no_plain_one_is_refused(url: str) -> None:
    """It is shown to all who see the page: so it has no login, and leads to a server."""
    message = refusal(flower_url=url)

    assert message.startswith("--flower-url: ")
    assert "Give http://HOST:5555" in message
    assert "hunter2" not in message
