"""What workers, events, messages and settings say, made into evidence: bounded, and without secrets or arguments."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from celery_observe.broker import BrokerSettings
from celery_observe.doctor.answers import TASK_ITEMS, task_of, worker_of
from celery_observe.doctor.configuration import conf_of
from celery_observe.doctor.evidence import (
    ConsumedQueue,
    Evidence,
    HeardTask,
    HeardWorker,
    OutputLimit,
    Running,
    Scheduled,
    Task,
    Worker,
)
from celery_observe.doctor.gathering import facts_of
from celery_observe.doctor.listening import Listening
from celery_observe.doctor.server import output_limit, peek
from celery_observe.event import Event, Malformed
from celery_observe.probes.answers import settings_of, stats
from celery_observe.probes.control import Replies
from celery_observe.probes.queues.messages import STAMP
from unit.healthy import NOW

SECRET = "4111 1111 1111 1111"
STATS: dict[str, Any] = {
    "pid": 7,
    "total": {"add": 3, "mul": 4},
    "prefetch_count": 8,
    "pool": {
        "implementation": "celery.concurrency.prefork:TaskPool",
        "max-concurrency": 2,
        "max-tasks-per-child": 100,
        "timeouts": [3, 0],
    },
}
REQUEST = {"id": "u", "name": "shop.charge", "args": [SECRET], "kwargs": {"card": SECRET}, "delivery_info": {}}


def answered(**commands: Any) -> Worker:
    """A worker that gave these answers."""
    replies: Replies = {command: {"w@h": reply} for command, reply in commands.items()}
    return worker_of("w@h", stats(STATS), replies)


def event(type_: str, **fields: Any) -> Event:
    """An event of a worker, sent just now."""
    return Event(type=type_, timestamp=NOW, **({"hostname": "w@h"} | fields))


def heard(*events: Event, now: float = NOW) -> Any:
    """What these events amount to."""
    listening = Listening()
    listening.take(events, now)
    return listening.heard(5.0)


def test_a_worker_is_what_it_answered() -> None:
    """Its pool, its queues, its tasks, and what it does; no argument is kept."""
    worker = answered(
        active_queues=[
            {"name": "a", "max_priority": 3, "queue_arguments": None},
            {"name": "b", "queue_arguments": {"x-max-priority": 5, "x-queue-type": "quorum"}},
        ],
        active=[REQUEST | {"time_start": NOW, "acknowledged": True}],
        scheduled=[{"eta": "2025-06-15T15:06:40+00:00", "priority": 6, "request": REQUEST}],
        reserved=[REQUEST, REQUEST],
        registered=["shop.charge [acks_late=True max_retries=3]", "shop.refund"],
        conf={"CELERY_TASK_ACKS_LATE": True},
    )

    assert (worker.pid, worker.pool, worker.slots, worker.limits, worker.max_tasks) == (7, "prefork", 2, (3, 0), 100)
    assert worker.queues == (ConsumedQueue("a", 3), ConsumedQueue("b", 5, "quorum"))
    assert worker.running == (Running("shop.charge", NOW, acknowledged=True),)
    assert worker.scheduled == (Scheduled("shop.charge", NOW),)
    assert worker.reserved == 2
    assert worker.tasks == {"shop.charge": Task(acks_late=True), "shop.refund": Task()}
    assert worker.conf is not None
    assert worker.conf["task_acks_late"] is True
    assert SECRET not in repr(worker)


@pytest.mark.parametrize("reply", [None, {"error": "KeyError"}, 7, "x", [7], [{}], [None], {"a": {}}])
def test_an_answer_that_no_celery_gives_is_none(reply: Any) -> None:
    """A worker with a command of its own under that name does not end the doctor."""
    commands = dict.fromkeys(["active_queues", "active", "scheduled", "registered", "conf"], reply)

    worker = answered(**commands)

    assert worker.name == "w@h"
    assert not worker.queues
    assert not worker.scheduled


@pytest.mark.parametrize(
    ("told", "name", "task"),
    [
        ("a.b", "a.b", Task()),
        ("a.b [acks_late=False]", "a.b", Task(max_retries=None)),
        ("a [max_retries=5 priority=0 send_events=False]", "a", Task(max_retries=5, priority=0, sends_events=False)),
        (
            (
                "a [acks_late=True reject_on_worker_lost=True time_limit=60 soft_time_limit=50.5 max_retries=3 "
                "default_retry_delay=180 retry_backoff=True retry_backoff_max=600 ignore_result=True "
                "autoretry_for=(<class 'Exception'>, <class 'x.Y'>)]"
            ),
            "a",
            Task(
                acks_late=True,
                reject_on_worker_lost=True,
                time_limit=60.0,
                soft_time_limit=50.5,
                retries_by_itself=True,
                retry_backoff=1.0,
                ignore_result=True,
            ),
        ),
        ("a [max_retries=3 autoretry_for=()]", "a", Task()),
        ("a [max_retries=3 retry_backoff=30]", "a", Task(retry_backoff=30.0)),
        ("a [max_retries=3 retry_backoff=False]", "a", Task()),
    ],
)
def test_a_line_of_registered_is_a_task(told: str, name: str, task: Task) -> None:
    """As `celery/worker/control.py` writes it, which leaves out what is None."""
    assert task_of(told) == (name, task)


def test_the_attributes_are_those_of_celery_s_task() -> None:
    """A misspelt one would never be answered."""
    from celery import Task as CeleryTask  # noqa: PLC0415 - ours has the same name

    optional = {"autoretry_for", "retry_backoff", "retry_backoff_max"}

    assert {item for item in TASK_ITEMS if not hasattr(CeleryTask, item)} <= optional


@pytest.mark.parametrize("prefix", ["", "CELERY_", "SHOP_"])
def test_settings_are_known_by_the_names_of_today(prefix: str) -> None:
    """Whatever namespace an app has."""
    conf = {f"{prefix}WORKER_PREFETCH_MULTIPLIER".lower() if not prefix else f"{prefix}WORKER_PREFETCH_MULTIPLIER": 1}

    assert settings_of(conf) == {"worker_prefetch_multiplier": 1}


def test_old_names_are_those_of_today() -> None:
    """Celery still takes those of version 3."""
    old = {"CELERYD_PREFETCH_MULTIPLIER": 1, "CELERY_ACKS_LATE": True, "CELERY_TASK_RESULT_EXPIRES": 9}

    assert settings_of(old) == {"worker_prefetch_multiplier": 1, "task_acks_late": True, "result_expires": 9}


def test_of_settings_only_what_is_looked_at_is_kept() -> None:
    """No URL, and of transport options nothing that may be a secret."""
    conf = conf_of(
        {
            "broker_url": "redis://:hunter2@h",
            "result_backend": "redis+socket://:hunter2@h/0",
            "broker_transport_options": {"visibility_timeout": 9, "sentinel_kwargs": {"password": "hunter2"}},
            "broker_use_ssl": {"keyfile_password": "hunter2"},
        }
    )

    assert "hunter2" not in repr(conf)
    assert conf["result_backend"] == "redis"
    assert conf["broker_transport_options"] == {"visibility_timeout": 9}
    assert conf["broker_use_ssl"] is True
    assert conf["worker_prefetch_multiplier"] == 4


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, None), (0, 0.0), (60, 60.0), (timedelta(hours=1), 3600.0), ("1 day, 0:00:00", 86_400.0)],
)
def test_when_results_expire_is_seconds(given: Any, kept: float | None) -> None:
    """A worker tells a timedelta as text."""
    assert conf_of({"result_expires": given})["result_expires"] == kept
    assert conf_of({})["result_expires"] == 86_400.0


@pytest.mark.parametrize(
    ("url", "kept"),
    [(None, None), ("disabled", None), ("disabled://", None), ("db+sqlite:///x", "db"), ("rpc://", "rpc")],
)
def test_of_the_result_back_end_the_kind_is_kept(url: str | None, kept: str | None) -> None:
    """The URL holds a password."""
    assert conf_of({"result_backend": url})["result_backend"] == kept


def test_events_are_summed_up_by_worker_and_task() -> None:
    """Versions, processes, what was executed, who sent what to where, and the longest runtime."""
    found = heard(
        event("worker-heartbeat", pid=1, sw_ver="5.7.0"),
        event("worker-heartbeat", pid=2, sw_ver="5.7.0"),
        event("task-sent", uuid="u", name="add", queue="q", hostname="gen1@web"),
        event("task-sent", uuid="v", name="add", queue="r", hostname="gen2@web"),
        event("task-received", uuid="u", name="add", pid=1),
        event("task-started", uuid="u", pid=1),
        event("task-succeeded", uuid="u", runtime=3.5),
        event("task-failed", uuid="x", exception="NotRegistered('no.such')"),
        event("task-failed", uuid="y", exception="ValueError('NotRegistered(')"),
        now=NOW + 0.25,
    )

    assert found.workers == {
        "w@h": HeardWorker(version="5.7.0", pids=frozenset({1, 2}), heartbeats=2, received=1, started=1, lag=0.25)
    }
    assert found.tasks == {
        "add": HeardTask(
            sent=2, received=1, queues=frozenset("qr"), senders=frozenset({"gen1@web", "gen2@web"}), longest=3.5
        )
    }
    assert found.unregistered == 1


def test_the_least_lag_is_the_skew() -> None:
    """One event that was late on its way says nothing of the clock."""
    listening = Listening()
    listening.take([event("worker-heartbeat")], NOW + 9.0)
    listening.take([event("worker-heartbeat")], NOW + 1.0)

    assert listening.heard(1.0).workers["w@h"].lag == pytest.approx(1.0)


def test_what_cannot_be_read_is_counted() -> None:
    """Pickle apart from the rest."""
    listening = Listening()
    for reason in (Malformed.REFUSED_CONTENT, Malformed.NOT_JSON, Malformed.TOO_LARGE):
        listening.refuse(reason)

    assert (listening.heard(1.0).refused, listening.heard(1.0).malformed) == (1, 2)


def test_a_producer_of_many_names_does_not_fill_the_memory() -> None:
    """Names past the bound are not remembered."""
    listening = Listening()
    for number in range(6000):
        listening.take(
            [
                event("task-received", hostname=f"w{number}@h", uuid=str(number), name=f"t{number}"),
                event("task-sent", name="t0", queue=f"q{number}", hostname=f"gen{number}@h"),
            ],
            NOW,
        )

    found = listening.heard(1.0)

    assert len(found.workers) == len(found.tasks) == 5000
    assert len(found.tasks["t0"].queues) == len(found.tasks["t0"].senders) == 20


def message(**fields: Any) -> bytes:
    """A message as kombu stores it in a list, with its arguments in the body."""
    given = {"body": SECRET, "headers": {"task": "add", "argsrepr": SECRET}, "content-type": "application/json"}
    return json.dumps(given | fields).encode()


def test_messages_are_looked_at_but_for_their_bodies() -> None:
    """The task, the content type, the priority, and whether an instrumented process sent it."""
    found = peek(
        "q",
        [
            message(properties={"priority": 3}),
            message(headers={"task": "mul", STAMP: 1.5}, **{"content-type": "application/x-python-serialize"}),
            b"no message",
            b"[]",
            b'{"headers": 1}',
            b"\xff",
        ],
    )

    assert (found.tasks, found.priorities, found.stamped) == (frozenset({"add", "mul"}), frozenset({3}), True)
    assert found.content_types == {"application/json", "application/x-python-serialize"}
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", OutputLimit(33554432, 8388608, 60)),
        ("pubsub 0 0 0", OutputLimit(0, 0, 0)),
        ("", None),
        ("normal 0 0 0", None),
        ("pubsub x y z", None),
        ("pubsub 1", None),
    ],
)
def test_the_output_limit_is_read(text: str, limit: OutputLimit | None) -> None:
    """Out of the one line in which Redis tells all of them."""
    assert output_limit(text) == limit


@pytest.mark.parametrize(
    ("url", "hosts", "tls", "has_password"),
    [
        ("redis://localhost:6379/0", (), False, False),
        ("redis://127.0.0.2", (), False, False),
        ("redis+socket:///run/redis.sock", (), False, False),
        ("redis://:hunter2@cache:6379/0", ("cache",), False, True),
        ("rediss://:hunter2@cache:6379/0", ("cache",), True, True),
        ("amqps://shop:hunter2@mq//", ("mq",), True, True),
        ("amqp://mq//", ("mq",), False, False),
        ("amqp://a:hunter2@m1//;amqp://m2//", ("m1", "m2"), False, False),
        ("sentinel://:hunter2@s1:26379;sentinel://:hunter2@s2:26379", ("s1", "s2"), False, True),
    ],
)
def test_the_url_says_how_the_broker_is_protected(
    url: str, hosts: tuple[str, ...], tls: bool, has_password: bool
) -> None:
    """All of its alternates have to be."""
    broker = facts_of(BrokerSettings(url=url))

    assert (broker.hosts, broker.tls, broker.has_password) == (hosts, tls, has_password)
    assert "hunter2" not in repr(broker)


def test_tls_may_be_a_setting() -> None:
    """As `broker_use_ssl`."""
    assert facts_of(BrokerSettings(url="redis://h", use_ssl={"ssl_cert_reqs": 2})).tls


def test_why_nothing_is_known_of_workers_is_the_deepest_reason() -> None:
    """The broker first."""
    broker = facts_of(BrokerSettings(url="redis://h"))
    missing = {"broker": "refused", "workers": "timeout"}

    assert Evidence(now=NOW, broker=broker, missing=missing).no_workers("tasks") == "refused"
    assert Evidence(now=NOW, broker=broker).no_workers() == "no worker answers"
    assert Evidence(now=NOW, broker=broker, workers=(Worker(name="w"),)).no_workers("conf") == (
        "no worker told its conf"
    )
