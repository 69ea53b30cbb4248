"""The shipped rules, evaluated by a real Prometheus that scrapes a real exporter, and told by a real Alertmanager."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.beat import Beat
from services.exporter import COMMAND, Exporter
from services.instrumented import Instrumented, Sidecar
from services.prometheus import SHIPPED, Alertmanager, Prometheus
from services.receiver import Receiver
from services.redis import Redis
from services.waiting import eventually
from services.webhook import Told, Webhook
from services.worker import Worker

VISIBILITY = {"visibility_timeout": 10}
INTERVALS = ("--queue-interval", "1", "--inspect-interval", "0.2", "--stalled-after", "3")
PROBING = (*INTERVALS, "--transport-option", "visibility_timeout=10")
RATE = 'celery_task_outcomes:rate5m{outcome="succeeded"}'
SHIPPED_RULES = sorted((SHIPPED / "rules").glob("*.yml"))

PROMISED = """
groups:
  - name: promised
    rules:
      - { record: "celery_objective:hung_after_seconds", expr: vector(2), labels: { task: work } }
      - { record: "celery_objective:max_age_seconds", expr: vector(2), labels: { queue: flooded } }
"""


@pytest.fixture
def hasty_rules(tmp_path: Path) -> list[Path]:
    """The shipped rules, in which minutes are seconds, and what is promised.

    But what explains others outlasts them by ten: probes take as long as ever to be asked again.
    """
    folder = tmp_path / "rules"
    folder.mkdir()
    for file in SHIPPED_RULES:
        text = file.read_text().replace("keep_firing_for: 5m", "keep_firing_for: 13s")
        text = re.sub(r"\b(\d+)m\b", r"\1s", text)
        (folder / file.name).write_text(text.replace("60 * sum_over_time", "1 * sum_over_time"))
    (folder / "promised.yml").write_text(PROMISED)
    return sorted(folder.iterdir())


def evaluated(prometheus: Prometheus) -> list[dict[str, object]]:
    """All rules, once each has been evaluated; none may have failed."""
    eventually(lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()), 90.0, what="all rules")
    rules: list[dict[str, object]] = prometheus.rules()
    assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []
    return rules


def test_nothing_is_said_of_a_start_and_of_idleness(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    prometheus: Callable[..., Prometheus],
    hasty_rules: list[Path],
) -> None:
    """Prometheus, exporter and worker start one after another, some tasks run, the worker leaves, and it is quiet."""
    page = exporter(redis_server.url, arguments=PROBING)
    watching = prometheus({"celery": [page.port]}, rules=hasty_rules)
    evaluated(watching)
    worker = celery_worker(redis_server.url, pool="prefork")
    for number in range(20):
        worker.send("add", number, number)
    page.wait_for(lambda samples: samples.value("celery_task_outcomes_total", outcome="succeeded") == 20)
    worker.terminate()
    page.wait_for(lambda samples: samples.value("celery_worker_exits_total", kind="shutdown") == 1)

    eventually(lambda: watching.query("job:celery_worker_up:count == 0"), what="the rules have seen it")

    assert watching.query('max_over_time(ALERTS{alertstate="firing"}[10m])') == []
    evaluated(watching)


def test_two_replicas_count_a_task_once(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    prometheus: Callable[..., Prometheus],
) -> None:
    """The recorded rate is that of one page, though two are scraped."""
    replicas = [exporter(redis_server.url, arguments=("--probe", "leader", *PROBING)) for _ in range(2)]
    watching = prometheus({"celery": [page.port for page in replicas]}, rules=SHIPPED_RULES)
    worker = celery_worker(redis_server.url, pool="threads")
    counted = 'celery_task_outcomes_total{outcome="succeeded"}'

    for _ in range(10):
        worker.send("add", 1, 2)
    eventually(lambda: len(watching.query(f"{counted} == 10")) == 2, what="both have counted")
    for _ in range(30):
        worker.send("add", 1, 2)

    each = f"max_over_time(instance_task:{RATE}[1m])"
    together = f"max_over_time(task:{RATE}[1m])"
    eventually(lambda: [rate for _, rate in watching.query(each) if rate > 0][1:], what="the rates of both")
    ((_, rate),) = watching.query(together)
    assert 0 < rate <= max(rate for _, rate in watching.query(each))


@pytest.fixture
def watched(
    redis_server: Redis,
    exporter: Callable[..., Exporter],
    prometheus: Callable[..., Prometheus],
    alertmanager: Alertmanager,
    hasty_rules: list[Path],
) -> Prometheus:
    """An exporter, a Prometheus that scrapes it, and the Alertmanager that it tells."""
    page = exporter(redis_server.url, arguments=PROBING)
    page.wait_until_ready()
    return prometheus({"celery": [page.port]}, rules=hasty_rules, alertmanager=alertmanager.port)


def told(webhook: Webhook, alert: str, status: str) -> list[Told]:
    """What was said of an alert, once anything was."""

    def said() -> list[Told]:
        return [each for each in webhook.told() if (each.alert, each.status) == (alert, status)]

    return eventually(said, 60.0, what=f"{alert} is {status}: {webhook.summary()}")


def each_told_once(webhook: Webhook, *over: str) -> None:
    """Wait until it is said that these are over; hold that whatever was said of any alert was said once."""
    for alert in over:
        told(webhook, alert, "resolved")
    courses: dict[str, list[str]] = defaultdict(list)
    for each in webhook.told():
        courses[str(each.labels)].append(each.status)
    assert [course for course in courses.items() if course[1] not in (["firing"], ["firing", "resolved"])] == []


def test_a_killed_worker_calls_somebody_once(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    watched: Prometheus,
    webhook: Webhook,
) -> None:
    """It is killed while tasks wait: the pager goes once, and all is over with the next worker."""
    worker = celery_worker(redis_server.url, pool="threads")
    eventually(lambda: watched.query("job:celery_worker_up:count == 1"), what="the worker is seen")
    worker.kill()
    for _ in range(3):
        worker.send("add", 1, 2)

    (page,) = told(webhook, "CeleryAllWorkersDown", "firing")
    celery_worker(redis_server.url, pool="threads")
    each_told_once(webhook, "CeleryAllWorkersDown")

    assert page.receiver == "pager"
    assert page.annotations["runbook_url"].endswith("/docs/runbooks/workers.md#celeryallworkersdown")
    assert not [text for each in webhook.told() for text in each.annotations.values() if "<no value>" in text]


def test_an_unreachable_broker_is_the_one_thing_told(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    watched: Prometheus,
    alertmanager: Alertmanager,
    webhook: Webhook,
) -> None:
    """Redis dies under a worker: the pager goes for the broker, and for nothing that follows from it."""
    celery_worker(redis_server.url, pool="threads")
    eventually(lambda: watched.query("job:celery_worker_up:count == 1"), what="the worker is seen")
    redis_server.kill()

    (page,) = told(webhook, "CeleryObserverBlind", "firing")
    eventually(lambda: "CeleryObserverProbeFailing" in alertmanager.kept_back(), 60.0, what="what else fires")
    redis_server.start()
    each_told_once(webhook, "CeleryObserverBlind")

    assert page.receiver == "pager"
    assert {each.alert for each in webhook.told()} == {"CeleryObserverBlind"}


def test_the_first_message_that_no_worker_knows_is_told(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    watched: Prometheus,
    webhook: Webhook,
) -> None:
    """One is enough, though its counter has just begun; the alert names the task, and links to it in Flower."""
    worker = celery_worker(redis_server.url, pool="threads")
    eventually(lambda: watched.query("celery_worker_consumes"), what="the worker has answered")
    eventually(
        lambda: watched.query("instance:celery_observe_counts_from_zero:bool"), what="counts are known to be new"
    )

    worker.send("shop.forgotten", queue="celery")

    each_told_once(webhook, "CeleryTasksUnregistered")
    told_of = told(webhook, "CeleryTasksUnregistered", "firing")[0]
    assert told_of.labels["task"] == "shop.forgotten"
    assert told_of.annotations["flower_url"] == "http://localhost:5555/tasks?name=shop.forgotten&state=FAILURE"


def test_each_trouble_is_told_and_so_is_its_end(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    watched: Prometheus,
    webhook: Webhook,
) -> None:
    """A task hangs, another fails, a queue is flooded, an ETA is too far away, a worker stops to consume."""
    conf = {"broker_transport_options": VISIBILITY, "worker_prefetch_multiplier": 1}
    slow = celery_worker(redis_server.url, pool="threads", queues=("slow",), **conf)
    flooded = celery_worker(redis_server.url, pool="threads", queues=("flooded",), concurrency=1, **conf)
    stuck = celery_worker(redis_server.url, app="apps.stuck", pool="threads", queues=("stuck",), **conf)
    eventually(lambda: len(watched.query("celery_worker_consumes")) == 3, 30.0, what="all have answered")

    slow.send("fail", queue="slow")
    eventually(lambda: watched.query('celery_task_outcomes_total{outcome="failed"}'), what="one has failed")
    slow.send("work", 12, queue="slow")
    slow.send("add", 1, 2, queue="slow", countdown=14)
    for _ in range(20):
        slow.send("fail", queue="slow")
        flooded.send("work", 0.5, queue="flooded")
    stuck.send("stop_consuming", queue="stuck")
    eventually(lambda: watched.query("celery_worker_processed_total == 1"), what="it has stopped")
    stuck.send("add", 1, 2, queue="stuck")

    assert told(webhook, "CeleryErrorBudgetBurn", "firing")[0].labels["task"] == "fail"
    assert told(webhook, "CeleryTaskHung", "firing")[0].labels["task"] == "work"
    assert told(webhook, "CeleryQueueOldestMessageTooOld", "firing")[0].labels["queue"] == "flooded"
    assert told(webhook, "CeleryQueueEtaBeyondVisibilityTimeout", "firing")[0].labels["queue"] == "slow"
    assert told(webhook, "CeleryWorkerStalled", "firing")[0].labels["worker"] == stuck.node
    stuck.kill()
    over = ("CeleryTaskHung", "CeleryQueueOldestMessageTooOld", "CeleryQueueEtaBeyondVisibilityTimeout")
    each_told_once(webhook, *over, "CeleryWorkerStalled", "CeleryErrorBudgetBurn")


def test_a_deploy_is_not_told_and_a_kill_is(
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    watched: Prometheus,
    webhook: Webhook,
) -> None:
    """Workers leave and others come while there is work, under the same name and under new ones; then one is killed."""
    staying, leaving = (celery_worker(redis_server.url, pool="prefork") for _ in range(2))
    eventually(lambda: watched.query("job:celery_worker_up:count == 2"), what="both are seen")
    evaluated(watched)
    for step in (staying.restart, lambda: celery_worker(redis_server.url, pool="prefork"), leaving.stop):
        for _ in range(20):
            staying.send("work", 0.2)
        step()
    eventually(lambda: watched.query("count(celery_worker_up == 0) == 1"), what="one has left for good")
    eventually(lambda: watched.query('celery_task_outcomes_total{outcome="succeeded"} == 60'), 30.0, what="the work")

    assert watched.query('max_over_time(ALERTS{alertstate="firing"}[10m])') == []
    staying.kill()
    told(webhook, "CeleryWorkerLost", "firing")
    staying.start()
    each_told_once(webhook, "CeleryWorkerLost")
    whom = {(each.receiver, each.alert, each.labels["worker"]) for each in webhook.told()}
    assert whom == {("channel", "CeleryWorkerLost", staying.node)}


@pytest.fixture
def refusing() -> Iterator[Receiver]:
    """A receiver of what hooks tell that takes nothing for a while."""
    with Receiver(503, 200, headers={"Retry-After": "12"}) as server:
        yield server


@pytest.fixture
def sidecar(processes: ExitStack, refusing: Receiver, tmp_path: Path) -> Sidecar:
    """A sidecar with a hook that tells that receiver."""
    rule = json.dumps({"on": "failed", "task": "kill_self", "group_wait": 0})
    telling = ("--alert-rule", rule, "--alert-sink", f"webhook={refusing.url}")
    times = ("--workflow-quiet", "1", "--workflow-timeout", "11")
    return processes.enter_context(Sidecar(tmp_path, COMMAND, f"{tmp_path}/s", *times, *telling))


@pytest.fixture
def reporting(processes: ExitStack, sidecar: Sidecar, redis_server: Redis, tmp_path: Path) -> Worker:
    """A worker that reports to it, and keeps results."""
    assert sidecar.running
    conf: dict[str, Any] = {"task_ignore_result": False, "result_backend": redis_server.url}
    told = {"sidecar": f"unix://{tmp_path}/s"}
    return processes.enter_context(Instrumented(tmp_path, redis_server.url, pool="prefork", instrument=told, **conf))


def test_workflows_and_hooks_that_come_to_nothing_are_told(
    reporting: Worker,
    sidecar: Sidecar,
    prometheus: Callable[..., Prometheus],
    alertmanager: Alertmanager,
    webhook: Webhook,
    hasty_rules: list[Path],
) -> None:
    """A task of a header dies and another never ends, a body takes no results, and a sink refuses."""
    watching = prometheus({"shop": [sidecar.port]}, rules=hasty_rules, alertmanager=alertmanager.port)
    eventually(lambda: watching.query("instance:celery_observe_counts_from_zero:bool"), what="counts are new")

    reporting.send("order", ["add", 1, 2], ["add", 3, 4])
    reporting.send("order", ["kill_self"], ["work", 60])

    assert told(webhook, "CeleryChordStalled", "firing")[0].labels["reason"] == "header_failed"
    assert told(webhook, "CeleryChordsBroken", "firing")[0].labels["reason"] == "body_not_sent"
    assert told(webhook, "CeleryWorkflowsAbandoned", "firing")[0].labels["root"] == "order"
    assert told(webhook, "CeleryAlertsNotDelivered", "firing")[0].labels["sink"] == "webhook"
    over = ("CeleryChordStalled", "CeleryChordsBroken", "CeleryWorkflowsAbandoned", "CeleryTasksKilled")
    each_told_once(webhook, *over, "CeleryAlertsNotDelivered")


@pytest.fixture
def beat(processes: ExitStack, tmp_path: Path, redis_server: Redis) -> Beat:
    """A beat that is instrumented, and has something to send."""
    entry = {"task": "add", "schedule": 1.0, "args": [1, 2]}
    return processes.enter_context(Beat(tmp_path, redis_server.url, {"often": entry}))


def test_a_beat_that_is_gone_is_told(
    beat: Beat,
    prometheus: Callable[..., Prometheus],
    alertmanager: Alertmanager,
    webhook: Webhook,
    hasty_rules: list[Path],
) -> None:
    """Its page is gone with it, so that it is missed rather than seen."""
    watching = prometheus({"beat": [beat.port]}, rules=hasty_rules, alertmanager=alertmanager.port)
    eventually(lambda: watching.query("job:celery_beat_instances:sum == 1"), what="beat ticks")
    evaluated(watching)

    beat.kill()
    (page,) = told(webhook, "CeleryBeatDead", "firing")
    beat.start()
    each_told_once(webhook, "CeleryBeatDead")

    assert page.receiver == "pager"
    assert {each.alert for each in webhook.told() if each.receiver == "pager"} == {"CeleryBeatDead"}
