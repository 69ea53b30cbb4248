"""A system in which no check finds anything worth a warning, and how to spoil it."""

from __future__ import annotations

from typing import Any

import msgspec

from celery_observe.doctor.configuration import conf_of
from celery_observe.doctor.evidence import (
    App,
    Broker,
    ConsumedQueue,
    Evidence,
    Heard,
    HeardTask,
    HeardWorker,
    OutputLimit,
    Queue,
    Redis,
    Running,
    Scheduled,
    Task,
    Worker,
)

NOW = 1_750_000_000.0
WORKER = "w@h"


def conf(**changes: Any) -> dict[str, Any]:
    """Settings as they should be, with changes by Celery's names."""
    given = {
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
        "worker_max_tasks_per_child": 1000,
        "result_backend": "redis://h/1",
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
    }
    return dict(conf_of(given | changes))


def task(**changes: Any) -> Task:
    """A task that is declared as it should be."""
    good = Task(acks_late=True, reject_on_worker_lost=True, time_limit=60.0)
    return msgspec.structs.replace(good, **changes)


def worker(**changes: Any) -> Worker:
    """A worker that is configured as it should be, and busy."""
    good = Worker(
        name=WORKER,
        pid=1,
        pool="prefork",
        slots=2,
        limits=(300.0, 330.0),
        max_tasks=1000,
        accepted=5,
        queues=(ConsumedQueue("celery"),),
        conf=conf(),
        tasks={"shop.charge": task()},
        running=(Running("shop.charge", NOW - 3.0, acknowledged=False),),
        scheduled=(Scheduled("shop.charge", NOW + 60.0),),
        reserved=1,
    )
    return msgspec.structs.replace(good, **changes)


def heard(**changes: Any) -> Heard:
    """The events of that worker, and of who sends to it."""
    good = Heard(
        seconds=5.0,
        workers={WORKER: heard_worker()},
        tasks={
            "shop.charge": HeardTask(
                sent=5, received=5, queues=frozenset({"celery"}), senders=frozenset({"gen1@web"}), longest=2.0
            )
        },
    )
    return msgspec.structs.replace(good, **changes)


def heard_worker(**changes: Any) -> HeardWorker:
    """The events of that worker alone."""
    good = HeardWorker(version="5.7.0", pids=frozenset({1}), heartbeats=2, received=5, started=5, lag=0.01)
    return msgspec.structs.replace(good, **changes)


def app(**changes: Any) -> App:
    """The app of that worker."""
    good = App(conf=conf(), routes={"shop.*": "celery"}, default_queue="celery", entries={"shop.nightly": "nightly"})
    return msgspec.structs.replace(good, **changes)


def redis(**changes: Any) -> Redis:
    """A Redis that is configured for messages."""
    good = Redis(
        version="7.0.15",
        appends=True,
        save="3600 1",
        output_limit=OutputLimit(32 * 1024**2, 8 * 1024**2, 60),
        disconnected=0,
        skew=0.0,
        orphans=0,
    )
    return msgspec.structs.replace(good, **changes)


HEALTHY = Evidence(
    now=NOW,
    broker=Broker(url="redis://127.0.0.1:6379/0", transport="redis"),
    app=app(),
    workers=(worker(),),
    beats=1,
    observers=1,
    heard=heard(),
    queues=(Queue(name="celery", waiting=3, priorities=frozenset({"0"}), consumers=1),),
    redis=redis(),
)
"""On Redis."""
HEALTHY_RABBITMQ = msgspec.structs.replace(
    HEALTHY, broker=Broker(url="amqp://localhost//", transport="amqp", user="shop", has_password=True), redis=None
)
NOTHING = Evidence(now=NOW, broker=Broker(url="redis://127.0.0.1:6379/0", transport="redis"))
"""Where nothing could be gathered, and nothing says why."""


def but(evidence: Evidence = HEALTHY, **changes: Any) -> Evidence:
    """A system that differs in something."""
    return msgspec.structs.replace(evidence, **changes)


def told(**changes: Any) -> Evidence:
    """One whose worker and app have other settings."""
    return but(workers=(worker(conf=conf(**changes)),), app=app(conf=conf(**changes)))


def declared(**changes: Any) -> Evidence:
    """One whose task is declared otherwise."""
    return but(workers=(worker(tasks={"shop.charge": task(**changes)}),))
