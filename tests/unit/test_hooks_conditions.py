"""What rules ask of facts, and what they refuse to be asked."""

from __future__ import annotations

from typing import Any

import pytest

from celery_observe.errors import SettingsError
from celery_observe.fact import (
    Cause,
    Ended,
    Exit,
    Fact,
    Failed,
    Finished,
    Outcome,
    Started,
    Waited,
    WorkerExited,
    WorkerUp,
)
from celery_observe.hooks.conditions import FACTS, keys
from celery_observe.hooks.rule import KEYS, Rule, rule, rules

FAILED = Failed("payments.charge", "pay", "w1@h", "ConnectionError", Cause.EXCEPTION)


def made(**table: Any) -> Rule:
    """Return the rule of a table."""
    return rule(table, "--alert-rule", {})


def refusal(**table: Any) -> str:
    """Return the message with which a table is refused."""
    with pytest.raises(SettingsError) as refused:
        made(**table)
    return str(refused.value)


def holds(found: Fact, **table: Any) -> bool:
    """Tell whether a fact meets the conditions of a rule."""
    return made(**table).tests[type(found)](found)


def test_a_rule_without_conditions_is_about_every_such_fact() -> None:
    """``on`` alone."""
    assert holds(FAILED, on="failed")


@pytest.mark.parametrize(
    ("conditions", "met"),
    [
        ({"task": "payments.*"}, True),
        ({"task": ["mail.*", "payments.*"]}, True),
        ({"task": "mail.*"}, False),
        ({"task": "payments.*", "queue": "mail"}, False),
        ({"exception": "Connection*", "cause": "exception"}, True),
        ({"cause": "retries_exhausted"}, False),
        ({"cause": "*"}, True),
    ],
)
def test_texts_are_matched_by_patterns_all_of_which_must_match(conditions: dict[str, Any], met: bool) -> None:
    """A list is met by one of its patterns."""
    assert holds(FAILED, on="failed", **conditions) is met


@pytest.mark.parametrize(("runtime", "met"), [(10.1, True), (10.0, False), (None, False)])
def test_numbers_are_over_or_under_a_limit(runtime: float | None, met: bool) -> None:
    """What is not known is neither."""
    assert holds(Ended("t", "q", "w", Outcome.SUCCEEDED, runtime), on="ended", runtime_over=10) is met


def test_a_worker_that_was_lost_is_told_from_one_that_said_goodbye() -> None:
    """By its kind of exit."""
    assert holds(WorkerExited("w", Exit.LOST), on="worker_exited", kind="lost")
    assert not holds(WorkerExited("w", Exit.SHUTDOWN), on="worker_exited", kind="lost")
    assert holds(WorkerUp("w", 0), on="worker_up", up_under=1)


def test_a_number_that_becomes_known_late_is_asked_then() -> None:
    """A wait that is told after the start counts, if nothing is asked that only the start tells."""
    assert holds(Waited("t", "q", "w", 61.0), on="started", queue_wait_over=60)
    assert holds(Finished("t", "q", "w", Outcome.SUCCEEDED, 61.0), on="ended", total_over=60, outcome="succeeded")
    assert set(made(on="started", queue_wait_over=60, worker_wait_over=1).tests) == {Started}
    assert set(made(on="ended", outcome="failed").tests) == {Ended}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"on": "faild"}, "Did you mean failed?"),
        ({}, "there is no fact None"),
        ({"on": "failed", "taks": "a"}, "taks (got 'a') is no key for 'failed'. Did you mean task?"),
        ({"on": "failed", "runtime_over": 1}, "runtime_over (got 1) is no key"),
        ({"on": "failed", "password": "hunter2"}, "got '***'"),
        ({"on": "failed", "cause": "oom"}, "no cause is 'oom'. Give some of exception, soft_time_limit"),
        ({"on": "failed", "task": 7}, "task: got 7. Give a glob pattern"),
        ({"on": "failed", "task": []}, "task: got []"),
        ({"on": "failed", "task": ["a", ""]}, "task: got ['a', '']"),
        ({"on": "ended", "runtime_over": "1"}, "runtime_over: got '1'. Give a number"),
        ({"on": "ended", "runtime_over": True}, "got True"),
        ({"on": "ended", "runtime_over": float("nan")}, "got nan"),
        ({"on": "failed", "severity": "page"}, "severity: Invalid enum value 'page'"),
        ({"on": "failed", "name": "a b"}, "name: Expected str matching"),
        ({"on": "failed", "labels": {"a-b": "c"}}, "labels: "),
        ({"on": "failed", "limit": 0}, "limit: "),
        ({"on": "failed", "group_wait": -1}, "group_wait: "),
        ({"on": "failed", "by": ["uuid"]}, "by: 'uuid' is no text of this fact"),
        ({"on": "failed", "summary": "{task.__class__}"}, "{task.__class__} is not known"),
        ({"on": "failed", "summary": "{task!r}"}, "summary: "),
        ({"on": "failed", "summary": "{"}, "Write {{ for a brace"),
        ({"on": "failed", "links": {"Logs": "https://l/{pod}"}}, "links: Logs: {pod} is not known"),
        ({"on": "failed", "until": {"on": "ended", "outcom": "succeeded"}}, "until: outcom"),
    ],
    ids=str,
)
def test_a_wrong_rule_is_refused_with_the_fix(table: dict[str, Any], said: str) -> None:
    """It names the key, what it got, and what to give; nothing that looks like a secret."""
    message = refusal(**table)

    assert message.startswith("--alert-rule: ")
    assert said in message
    assert "hunter2" not in message
    assert "\n" not in message


def test_two_rules_of_one_name_are_refused() -> None:
    """Their alerts would be the same."""
    with pytest.raises(SettingsError, match="two rules are called 'failed'"):
        rules([{"on": "failed"}, {"on": "failed", "task": "a"}], "--alert-rule", {})


def test_a_refused_rule_is_named_by_its_place() -> None:
    """It may have no name."""
    with pytest.raises(SettingsError, match=r"alert_rule in f.toml, rule 2: on"):
        rules([{"on": "failed"}, {"on": "x"}], "alert_rule in f.toml", {})


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_can_be_asked_for(name: str) -> None:
    """With its default summary; and no condition is called as a key of rules is."""
    assert made(on=name).summary
    assert not set(keys(FACTS[name])) & set(KEYS)


def test_facts_about_alerts_raise_none() -> None:
    """Nor do those of single tasks of workflows, which have ids."""
    assert not {"alert_raised", "alerts_dropped", "step", "polled", "labelled"} & FACTS.keys()
    assert {"failed", "ended", "started", "worker_exited", "entry_sent"} <= FACTS.keys()
