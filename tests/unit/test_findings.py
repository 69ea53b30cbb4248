"""What doctor and lint find, in each format, and the exit code."""

from __future__ import annotations

import json
from typing import Any

import click
import jsonschema
import pytest

from celery_observe.findings import (
    FORMATS,
    Finding,
    Place,
    Report,
    Rule,
    Severity,
    Unchecked,
    exit_code,
    listed,
    page,
    render,
    rule_of,
)
from unit.sarif import SCHEMA


def evicts() -> None:
    """Redis may evict messages.

    It deletes keys when its memory is full,
    and a queue is a key.

    That is what caches want.

    Fix: set `maxmemory-policy` to
    `noeviction`.
    """


EVICTION = rule_of(
    "eviction", Severity.CRITICAL, evicts, alerts=["CeleryTasksVanished"], metrics=["celery_queue_waiting"]
)
LIMITS = Rule(name="limits", severity=Severity.WARNING, title="No limits.", why="It may hang.", fix="Set one.")
NAMES = Rule(name="names", severity=Severity.INFO, title="Odd names.", why="They are hard to read.", fix="Rename.")
EVICTED = Finding(rule=EVICTION, message="Keys are evicted.", evidence="allkeys-lru", fix="noeviction", subject="redis")
UNLIMITED = Finding(rule=LIMITS, message="No limit.", place=Place("shop/tasks.py", 7, 5, 7, 20))
SHORT = Finding(rule=NAMES, message="Odd.", place=Place("shop/a b.py", 3))


def report(*findings: Finding, unchecked: tuple[Unchecked, ...] = ()) -> Report:
    """A report of these findings."""
    rules = (EVICTION, LIMITS, NAMES)
    return Report(
        tool="doctor", subject="redis://:***@h", rules=rules, findings=findings, unchecked=unchecked, seconds=1.25
    )


def sarif(*findings: Finding, unchecked: tuple[Unchecked, ...] = ()) -> dict[str, Any]:
    """The run of a report as SARIF, which keeps to the standard."""
    log = json.loads(render(report(*findings, unchecked=unchecked), "sarif"))
    jsonschema.Draft202012Validator(SCHEMA).validate(log)
    (run,) = log["runs"]
    assert isinstance(run, dict)
    return run


def test_a_docstring_is_a_rule() -> None:
    """Its title, why it matters, and the fix."""
    assert EVICTION.title == "Redis may evict messages."
    assert EVICTION.reason == "It deletes keys when its memory is full, and a queue is a key."
    assert EVICTION.why.endswith("\n\nThat is what caches want.")
    assert EVICTION.fix == "set `maxmemory-policy` to `noeviction`."


@pytest.mark.parametrize("text", [None, "", "A title.", "A title.\n\nWhy.", "A title.\n\nFix: this."])
def test_a_docstring_that_says_too_little_is_refused(text: str | None) -> None:
    """A rule without a reason or a fix is no rule."""

    def rule() -> None: ...

    rule.__doc__ = text

    with pytest.raises(ValueError, match="needs a title"):
        rule_of("x", Severity.INFO, rule)


def test_the_page_of_a_rule_says_all_that_is_declared() -> None:
    """And what a tool adds, before what shows it at run time."""
    assert page(EVICTION, lambda name: f"[{name}](x)", "## Bad\n") == (
        "# eviction\n\n**Redis may evict messages.** Severity: critical.\n\nIt deletes keys when its memory is full,\n"
        "and a queue is a key.\n\nThat is what caches want.\n\n**Fix.** Set `maxmemory-policy` to `noeviction`.\n\n"
        "## Bad\n\n**At run time** it shows as the alert [CeleryTasksVanished](x), "
        "the metric [celery_queue_waiting](x).\n"
    )
    assert page(LIMITS).endswith("**Fix.** Set one.\n")


@pytest.mark.parametrize(
    ("findings", "fail_on", "code"),
    [
        ((), Severity.INFO, 0),
        ((SHORT,), Severity.WARNING, 0),
        ((SHORT,), Severity.INFO, 3),
        ((UNLIMITED, SHORT), Severity.WARNING, 3),
        ((UNLIMITED, SHORT), Severity.CRITICAL, 0),
        ((UNLIMITED, EVICTED), Severity.WARNING, 4),
        ((UNLIMITED, EVICTED), Severity.CRITICAL, 4),
        ((EVICTED,), None, 0),
    ],
)
def test_the_exit_code_is_that_of_the_worst(findings: tuple[Finding, ...], fail_on: Severity | None, code: int) -> None:
    """Of those that count."""
    assert exit_code(findings, fail_on) == code


def test_the_text_has_the_worst_first_with_evidence_and_fix() -> None:
    """And says what could not be checked, and how many rules passed."""
    plain = click.unstyle(
        render(report(SHORT, UNLIMITED, EVICTED, unchecked=(Unchecked(LIMITS, "no workers"),)), "text")
    )
    lines = plain.splitlines()

    assert [line for line in lines if line[:1].isupper()] == ["CRITICAL  eviction", "WARNING  limits", "INFO  names"]
    assert "  found   allkeys-lru" in plain
    assert "shop/tasks.py:7:5: No limit." in plain
    assert "docs/doctor/eviction.md; alert CeleryTasksVanished; metric celery_queue_waiting" in plain
    assert "  limits: no workers" in plain
    assert lines[-1].endswith("; 0 of 3 rules passed, 1 not checked; 1.2 s")


def test_the_text_says_when_nothing_was_found() -> None:
    """In one line below the subject."""
    assert click.unstyle(render(report(), "text")).endswith("\nnothing found; 3 of 3 rules passed; 1.2 s")


def test_the_text_says_why_once_for_each_rule() -> None:
    """However often it was broken."""
    other = Finding(rule=LIMITS, message="No limit either.", place=Place("shop/tasks.py", 9))

    told = render(report(UNLIMITED, SHORT, other), "text")

    assert told.count("It may hang.") == 1
    assert "2 warnings, 1 info" in click.unstyle(told)
    assert told.index("No limit.") < told.index("No limit either.") < told.index("It may hang.")


def test_json_has_all_of_it() -> None:
    """For scripts."""
    told = json.loads(render(report(UNLIMITED, EVICTED, unchecked=(Unchecked(NAMES, "no source"),)), "json"))

    assert told["counts"] == {"critical": 1, "warning": 1, "info": 0}
    assert [each["rule"] for each in told["findings"]] == ["eviction", "limits"]
    assert told["findings"][0]["fix"] == "noeviction"
    assert told["findings"][1]["fix"] == "Set one."
    assert told["findings"][1]["place"] == {
        "path": "shop/tasks.py",
        "line": 7,
        "column": 5,
        "end_line": 7,
        "end_column": 20,
    }
    assert told["unchecked"] == [{"rule": "names", "reason": "no source"}]


def test_sarif_has_the_rules_and_where_they_are_broken() -> None:
    """Levels are those of SARIF, columns count characters, paths are URIs."""
    run = sarif(EVICTED, UNLIMITED, SHORT)

    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["eviction", "limits", "names"]
    assert [rule["defaultConfiguration"]["level"] for rule in rules] == ["error", "warning", "note"]
    first, second, third = run["results"]
    assert all(rules[each["ruleIndex"]]["id"] == each["ruleId"] for each in run["results"])
    assert first["message"]["text"] == "Keys are evicted. allkeys-lru Fix: noeviction"
    assert first["locations"] == [{"logicalLocations": [{"fullyQualifiedName": "redis"}]}]
    assert second["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 7,
        "startColumn": 5,
        "endLine": 7,
        "endColumn": 20,
    }
    assert third["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "shop/a%20b.py"


def test_sarif_says_what_could_not_be_checked() -> None:
    """As notifications, which are no results."""
    run = sarif(unchecked=(Unchecked(LIMITS, "no workers"),))

    (invocation,) = run["invocations"]
    assert run["results"] == []
    assert invocation["toolExecutionNotifications"] == [
        {
            "level": "note",
            "message": {"text": "limits could not be checked: no workers"},
            "associatedRule": {"id": "limits", "index": 1},
        }
    ]


def test_the_fingerprint_stays_when_lines_move() -> None:
    """So that code scanning knows a finding again; another message is another finding."""
    counted = [Finding(rule=LIMITS, message=f"{number} tasks have none.") for number in (2, 10)]
    moved = Finding(rule=LIMITS, message="No limit.", place=Place("shop/tasks.py", 70, 5))
    other = Finding(rule=LIMITS, message="No soft limit.", place=Place("shop/tasks.py", 7, 5))

    prints = [
        each["partialFingerprints"]["celeryObserve/v1"] for each in sarif(UNLIMITED, moved, other, *counted)["results"]
    ]

    assert len(set(prints)) == 3


def test_what_is_about_a_system_may_have_a_place_too() -> None:
    """Code scanning shows nothing without one; people need not read it."""
    placed = Finding(rule=EVICTION, message="Keys are evicted.", subject="redis", place=Place("shop/celery.py"))

    (result,) = sarif(placed)["results"]
    assert set(result["locations"][0]) == {"logicalLocations", "physicalLocation"}
    assert "shop/celery.py" not in render(report(placed), "text")


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_shows_secrets_or_control_characters(form: str) -> None:
    """Whatever a stranger called a queue, and whatever a setting holds."""
    hostile = "\x1b]0;owned\x07\x1b[2Jq\nredis://user:hunter2@h/0 password=hunter2 \u202e"
    found = Finding(rule=LIMITS, message=hostile, evidence=hostile, fix=hostile, subject=hostile)

    told = click.unstyle(render(report(found, unchecked=(Unchecked(EVICTION, hostile),)), form))

    assert not [secret for secret in ("hunter2", "\x1b", "\\u001b", "\x07", "\u202e", "\\u202e") if secret in told]


@pytest.mark.parametrize("form", FORMATS)
def test_long_texts_are_cut(form: str) -> None:
    """A name of a megabyte does not fill the terminal."""
    found = Finding(rule=LIMITS, message="m" * 1_000_000, evidence="e" * 1_000_000)

    assert len(render(report(found), form)) < 10_000


def test_many_names_are_listed_as_a_few() -> None:
    """In order, with how many more there are."""
    assert listed(["c", "a", "b"]) == "a, b, c"
    assert listed(f"w{number}" for number in range(9)) == "w0, w1, w2 and 6 more"
