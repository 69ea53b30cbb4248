"""No alert without its test and its runbook, and none that asks for what is not there."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path

import pytest
import yaml

from house import promql
from house.rules import ALERTS, RULE_FILES, TEST_FILES, Rule, Runbook, alerts, checks, records, rules, runbooks, series
from house.source import ROOT

PARTS = ("Meaning", "Impact", "Diagnosis", "Mitigation")
OPERATOR_KEYS = {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
LINK = '{{ with query "celery_observe:links" }}{{ . | first | label "%s" }}{{ end }}'

every_rule = pytest.mark.parametrize("rule", rules(), ids=str)
every_alert = pytest.mark.parametrize("alert", alerts(), ids=str)


@pytest.fixture(scope="module")
def of_runbooks() -> dict[tuple[str, str], str]:
    """The text of each section, by file and heading."""
    return {(book.file.stem, book.alert): book.text for book in runbooks()}


@every_rule
def test_an_expression_asks_for_what_there_is(rule: Rule) -> None:
    """Families and labels of the catalogue, values that labels can have, and what other rules record."""
    promql.labels_of(rule.expression, series())


@pytest.mark.parametrize(
    "expression",
    [
        "celery_queue_waitin > 0",
        "sum by (tusk) (celery_task_running)",
        'celery_worker_up{host="w1"}',
        'celery_task_outcomes_total{outcome="success"}',
        "celery_worker_up and on (queue) celery_worker_slots",
        "rate(celery_task_runtime_seconds[5m])",
        "sum by (queue) (topk(3, celery_worker_up))",
        'sum by (about) (label_replace(celery_worker_up, "subject", "$1", "worker", "(.+)"))',
    ],
)
def test_an_expression_that_asks_for_anything_else_is_refused(expression: str) -> None:
    """A misspelt name would never fire, and nobody would know."""
    with pytest.raises((promql.UnknownSeriesError, promql.UnknownLabelError)):
        promql.labels_of(expression, series())


@pytest.mark.parametrize("rule", records(), ids=str)
def test_a_recorded_series_says_what_it_is(rule: Rule) -> None:
    """Level, metric and operations, as Prometheus' own naming convention has it; or celery_objective, to be set."""
    assert re.fullmatch(r"([a-z_]+:celery_[a-z_]+(:[a-z0-9_]+)?)|(celery_(objective|observe):[a-z_]+)", rule.name)


@every_alert
def test_an_alert_says_whom_it_calls_and_why(alert: Rule) -> None:
    """Severity, sentences, and the links; to Flower too, if it is about a task."""
    labels = promql.labels_of(alert.expression, series())
    links = {name: text for name, text in alert.annotations.items() if name.endswith("_url")}

    assert alert.severity in {"critical", "warning"}
    assert alert.annotations["summary"]
    assert alert.annotations["description"].strip().endswith((".", "}}"))
    assert links["runbook_url"] == f"{LINK % 'runbooks'}/{alert.file.stem}.md#{alert.name.lower()}"
    assert links["dashboard_url"].startswith(f"{LINK % 'dashboards'}/d/celery-")
    if "task" in labels:
        assert links["flower_url"].startswith(LINK % "flower" + "/tasks?name={{ $labels.task | urlquery }}")


@every_alert
def test_an_alert_names_labels_that_it_has(alert: Rule) -> None:
    """In Prometheus a label that is not there is an empty word."""
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(alert.annotations.values())))

    assert named <= promql.labels_of(alert.expression, series())


@every_alert
def test_an_alert_is_seen_before_while_and_after_it_fires(alert: Rule) -> None:
    """A promtool test looks at a minute before it fires, one in which it does, and one when it is over."""
    seen = [[check.fires for check in sorted(test)] for test in checks(alert)]

    assert [False, True, False] in seen


@every_alert
def test_an_alert_outlasts_a_scrape_that_fails(alert: Rule) -> None:
    """So that it is not told as over and as new; what keeps back others lasts longer than they do."""
    explains = alert.severity == "critical" and alert.name in {"CeleryObserverBlind", "CeleryObserverDown"}

    assert alert.content["keep_firing_for"] == ("5m" if explains else "3m")


@every_alert
def test_an_alert_has_its_runbook(alert: Rule, of_runbooks: dict[tuple[str, str], str]) -> None:
    """In the file of its subsystem, under its own name."""
    assert (alert.file.stem, alert.name) in of_runbooks


@pytest.mark.parametrize("book", list(runbooks()), ids=lambda book: book.alert)
def test_a_runbook_says_what_to_do(book: Runbook) -> None:
    """It has four parts, and its queries are exact."""
    assert book.alert in {alert.name for alert in alerts()}
    assert all(book.part(name) for name in PARTS)
    assert "```" in book.part("Diagnosis")
    for query in book.queries:
        promql.labels_of(query, series())


def test_prometheus_accepts_the_rules(promtool: str) -> None:
    """Without a finding of its linter."""
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, RULE_FILES)]

    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: file.stem)
def test_the_rules_do_what_their_tests_say(promtool: str, file: Path, tmp_path: Path) -> None:
    """Of alerts, of what must not alert, and of replicas; `team`, a label of the target, comes through all of them."""
    teamed = tmp_path / file.name
    text = file.read_text().replace("../rules", str(ALERTS / "rules"))
    teamed.write_text(re.sub(r"\bjob=", 'team="payments", job=', text))

    tested = subprocess.run([promtool, "test", "rules", str(teamed)], capture_output=True, text=True, check=False)

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_operator_knows_every_key() -> None:
    """The fields of its `PrometheusRule` (docs/api-reference/api.md of prometheus-operator 0.66)."""
    for file in (ALERTS / "kubernetes").iterdir():
        resource = yaml.safe_load(file.read_text())
        groups = resource["spec"]["groups"]

        assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
        assert re.fullmatch(r"celery-observe-[a-z]+", resource["metadata"]["name"])
        assert {key for group in groups for key in group} <= {"name", "interval", "rules"}
        assert {key for group in groups for rule in group["rules"] for key in rule} <= OPERATOR_KEYS


@pytest.mark.parametrize("name", ["slo.yml", "beat.yml"])
def test_the_rules_do_the_same_of_what_was_pushed(promtool: str, name: str, tmp_path: Path) -> None:
    """Where a bound is a number, and `le` has no `.0`."""
    cases = (ALERTS / "tests" / name).read_text()
    pushed = re.sub(r'(_bucket\{.*?le="\d+)\.0"', r'\1"', cases)
    file = tmp_path / name
    file.write_text(pushed.replace("../rules/", f"{ALERTS / 'rules'}/"))

    tested = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)

    assert pushed != cases
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_operator_gets_the_same_rules() -> None:
    """alerts/kubernetes/ is written by scripts/render_prometheus_rules.py: run it."""
    script = runpy.run_path(str(ROOT / "scripts" / "render_prometheus_rules.py"))

    assert {file.name: file.read_text() for file in (ALERTS / "kubernetes").iterdir()} == script["rendered"]()
