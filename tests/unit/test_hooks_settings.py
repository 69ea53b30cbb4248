"""Rules, sinks and hooks as users write them: in TOML, the environment, flags and Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_observe.cli import main
from celery_observe.delivery import plan
from celery_observe.errors import SettingsError
from celery_observe.hooks import on_fact
from celery_observe.hooks.conditions import FACTS, keys
from celery_observe.hooks.registry import detail_level, registered
from celery_observe.hooks.rule import KEYS, rules
from celery_observe.settings import Settings, load
from celery_observe.sinks import sink_for, sink_types

RULES = """
[[alert_rule]]
name = "charge"
on = "failed"
task = ["payments.*", "billing.*"]
severity = "critical"
sinks = ["pager"]
labels = { team = "payments" }

[[alert_rule]]
name = "lost"
on = "worker_exited"
kind = "lost"
until = { on = "worker_up", up_over = 0 }

[alert_sink.pager]
type = "pagerduty"
routing_key = "hunter2"

[alert_sink]
slack = "https://hooks.slack.com/services/T0/B0/hunter2"

[alert_link]
Flower = "https://flower/task/{uuid}"
"""


def loaded(environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    """Load settings with a broker."""
    return load({"broker": ("redis://localhost",), **flags}, environ or {})


def refusal(settings: Settings) -> str:
    """Return the message with which the plan of settings is refused."""
    with pytest.raises(SettingsError) as refused:
        plan(settings)
    assert "hunter2" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The path of a file with the rules above."""
    path = tmp_path / "observe.toml"
    path.write_text(RULES.replace("\n[alert_sink]\n", "\n[alert_sink.slack]\n").replace('slack = "', 'url = "'))
    return str(path)


@pytest.fixture
def no_hooks() -> Iterator[None]:
    """Whatever is registered, is not afterwards."""
    before = dict(registered)
    registered.clear()
    yield
    registered.clear()
    registered.update(before)


@pytest.mark.usefixtures("no_hooks")
def test_a_file_has_rules_sinks_and_links(config: str) -> None:
    """As tables."""
    found = plan(loaded(config=config))

    charge, lost = found.rules
    assert (charge.name, charge.severity, charge.sinks, charge.labels) == (
        "charge",
        "critical",
        ("pager",),
        {"team": "payments"},
    )
    assert lost.until
    assert charge.links == {"Flower": "https://flower/task/{uuid}"}
    assert sorted(found.sinks) == ["pager", "slack"]


def test_flags_and_environment_have_them_as_json() -> None:
    """And a sink as a URL, where its name says its type."""
    rule = json.dumps({"on": "failed", "task": "a b"})
    by_flag = loaded(
        alert_rule=(rule,), alert_sink=("slack=https://h/x", 'hook={"type": "webhook", "url": "http://h"}')
    )
    by_environ = loaded(
        {"CELERY_OBSERVE_ALERT_RULE": f"[{rule}]", "CELERY_OBSERVE_ALERT_SINK": "slack=https://h/x"},
    )
    by_call = load({"alert_rule": [{"on": "failed", "task": "a b"}]}, {}, instrumented=True)

    assert by_flag.alert_rule == by_environ.alert_rule == by_call.alert_rule == ({"on": "failed", "task": "a b"},)
    assert by_flag.alert_sink == {"slack": "https://h/x", "hook": {"type": "webhook", "url": "http://h"}}
    assert by_environ.alert_sink == {"slack": "https://h/x"}
    assert sorted(plan(by_flag).sinks) == ["hook", "slack"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"alert_rule": [{"on": "failed"}]}, "--alert-rule: nobody is told. Give an alert_sink too."),
        ({"alert_rule": [{"on": "faild"}]}, "--alert-rule, rule 1: on: there is no fact 'faild'. Did you mean failed?"),
        ({"alert_sink": {"slak": "https://h/hunter2"}}, "--alert-sink, sink slak: there is no type 'slak'."),
        ({"alert_sink": {"slack": {"urll": "hunter2"}}}, "urll (got ***) is no option. Did you mean url?"),
        (
            {"alert_rule": [{"on": "failed", "sinks": ["pager"]}], "alert_sink": {"slack": "https://h/hunter2"}},
            "rule 'failed': there is no sink 'pager', but slack.",
        ),
        ({"alert_hooks": ["no.such.module"]}, "--alert-hooks: no.such.module cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_cannot_work_is_refused_with_the_fix(flags: dict[str, Any], said: str) -> None:
    """No value of a sink is shown."""
    assert said in refusal(loaded(**flags))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"alert_rule": ("{",)}, "--alert-rule: "),
        ({"alert_rule": ("7",)}, "--alert-rule: Expected object, got ["),
        ({"alert_sink": ("slack",)}, "--alert-sink: Expected NAME=URL|JSON, got ***."),
        ({"alert_detail": "all"}, "--alert-detail: Invalid, got 'all'. Give auto or none or traceback"),
    ],
)
def test_what_is_no_rule_or_sink_is_refused_at_once(flags: dict[str, Any], said: str) -> None:
    """When settings are loaded."""
    with pytest.raises(SettingsError) as refused:
        loaded(**flags)

    assert said in str(refused.value)


def test_check_shows_no_secrets_and_refuses_what_cannot_work(config: str, tmp_path: Path) -> None:
    """`run --check` says what the start would."""
    shown = CliRunner().invoke(main, ["run", "--check", "--broker", "redis://localhost", "--config", config])
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(RULES.replace("lost", "losst"))
    refused = CliRunner().invoke(main, ["run", "--check", "--broker", "redis://localhost", "--config", str(wrong)])

    assert shown.exit_code == 0, shown.output
    assert "hunter2" not in shown.output
    assert "https://hooks.slack.com/***" in shown.output
    assert refused.exit_code == 2
    assert "no kind is 'losst'. Give some of shutdown, lost, restarted." in refused.output


ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a slow one is no failure
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=5,
)
KEY = st.sampled_from([*KEYS, *keys(FACTS["failed"]), *keys(FACTS["ended"]), "type", "url", "secret", "template"])


@ANY_MACHINE
@given(st.sampled_from(sorted(FACTS)), st.dictionaries(KEY, JSON, max_size=4))
def test_any_rule_is_taken_or_refused(on: str, table: dict[str, Any]) -> None:
    """In one line."""
    with suppress(SettingsError):
        rules([{"on": on, **table}], "--alert-rule", {})


@ANY_MACHINE
@given(st.sampled_from(sorted(sink_types())), st.dictionaries(KEY | st.text(max_size=9), JSON, max_size=4))
@pytest.mark.filterwarnings("ignore")
def test_any_sink_is_taken_or_refused_and_not_shown(kind: str, table: dict[str, Any]) -> None:
    """Whatever its options are; passwords least of all."""
    try:
        shown = repr(sink_for("mine", {**table, "secret": "hunter2", "type": kind}, "--alert-sink"))
    except SettingsError as refused:
        shown = str(refused)

    assert "hunter2" not in shown


@pytest.mark.usefixtures("no_hooks")
def test_a_function_can_be_a_hook() -> None:
    """With the keys of a rule; decorating never raises, what is wrong is told when the pipeline is built."""

    @on_fact("ended", runtime_over=60, severity="critical")
    def slow(found: Any) -> str:
        return f"{found.task} is slow"

    ((rule, call),) = plan(loaded()).hooks
    assert (rule.name, rule.severity, call) == ("slow", "critical", slow)
    assert slow.__name__ == "slow"

    on_fact("endet")(lambda _found: None)
    assert "@on_fact" in (said := refusal(loaded()))
    assert "Did you mean ended?" in said


@pytest.mark.usefixtures("no_hooks")
def test_details_are_kept_only_if_somebody_may_be_told() -> None:
    """Rules or hooks; or else if the settings say so."""
    assert detail_level(loaded()) == "none"
    assert detail_level(loaded(alert_rule=[{"on": "failed"}])) == "traceback"
    assert detail_level(loaded(alert_detail="arguments")) == "arguments"
    assert detail_level(loaded(alert_detail="none", alert_rule=[{"on": "failed"}])) == "none"
    on_fact("failed")(lambda _found: None)
    assert detail_level(loaded()) == "traceback"
