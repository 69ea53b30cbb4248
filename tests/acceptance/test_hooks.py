"""Real workers fail, dawdle, are killed and come back: receivers of alerts are told, by the exporter and by workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import chain
from click.testing import CliRunner

from apps.sample import make_app
from celery_observe.cli import main
from services.exporter import COMMAND, Exporter
from services.instrumented import Instrumented, Sidecar
from services.ports import LOOPBACK, free_port
from services.prometheus import Alertmanager
from services.receiver import Receiver
from services.redis import Redis
from services.waiting import eventually
from services.webhook import Webhook
from services.worker import Worker

SENT = "celery_observe_alerts_sent_total"
FAILED = {"on": "failed", "task": "fail", "group_wait": 0}
CARD = "4111 1111 1111 1111"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of alerts that takes them all."""
    with Receiver() as server:
        yield server


def alerts_of(receiver: Receiver) -> list[dict[str, Any]]:
    """Return all alerts that a webhook was told, in order."""
    return [alert for each in receiver.deliveries for alert in each.json["alerts"]]


def has_told(receiver: Receiver, count: int) -> bool:
    """Tell whether so many alerts have come."""
    return len(alerts_of(receiver)) >= count


def settings(receiver: Receiver, *rules: dict[str, Any], **more: Any) -> dict[str, str]:
    """Return an environment with rules, and a webhook that is told."""
    return {
        "CELERY_OBSERVE_ALERT_RULE": json.dumps(rules),
        "CELERY_OBSERVE_ALERT_SINK": json.dumps({"webhook": receiver.url}),
        **{f"CELERY_OBSERVE_{name.upper()}": str(value) for name, value in more.items()},
    }


def test_the_exporter_tells_of_a_failure_with_its_traceback(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    receiver: Receiver,
) -> None:
    """Where it happened and of which task, not what its text quotes; and once, however often it happens."""
    link = "Flower=https://flower/task/{uuid}"
    env = settings(receiver, {**FAILED, "severity": "critical", "labels": {"team": "pay"}}, alert_link=link)
    page = exporter(redis_server.url, env=env)
    page.wait_until_ready()
    worker = celery_worker(redis_server.url, pool="prefork")

    worker.send("add", 1, 2)
    first = worker.send("fail", CARD)
    eventually(lambda: has_told(receiver, 1), what="an alert")
    for _ in range(20):
        worker.send("fail", CARD)
    page.wait_for(lambda now: now.total("celery_task_failures_total", task="fail") == 21)
    now = page.wait_for(lambda now: now.value(SENT, sink="webhook") == 1)

    assert now.value("celery_observe_alerts_latency_seconds_count", sink="webhook") == 1
    assert now.total("celery_observe_alerts_dropped_total") == 0
    (alert,) = alerts_of(receiver)
    assert alert["severity"] == "critical"
    assert alert["labels"] == {
        "task": "fail",
        "queue": "celery",
        "exception": "ValueError",
        "cause": "exception",
        "team": "pay",
    }
    assert alert["detail"]["uuid"] == first
    assert alert["links"]["Flower"] == f"https://flower/task/{first}"
    assert "raise ValueError(message)" in alert["detail"]["traceback"]
    assert CARD not in receiver.deliveries[0].body.decode()


def test_the_text_of_an_exception_is_told_where_that_is_allowed(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    receiver: Receiver,
) -> None:
    """Secrets in it are masked all the same."""
    page = exporter(redis_server.url, env=settings(receiver, FAILED, alert_detail="text"))
    page.wait_until_ready()

    celery_worker(redis_server.url).send("fail", "no answer from redis://:hunter2@h")
    eventually(lambda: has_told(receiver, 1), what="an alert")

    assert alerts_of(receiver)[0]["detail"]["text"] == "no answer from redis://:***@h"


def test_the_exporter_tells_of_a_long_run_and_a_long_wait(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    receiver: Receiver,
) -> None:
    """Of those that took longer than their rule allows."""
    rules = (
        {"on": "ended", "task": "work", "runtime_over": 0.8, "group_wait": 0, "name": "slow"},
        {"on": "started", "task": "add", "queue_wait_over": 0.8, "group_wait": 0, "name": "late"},
    )
    page = exporter(redis_server.url, env=settings(receiver, *rules))
    page.wait_until_ready()
    worker = celery_worker(redis_server.url, pool="solo")

    worker.send("work", 0.1)
    worker.send("work", 1.2)
    worker.send("add", 1, 2)
    eventually(lambda: has_told(receiver, 2), what="two alerts")

    told = {alert["rule"]: alert["summary"] for alert in alerts_of(receiver)}
    assert told["slow"].startswith("work succeeded after 1.2")
    assert told["late"].startswith("add waited 1.")


CONDITIONS: dict[str, dict[str, Any]] = {
    "exhausted": {"on": "failed", "cause": "retries_exhausted"},
    "over its limit": {"on": "failed", "cause": "*_time_limit"},
    "killed": {"on": "failed", "cause": ["oom_or_signal", "worker_lost"]},
    "of one queue": {"on": "failed", "queue": "mail"},
    "of one exception": {"on": "failed", "task": ["fail", "give_*"], "exception": "Value*", "by": ["task"]},
    "unknown": {"on": "failed", "cause": "unregistered"},
    "retried": {"on": "ended", "task": "retry", "outcome": "retried"},
    "expired": {"on": "ended", "outcome": "expired"},
    "long": {"on": "ended", "task": "work", "outcome": "succeeded", "runtime_over": 1.5},
}


@pytest.mark.parametrize("source", ["events", "instrument"])
def test_each_condition_picks_its_own(
    source: str,
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    processes: ExitStack,
    receiver: Receiver,
    tmp_path: Path,
) -> None:
    """Of tasks that end in all ways each rule tells those that it asks for; the exporter does, and so does a worker."""
    rules = [{**rule, "name": name.replace(" ", "-"), "group_wait": 0} for name, rule in CONDITIONS.items()]
    if source == "events":
        exporter(redis_server.url, env=settings(receiver, *rules)).wait_until_ready()
        worker = celery_worker(redis_server.url, pool="prefork", queues=("celery", "mail"))
    else:
        given = {"alert_rule": rules, "alert_sink": {"webhook": receiver.url}}
        made = Instrumented(tmp_path, redis_server.url, pool="prefork", queues=("celery", "mail"), instrument=given)
        worker = processes.enter_context(made)

    for task in ("give_up", "hard_limit", "kill_self", "fail", "add", "retry"):
        worker.send(task, *((1, 2) if task == "add" else ()))
    worker.send("kill_self", queue="mail")
    worker.send("shop.forgotten")
    worker.send("add", 1, 2, expires=-1)
    worker.send("work", 2)

    told = {
        ("exhausted", "give_up"),
        ("over-its-limit", "hard_limit"),
        ("killed", "kill_self"),
        ("of-one-queue", "kill_self"),
        ("of-one-exception", "fail"),
        ("unknown", "shop.forgotten"),
        ("retried", "retry"),
        ("expired", "add"),
        ("long", "work"),
    }
    eventually(lambda: len(picked(receiver)) >= len(told), 30, what="as much as is asked for")
    assert picked(receiver) == told


def picked(receiver: Receiver) -> set[tuple[str, str]]:
    """The rule and the task of each alert that was told."""
    return {(alert["rule"], alert["labels"]["task"]) for alert in alerts_of(receiver)}


def test_a_lost_worker_pages_once_and_is_resolved_when_it_is_back(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    receiver: Receiver,
) -> None:
    """An incident of PagerDuty has one key; a worker that says goodbye pages nobody."""
    lost = {"on": "worker_exited", "kind": "lost", "until": {"on": "worker_up", "up_over": 0}, "group_wait": 0}
    pager = {"type": "pagerduty", "routing_key": "k", "url": receiver.url}
    env = {
        "CELERY_OBSERVE_ALERT_RULE": json.dumps([lost]),
        "CELERY_OBSERVE_ALERT_SINK": json.dumps({"pager": pager}),
    }
    page = exporter(redis_server.url, env=env)
    page.wait_until_ready()
    leaving, dying = celery_worker(redis_server.url), celery_worker(redis_server.url)
    page.wait_for(lambda now: sum(now.select("celery_worker_up")) == 2)

    leaving.stop()
    dying.kill()
    eventually(lambda: receiver.deliveries, 40, what="a page")
    dying.start()
    eventually(lambda: len(receiver.deliveries) >= 2, 30, what="its end")

    page_, end = (each.json for each in receiver.deliveries)
    assert (page_["event_action"], end["event_action"]) == ("trigger", "resolve")
    assert page_["dedup_key"] == end["dedup_key"]
    assert page_["payload"]["summary"] == f"worker {dying.node} has left: lost"


def test_a_failed_workflow_is_told_through_a_real_alertmanager(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    alertmanager: Alertmanager,
    webhook: Webhook,
) -> None:
    """Once, to the team whose label its rule has; one that succeeds is not told."""
    rule = {"on": "workflow_ended", "outcome": "failed", "name": "workflow-failed", "severity": "critical"}
    env = {
        "CELERY_OBSERVE_ALERT_RULE": json.dumps([{**rule, "labels": {"team": "payments"}, "group_wait": 0}]),
        "CELERY_OBSERVE_ALERT_SINK": json.dumps({"alertmanager": alertmanager.url}),
        "CELERY_OBSERVE_WORKFLOW_QUIET": "1",
    }
    page = exporter(redis_server.url, env=env)
    page.wait_until_ready()
    celery_worker(redis_server.url, pool="prefork")
    app = make_app(redis_server.url)

    for last in (app.signature("add", (3,)), app.signature("fail", immutable=True)):
        chain(app.signature("add", (1, 2)), last).apply_async()
    eventually(webhook.summary, 30, what="an alert")

    assert webhook.summary() == [("payments-pager", "workflow-failed", "firing")]


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_an_instrumented_worker_alone_can_page(
    pool: str, redis_server: Redis, processes: ExitStack, receiver: Receiver, tmp_path: Path
) -> None:
    """On every pool; with arguments, where they are allowed; by rules and by hooks in Python."""
    given = {
        "alert_rule": [FAILED],
        "alert_sink": {"webhook": receiver.url},
        "alert_detail": "arguments",
        "alert_hooks": ["apps.hooked"],
    }
    worker = processes.enter_context(Instrumented(tmp_path, redis_server.url, pool=pool, instrument=given))

    task_id = worker.send("fail", "password=hunter2")
    eventually(lambda: has_told(receiver, 2), what="two alerts")

    told = {alert["rule"]: alert for alert in alerts_of(receiver)}
    detail = told["failed"]["detail"]
    assert told["told_by_hook"]["summary"] == "own words for fail"
    assert detail["uuid"] == task_id
    assert detail["text"] == "password=***"
    assert "raise ValueError(message)" in detail["traceback"]
    assert "password=***" in detail["arguments"]
    assert "hunter2" not in str(receiver.deliveries)
    worker.wait_for(lambda now: now.value(SENT, sink="webhook") == 2)


def test_a_worker_tells_of_the_child_that_was_killed(
    redis_server: Redis, processes: ExitStack, receiver: Receiver, tmp_path: Path
) -> None:
    """By the cause that Celery hides."""
    given = {
        "alert_rule": [{"on": "failed", "cause": "oom_or_signal", "group_wait": 0}],
        "alert_sink": {"webhook": receiver.url},
    }
    worker = processes.enter_context(Instrumented(tmp_path, redis_server.url, pool="prefork", instrument=given))

    worker.send("fail")
    task_id = worker.send("kill_self")
    eventually(lambda: has_told(receiver, 1), what="an alert")

    (alert,) = alerts_of(receiver)
    assert (alert["labels"]["task"], alert["detail"]["uuid"]) == ("kill_self", task_id)


def test_tasks_do_not_notice_a_dead_sink(
    redis_server: Redis, processes: ExitStack, receiver: Receiver, tmp_path: Path
) -> None:
    """A hundred fail, a hundred succeed, and the worker ends in time; one sink is dead, one hangs, one lives."""
    receiver.answers[:] = ["hang"]
    sinks = {
        "dead": {"type": "webhook", "url": f"http://{LOOPBACK}:{free_port()}"},
        "hangs": {"type": "webhook", "url": receiver.url, "timeout": 60},
    }
    given = {"alert_rule": [FAILED], "alert_sink": sinks}
    worker = processes.enter_context(Instrumented(tmp_path, redis_server.url, pool="prefork", instrument=given))

    for _ in range(100):
        worker.send("fail")
        worker.send("add", 1, 2)
    worker.wait_for(lambda now: now.total("celery_task_outcomes_total") == 200)

    page = worker.wait_for(lambda now: now.value("celery_observe_plugin_up", plugin="sink-dead") == 0)
    assert page.total(SENT) == 0
    assert worker.terminate() == 0


def test_a_worker_goes_on_though_its_rules_are_wrong(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> None:
    """It says so, and does its tasks."""
    given = {"alert_rule": [{"on": "faild"}], "port": free_port()}
    worker = processes.enter_context(Quiet(tmp_path, redis_server.url, instrument=given))

    worker.send("add", 1, 2)

    worker.wait_output("succeeded in")
    assert "there is no fact 'faild'. Did you mean failed?" in worker.output


class Quiet(Instrumented):
    """An instrumented worker that serves nothing."""

    def wait_ready(self) -> None:
        """Wait until it consumes."""
        self.wait_output(f"{self.node} ready.", timeout=60.0)


def test_a_sidecar_tells_for_its_workers(
    redis_server: Redis, processes: ExitStack, receiver: Receiver, tmp_path: Path
) -> None:
    """Workers that report to it say as much of a failure as they are told to."""
    address = f"{tmp_path}/s"
    rules = ("--alert-rule", json.dumps(FAILED), "--alert-sink", f"webhook={receiver.url}")
    processes.enter_context(Sidecar(tmp_path, COMMAND, address, *rules))
    given = {"sidecar": f"unix://{address}", "alert_detail": "traceback"}
    worker = processes.enter_context(Instrumented(tmp_path, redis_server.url, instrument=given))

    task_id = worker.send("fail", CARD)
    eventually(lambda: has_told(receiver, 1), what="an alert")

    (alert,) = alerts_of(receiver)
    assert alert["detail"]["uuid"] == task_id
    assert "raise ValueError(message)" in alert["detail"]["traceback"]
    assert CARD not in str(receiver.deliveries)


def test_a_test_alert_says_whether_it_arrived(receiver: Receiver) -> None:
    """`alerts test` sends a beginning and an end, and its exit code is for scripts."""
    run = partial(CliRunner().invoke, main)

    good = run(["alerts", "test", "--sink", f"webhook={receiver.url}/hunter2"])
    receiver.answers[:] = [403]
    bad = run(["alerts", "test", "--sink", f"webhook={receiver.url}/hunter2"])
    none = run(["alerts", "test", "--sink", "pager"])

    assert [alert["status"] for alert in alerts_of(receiver)][:2] == ["firing", "resolved"]
    assert (good.exit_code, good.output) == (0, "webhook: delivered\n")
    assert (bad.exit_code, bad.output) == (1, f"webhook: {receiver.url}/*** answered 403 Forbidden.\n")
    assert none.exit_code == 2
    assert "there is no sink 'pager', but none. Give NAME=URL." in none.output
