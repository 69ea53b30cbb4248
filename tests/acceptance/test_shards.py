"""Three shards of one broker, as processes: together they tell what one exporter tells, and go on without one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from operator import not_

import pytest

from celery_observe.shard import Shard
from services.exporter import Exporter, Samples
from services.joined import differences, joined
from services.receiver import Receiver
from services.redis import Redis
from services.waiting import eventually, settled
from services.worker import Worker

COUNT = 3
ASKING = ("--inspect-interval", "3", "--queue-interval", "3", "--workflow-quiet", "2", "--event-queue-ttl", "60")
"""RabbitMQ keeps events for longer than a busy machine may let an exporter wait."""
EXACT = (
    *("celery_task_", "celery_workflow_", "celery_chord_", "celery_worker_up", "celery_worker_processed"),
    *("celery_worker_active", "celery_worker_info", "celery_worker_slots", "celery_queue_waiting"),
    *("celery_observe_events", "celery_observe_tasks_unobserved", "celery_observe_duplicate_outcomes"),
    "celery_observe_workflows_",
)
"""Families that do not tell when a process has looked at its clock."""


def start_shards(exporter: Callable[..., Exporter], url: str, env: dict[str, str] | None = None) -> list[Exporter]:
    """Three shards of which one asks, ready."""
    arguments = (*ASKING, "--probe", "leader")
    shards = [exporter(url, arguments=("--shard", f"{index}/{COUNT}", *arguments), env=env) for index in range(COUNT)]
    for shard in shards:
        shard.wait_until_ready()
    return shards


def is_not_exact(name: str) -> bool:
    """Whether the numbers of two processes may differ by what time it was."""
    return not name.startswith(EXACT) or "oldest_running" in name or "uptime" in name


def page_of(exporter: Exporter) -> str:
    """Its page as text."""
    return exporter.get("/metrics")[1]


@pytest.fixture
def workers(url: str, celery_worker: Callable[..., Worker]) -> list[Worker]:
    """Starts two workers, with different pools."""
    conf = {"result_backend": "cache+memory://"}
    return [celery_worker(url, pool=pool, app="apps.canvases", **conf) for pool in ("prefork", "threads")]


def counts(pages: Iterable[Exporter]) -> Counter[str]:
    """How many attempts have ended, by outcome, and workflows."""
    found: Counter[str] = Counter()
    for page in pages:
        for (name, labels), value in page.metrics().items():
            if name in {"celery_task_outcomes_total", "celery_workflow_outcomes_total"}:
                found[f"{name.split('_')[1]} {dict(labels)['outcome']}"] += int(value)
    return +found


ENDED = Counter(
    {"task succeeded": 40, "task failed": 6, "task retried": 2, "workflow succeeded": 6, "workflow failed": 2}
)


def test_three_shards_tell_what_one_exporter_tells(
    url: str, exporter: Callable[..., Exporter], request: pytest.FixtureRequest
) -> None:
    """Tasks that succeed, fail and retry, and workflows, on two workers: the pages joined are the page, exactly."""
    one = exporter(url, arguments=ASKING)
    one.wait_until_ready()
    shards = start_shards(exporter, url)
    _, worker = request.getfixturevalue("workers")

    for canvas in ("chain", "failing_chain", "retried_chain", "group") * 2:
        worker.send(f"start_{canvas}")
    for task in ("add", "add", "add", "fail") * 4:
        worker.send(task)

    eventually(lambda: counts([one]) == ENDED, 120, what="all has ended")
    assert not settled(lambda: unequal(shards, one), not_, 60)
    assert min(sum(counts([shard]).values()) for shard in shards) > 0
    eventually(lambda: "(shard 2 of 3)" in shards[2].get("/overview")[1], what="its live page says which it is")


def unequal(shards: Iterable[Exporter], one: Exporter) -> dict[str, tuple[float | None, float | None]]:
    """What several pages do not tell as one does; a gauge at 0 may say that something was there at the last tick."""
    found = differences(joined(map(page_of, shards), is_not_exact), joined([page_of(one)], is_not_exact))
    return {sample: values for sample, values in found.items() if any(values)}


def test_two_shards_stay_exact_when_the_third_is_killed(
    url: str, exporter: Callable[..., Exporter], request: pytest.FixtureRequest
) -> None:
    """Each counts what is its own, whoever is gone; another asks the broker; and one that is back counts again."""
    shards = start_shards(exporter, url)
    worker, _ = request.getfixturevalue("workers")
    leader = next(shard for shard in shards if shard.metrics().value("celery_observe_leader") == 1)
    left = [shard for shard in shards if shard is not leader]

    leader.kill()
    ids = [worker.send("add") for _ in range(60)]

    for shard in left:
        page = shard.metrics()
        mine = Shard(int(page.value("celery_observe_shard") or 0), COUNT)
        own = sum(map(mine.owns, ids))
        shard.wait_for(partial(has_counted, own), 60)
    eventually(lambda: any(page.metrics().select("celery_queue_waiting") for page in left), 60, what="another asks")
    assert not any(page.metrics().total("celery_observe_tasks_unobserved_total") for page in left)


def has_counted(tasks: int, samples: Samples) -> bool:
    """Whether so many tasks have succeeded, and no more."""
    return samples.total("celery_task_outcomes_total", outcome="succeeded") == tasks


def test_each_failure_is_told_by_the_shard_of_its_task(
    redis_server: Redis, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """Once, and whichever of them asks the broker."""
    ids = [next(filter(Shard(index, COUNT).owns, map(str, count()))) for index in range(COUNT)]
    with Receiver() as receiver:
        rule = {"on": "failed", "task": "fail", "group_wait": 0}
        env = {"CELERY_OBSERVE_ALERT_RULE": json.dumps([rule])}
        start_shards(exporter, redis_server.url, env | {"CELERY_OBSERVE_ALERT_SINK": f"webhook={receiver.url}"})
        worker = celery_worker(redis_server.url)

        for each in ids:
            worker.send("fail", task_id=each)
        eventually(lambda: len(told(receiver)) >= COUNT, 30, what="an alert of each")
        worker.send("add", 1, 2)

        assert sorted(told(receiver)) == sorted(ids)


def told(receiver: Receiver) -> list[str]:
    """Of which tasks alerts have come."""
    return [alert["detail"]["uuid"] for each in receiver.deliveries for alert in each.json["alerts"]]
