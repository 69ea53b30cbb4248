"""What `--compat` serves is what the exporter serves that it stands in for, at one broker and of the same tasks."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from operator import not_
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.metrics_core import Metric

from services.endings import ENDINGS, run_everything
from services.exporter import Exporter, Samples
from services.peers import CeleryExporter, Families, Flower, Peer
from services.prometheus import Prometheus
from services.redis import Redis
from services.waiting import eventually, settled
from services.worker import Worker

pytestmark = pytest.mark.workers

COMPAT = ("--compat", "celery-exporter", "--compat", "flower", "--queue-interval", "1", "--inspect-interval", "0.2")
HOST = socket.gethostname()
EXPORTERS = 3
TOLERANCE = 1e-3
"""Seconds; the peers add the hours of the time zone to times, and lose the last digits."""
OURS = frozenset({"task", "queue", "worker"})
"""Labels of ours that stand beside those of celery-exporter where a name is the same."""
SHARED = {"celery_task_received", "celery_task_started", "celery_worker_up"}
"""The families of which that is so."""

FAILURES = 'sum by (name, queue_name) (increase(celery_task_failed_total{of="it",queue_name!="None"}[5m]))'
SUCCESSES = 'sum by (name, queue_name) (increase(celery_task_succeeded_total{of="it",queue_name!="None"}[5m]))'
MIXIN = {
    "fails too often": f"{FAILURES} / ({FAILURES} + {SUCCESSES}) * 100 > 5",
    "succeeds": f"{SUCCESSES} / ({FAILURES} + {SUCCESSES}) > 0",
    "why it fails": "topk(10, sum by (name, exception) "
    '(increase(celery_task_failed_total{of="it",exception!=""}[5m])) > 0)',
    "taken": 'sum by (name, queue_name) (increase(celery_task_received_total{of="it"}[5m])) > 0',
    "begun": 'sum by (name, queue_name) (increase(celery_task_started_total{of="it"}[5m])) > 0',
    "how long it takes": "histogram_quantile(0.95, sum by (name, queue_name, le) "
    '(rate(celery_task_runtime_bucket{of="it"}[5m]))) > 0',
    "too many wait": 'sum by (queue_name) (celery_queue_length{of="it",queue_name!="backlog"}) > 2',
    "workers": 'sum(celery_worker_up{of="it"})',
    "busy": 'sum by (hostname) (celery_worker_tasks_active{of="it"})',
    "processes": 'sum by (queue_name) (celery_active_process_count{of="it",queue_name="celery"})',
    "under way": 'celery_task_received_total{of="it",name="say"} - on (name, hostname, queue_name) '
    'celery_task_succeeded_total{of="it",name="say"}',
}
"""What alerts and dashboards ask of celery-exporter, in the way of its mixin, where both are right."""
DOWN = 'celery_worker_up{of="it"} == 0'

Place = tuple[str, frozenset[tuple[str, str]]]
"""The name of a sample and its labels."""
Table = dict[Place, float]
Compared = tuple[Families, Families, dict[Place, tuple[float, float]]]
"""Our families, theirs, and where they differ."""


class Stage(NamedTuple):
    """Three exporters of one broker, after a worker has run everything."""

    ours: Exporter
    celery_exporter: CeleryExporter
    flower: Flower
    worker: Worker


@pytest.fixture
def stage(
    redis_server: Redis,
    processes: ExitStack,
    tmp_path: Path,
    exporter: Callable[..., Exporter],
    celery_worker: Callable[..., Worker],
) -> Stage:
    """All of them, once they have seen all."""
    url = redis_server.url
    celery_exporter = processes.enter_context(
        CeleryExporter(tmp_path, url, "--generic-hostname-task-sent-metric", "--queues", "backlog,plain")
    )
    flower = processes.enter_context(Flower(tmp_path, url))
    ours = exporter(url, arguments=COMPAT)
    ours.wait_until_ready()
    eventually(lambda: readers(redis_server) == EXPORTERS, 60.0, what="all read events")
    worker = celery_worker(url, pool="prefork")
    run_everything(worker, ours)
    for priority in (0, 0, 9, 9, 9):
        worker.send("add", 1, 1, queue="backlog", priority=priority)
    for _ in range(3):
        worker.send("add", 1, 1, queue="plain")
    ours.wait_for(lambda samples: samples.total("celery_task_outcomes_total") == sum(ENDINGS.values()), 60.0)
    return Stage(ours, celery_exporter, flower, worker)


def readers(server: Redis) -> int:
    """How many connections to a server read events."""
    with server.client() as client:
        return sum(each["psub"] != "0" for each in client.client_list())


def families(page: Peer | Exporter) -> Families:
    """What a page has by the name of the family, less what every Python program serves."""
    parsed = Families.parse(page.get("/metrics")[1])
    return Families({name: each for name, each in parsed.items() if not name.startswith(("python_", "process_"))})


def labels_of(family: Metric) -> set[str]:
    """The names of all labels that samples of a family carry."""
    return {label for sample in family.samples for label in sample.labels}


def table(found: Families) -> Table:
    """Sample name and labels → value, but not what is 0. Publishers are one, as they are with us.

    celery-exporter counts an event of a worker under the publisher's host if that of the publisher came later.
    """
    totals: Counter[Place] = Counter()
    for family in found.values():
        for sample in family.samples:
            beside = OURS if family.name in SHARED else set()
            labels = {label: value for label, value in sample.labels.items() if label not in beside}
            if labels.get("worker", "").startswith("gen"):
                labels["worker"] = "generic"
            if labels.get("hostname") == HOST:
                labels["hostname"] = "localhost"
            totals[sample.name, frozenset(labels.items())] += sample.value  # type: ignore[assignment]  # no int
    return {place: value for place, value in totals.items() if value}


def differences(said: Table, expected: Table) -> dict[Place, tuple[float, float]]:
    """Where two tables differ, and what they say there."""
    pairs = {place: (said.get(place, 0), expected.get(place, 0)) for place in said | expected}
    return {place: pair for place, pair in pairs.items() if abs(pair[0] - pair[1]) > TOLERANCE}


def compare(ours: Exporter, theirs: Peer, wrong: Table, right: Table) -> None:
    """Hold that both say the same, but for what is wrong, and what is right instead."""

    def look() -> Compared:
        said, own = families(theirs), families(ours)
        own = Families({name: each for name, each in own.items() if name in said})
        kept = {place: value for place, value in table(said).items() if place not in wrong}
        return own, said, differences(table(own), kept | right)

    def agree(compared: Compared) -> bool:
        _, said, different = compared
        return not different and wrong.items() <= table(said).items()

    own, said, different = settled(look, agree, 60.0)
    assert not different
    assert wrong.items() <= table(said).items()
    assert {name: each.type for name, each in own.items()} == {name: each.type for name, each in said.items()}
    for name, each in said.items():
        assert not each.samples or labels_of(own[name]) - (OURS if name in SHARED else set()) == labels_of(each), name


def failed(task: str, exception: str) -> Place:
    """The place of failures of a task with celery-exporter."""
    labels = {"name": task, "exception": exception, "hostname": "localhost", "queue_name": "celery"}
    return "celery_task_failed_total", frozenset(labels.items())


def of_queue(family: str, queue: str) -> Place:
    """The place of a gauge of a queue with celery-exporter."""
    return family, frozenset({("queue_name", queue)})


def answers(prometheus: Prometheus, job: str, expression: str) -> Table:
    """What an expression yields of one of both, by the labels that both have."""
    found = prometheus.query(expression.replace('of="it"', f'job="{job}"'))
    beside = OURS | {"__name__", "job", "instance"}
    return {
        ("", frozenset((name, text) for name, text in labels.items() if name not in beside)): v for labels, v in found
    }


def asks_both(stage: Stage, start_prometheus: Callable[..., Prometheus]) -> None:
    """Hold that expressions of dashboards and rules yield the same of both, and that they yield something.

    A task that is called wrongly fails: `add` does both. Counters have to be seen before they rise. celery-exporter
    asks its workers whenever it is scraped, which takes seconds. `increase` guesses what was before the first scrape.
    """
    stage.worker.send("add")
    observed = start_prometheus({"ours": [stage.ours.port], "theirs": [stage.celery_exporter.port]}, every="3s")
    seen = 'count(count_over_time(celery_task_failed_total{name="add",exception="TypeError"}[5m]) > 1)'
    eventually(lambda: [count for _, count in observed.query(seen)] == [2], 60.0, what="both have been scraped")
    for _ in range(3):
        stage.worker.send("add", 1, 2)
    stage.worker.send("add")
    stage.worker.send("fail")

    def differ() -> dict[str, tuple[Table, Table]]:
        pairs = {
            name: (answers(observed, "ours", text), answers(observed, "theirs", text)) for name, text in MIXIN.items()
        }
        return {name: pair for name, pair in pairs.items() if not pair[0] or pair[0] != pytest.approx(pair[1], rel=0.3)}

    assert settled(differ, not_, 60.0) == {}
    share = answers(observed, "ours", MIXIN["fails too often"])
    assert share == {of(name="add"): pytest.approx(25, rel=0.1), of(name="fail"): pytest.approx(100, rel=0.1)}
    assert answers(observed, "ours", MIXIN["under way"].replace("on (name, hostname, queue_name)", "")) == {}

    stage.worker.stop()

    for job in ("ours", "theirs"):
        eventually(lambda: len(answers(observed, job, DOWN)) == 1, 30.0)  # noqa: B023 - it is asked at once


def of(name: str) -> Place:
    """The place of what is said of a task."""
    return "", frozenset({("name", name), ("queue_name", "celery")})


def test_who_is_stood_in_for_says_the_same(stage: Stage, prometheus: Callable[..., Prometheus]) -> None:
    """Same families, types and labels; other values where a failure is told twice, or by a wrapper's name, or is none.

    And where a queue has priorities; and of consumers celery-exporter tells on RabbitMQ only. So expressions of its
    dashboards and rules go on.
    """

    def failures(task: str) -> Place:
        labels = {"worker": stage.worker.node, "type": "task-failed", "task": task}
        return "flower_events_total", frozenset(labels.items())

    compare(
        stage.ours,
        stage.celery_exporter,
        wrong={
            failed("hard_limit", "ExceptionWithTraceback"): 2,
            failed("kill_self", "ExceptionWithTraceback"): 1,
            failed("exit_process", "ExceptionWithTraceback"): 1,
            failed("reject", "UnknownException"): 1,
            of_queue("celery_queue_length", "backlog"): 2,
        },
        right={
            failed("hard_limit", "TimeLimitExceeded"): 1,
            failed("kill_self", "WorkerLostError"): 1,
            failed("exit_process", "WorkerLostError"): 1,
            of_queue("celery_queue_length", "backlog"): 5,
            of_queue("celery_active_consumer_count", "celery"): 1,
        },
    )
    compare(
        stage.ours,
        stage.flower,
        wrong={failures("hard_limit"): 2, failures("reject"): 1},
        right={failures("hard_limit"): 1},
    )
    asks_both(stage, prometheus)
    work_that_is_held_is_seen(stage)


def work_that_is_held_is_seen(stage: Stage) -> None:
    """Hold that tasks which a worker holds are seen; with celery-exporter their queue is empty, and that is all."""
    stage.worker.start()
    for _ in range(5):
        stage.worker.send("work", 60)
    stage.ours.wait_for(lambda samples: samples.value("celery_queue_in_flight", queue="celery") == 3)
    stage.ours.wait_for(lambda samples: samples.value("celery_task_running", task="work", queue="celery") == 2)

    said = stage.celery_exporter.metrics()
    assert said.value("celery_queue_length", queue_name="celery") == 0
    of_queues = {name for (name, labels), _ in said.items() if any(label == "queue_name" for label, _ in labels)}
    assert not [name for name in of_queues if "unack" in name or "flight" in name or "reserved" in name]


def test_two_workers_on_a_host_are_two(
    rabbitmq_url: str,
    processes: ExitStack,
    tmp_path: Path,
    exporter: Callable[..., Exporter],
    celery_worker: Callable[..., Worker],
) -> None:
    """With celery-exporter they are one, though one of them has left; what RabbitMQ tells is the same.

    And the queue of a task is what it can be known to be, where celery-exporter says `celery` if publishers are silent.
    """
    page = exporter(rabbitmq_url, arguments=COMPAT)
    peer = processes.enter_context(CeleryExporter(tmp_path, rabbitmq_url))
    page.wait_until_ready()
    quiet = {"task_send_sent_event": False}
    stays = celery_worker(rabbitmq_url, queues=("mail",), **quiet)
    leaves = celery_worker(rabbitmq_url, queues=("mail",), **quiet)

    def consumers(samples: Samples) -> list[float]:
        return samples.select("celery_active_consumer_count", queue_name="mail")

    eventually(lambda: consumers(page.metrics()) == consumers(peer.metrics()) == [2], 60.0, what="both consume")
    eventually(lambda: peer.metrics().value("celery_worker_up", hostname="localhost") == 1, 60.0)
    stays.send("add", 1, 2, queue="mail")
    succeeded = "celery_task_succeeded_total"
    eventually(lambda: peer.metrics().value(succeeded, name="add", queue_name="celery") == 1, 30.0)
    page.wait_for(lambda samples: samples.value(succeeded, name="add", queue_name="mail") == 1)

    leaves.stop()

    page.wait_for(lambda samples: samples.value("celery_worker_up", worker=leaves.node, hostname="localhost") == 0)
    assert page.metrics().value("celery_worker_up", worker=stays.node, hostname="localhost") == 1
    assert len(peer.metrics().select("celery_worker_up")) == 1
