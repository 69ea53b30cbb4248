"""`celery-observe doctor` on real brokers and workers: what is wrong is found, nothing changes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from apps.sample import make_app
from celery_observe.doctor import examine
from celery_observe.findings import FORMATS, render
from celery_observe.settings import load
from services.beat import Beat
from services.celery_versions import interpreter, packages
from services.doctor import look, printed
from services.exporter import Exporter
from services.imitation import ImitatedWorker
from services.proxy import Proxy
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

SECRET = "4111-1111-1111-1111"
GOOD: dict[str, Any] = {
    "task_send_sent_event": True,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "worker_max_tasks_per_child": 100,
    "task_soft_time_limit": 20,
    "task_time_limit": 30,
    "task_ignore_result": True,
}


@contextmanager
def repeated(act: Callable[[], object]) -> Iterator[None]:
    """Do something a few times a second while the doctor listens."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.2):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def sick_redis(start_redis: Callable[..., Redis]) -> Redis:
    """A Redis that is configured for a cache."""
    return start_redis(
        "--maxmemory",
        "100mb",
        "--maxmemory-policy",
        "allkeys-lru",
        "--client-output-buffer-limit",
        "pubsub 1mb 512kb 9",
    )


TRAPS: dict[str, tuple[str | None, str]] = {
    "chord-backend": ("warning", "result_backend is rpc for the app"),
    "clock-skew": ("warning", "behind the broker"),
    "double-counting": ("warning", "1 exporter"),
    "mixed-versions": ("warning", "5.6.3: 1 (old@localhost)"),
    "orphan-keys": ("info", "named *.reply.celery.pidbox"),
    "pickle": ("critical", "threads@localhost has pickle"),
    "pool-limits": ("warning", "threads pool enforces no time limit"),
    "prefetch": ("warning", "work ran for"),
    "queue-consumers": ("warning", "in nobody; but skewed@elsewhere may, and did not answer"),
    "redis-eviction": ("critical", "allkeys-lru, maxmemory is 100 MiB"),
    "redis-output-limit": ("warning", "hard 1.0 MiB, soft 0.5 MiB for 9 s"),
    "redis-persistence": ("warning", "aof_enabled is 0"),
    "routes": ("warning", "add to nobody"),
    "sent-events": ("warning", "False for threads@localhost"),
    "silent-dispatcher": ("warning", "asked for a heartbeat: mute@localhost"),
    "task-events": ("warning", "by threads@localhost"),
    "time-limits": (None, ""),  # no worker has a pool of processes
    "two-beats": ("critical", "2 beats are running"),
    "unregistered-tasks": ("critical", "no.such.task in celery"),
    "visibility-timeout": ("critical", "add waits in a worker for its ETA"),
    "workers-answer": ("warning", "silent: skewed@elsewhere"),
}
"""What the traps below amount to: the severity, and a part of what is said."""


def sick_workers(url: str, celery_worker: Callable[..., Worker]) -> None:
    """One on threads without events that executes a long task, one that cannot send any, and one of another version."""
    wrong = {"task_send_sent_event": False, "accept_content": ["json", "pickle"], "task_soft_time_limit": 9}
    threads = celery_worker(url, pool="threads", queues=("celery", "long"), name="threads", events=False, **wrong)
    threads.send("work", 200, queue="long")
    mute = ("--without-gossip", "--without-heartbeat")
    celery_worker(url, *mute, queues=("quiet",), name="mute", events=False).send(
        "add", 1, 2, queue="quiet", countdown=7200
    )
    celery_worker(url, name="old", queues=("old",), python=interpreter("5.6.3"))


def two_beats(url: str, folder: Path, processes: ExitStack) -> None:
    """Two with the same schedule."""
    schedule = {"sum": {"task": "add", "schedule": 0.5, "args": [1, 2]}}
    for _ in range(2):
        processes.enter_context(Beat(folder, url, schedule, app="apps.sample", beat_enable_remote_control=True))


@contextmanager
def strange_messages(url: str) -> Iterator[None]:
    """Heartbeats of a worker whose clock is slow, and tasks to nobody and of no worker's."""
    publisher = make_app(url)
    with ImitatedWorker(url, name="skewed@elsewhere") as skewed:

        def act() -> None:
            skewed.say("worker-heartbeat", timestamp=time.time() - 60, freq=2.0, sw_ver="5.7.0", processed=0, active=0)
            publisher.send_task("no.such.task", queue="celery")
            publisher.send_task("add", (1, 2), queue="nobody")

        with repeated(act):
            yield
    publisher.close()


@pytest.mark.timeout(240)
def test_what_is_wrong_on_redis_is_found(
    start_redis: Callable[..., Redis],
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
    processes: ExitStack,
    tmp_path: Path,
) -> None:
    """Each trap, laid for real, is found with its evidence in one look."""
    server = sick_redis(start_redis)
    sick_workers(server.url, celery_worker)
    began = time.monotonic()
    two_beats(server.url, tmp_path, processes)
    exporter(server.url).wait_until_ready()
    with server.client() as client:
        client.rpush("0a1b.reply.celery.pidbox", "an answer that nobody awaits")
    eventually(lambda: time.monotonic() - began > 11, 15.0, what="a task runs for long")
    conf: dict[str, Any] = {"task_routes": {"mail.*": {"queue": "mial"}}, "result_backend": "rpc://"}

    with strange_messages(server.url):
        found = look(app="apps.instrumented", broker=server.url, **conf)

    assert found.code == 4
    said = {rule: " ".join(f"{each['message']} {each['evidence']}" for each in found.of(rule)) for rule in TRAPS}
    missed = {
        rule: (found.severities.get(rule), said[rule])
        for rule, (severity, text) in TRAPS.items()
        if found.severities.get(rule) != severity or text not in said[rule]
    }
    assert not missed
    assert "mail.* to mial" in said["routes"]


def test_a_redis_and_workers_as_they_should_be_have_nothing_above_info(
    start_redis: Callable[..., Redis], celery_worker: Callable[..., Worker]
) -> None:
    """And the exit code is 0."""
    server = start_redis("--appendonly", "yes")
    worker = celery_worker(server.url, pool="prefork", **GOOD)

    with repeated(lambda: worker.send("add", 1, 2)):
        found = look(app="apps.sample", broker=server.url, **GOOD)

    assert set(found.severities.values()) <= {"info"}, json.dumps(found.told, indent=1)
    assert found.code == 0
    assert set(found.unchecked) <= {"two-beats", "time-limits"}


def test_rabbitmq_is_looked_at_as_well(
    rabbitmq_server: RabbitMQ,
    rabbitmq_url: str,
    celery_worker: Callable[..., Worker],
    exporter: Callable[..., Exporter],
) -> None:
    """What is wrong there is found, and mended it is not found any more."""
    address = f"http://guest:guest@127.0.0.1:{rabbitmq_server.management_port}"
    bad = {**GOOD, "task_default_priority": 5}
    worker = celery_worker(rabbitmq_url, name="plain", **bad)
    worker.send("add", 1, 2, queue="nobody")
    worker.send("add", 1, 2, countdown=7200)

    exporter(rabbitmq_url).wait_until_ready()
    host = rabbitmq_url.rpartition("/")[2]

    def is_told() -> bool:
        queues = {queue["name"]: queue for queue in rabbitmq_server.management("GET", f"queues/{host}")}
        heard = [name for name, queue in queues.items() if name.startswith("celeryev") and queue.get("consumers")]
        return queues.get("nobody", {}).get("messages") == 1 and bool(heard)

    eventually(is_told, 30.0, what="the API shows what there is")

    with repeated(lambda: worker.send("add", 1, 2)):
        found = look("--management-url", address, app="apps.instrumented", broker=rabbitmq_url, **bad)
    worker.stop()
    rabbitmq_server.management("DELETE", f"queues/{host}/nobody")
    rabbitmq_server.management("DELETE", f"queues/{host}/celery")
    good = celery_worker(rabbitmq_url, name="good", pool="prefork", task_queue_max_priority=10, **bad)
    with repeated(lambda: good.send("add", 1, 2)):
        mended = look(
            "--management-url", address, app="apps.sample", broker=rabbitmq_url, task_queue_max_priority=10, **bad
        )

    expected = {
        "priorities": "warning",
        "queue-consumers": "critical",
        "acknowledgement-timeout": "warning",
        "double-counting": "warning",
    }
    assert {rule: found.severities.get(rule) for rule in expected} == expected, json.dumps(found.told, indent=1)
    assert "1 messages in nobody" in found.of("queue-consumers")[0]["evidence"]
    assert set(mended.severities.values()) <= {"info"}, json.dumps(mended.told, indent=1)
    assert mended.code == 0


def keys_of(server: Redis) -> dict[bytes, bytes]:
    """All keys of a Redis and what is in them; the lock that workers take each minute is none of ours."""
    with server.client() as client:
        return {key: client.dump(key) for key in client.scan_iter() if key != b"unacked_mutex"}


def test_nothing_changes_on_redis(redis_server: Redis, celery_worker: Callable[..., Worker]) -> None:
    """No key is written, none deleted and none changed: neither where nobody ever was, nor beside a worker."""
    empty = look(broker=redis_server.url)
    after_empty = keys_of(redis_server)
    worker = celery_worker(redis_server.url)
    for _ in range(3):
        worker.send("add", 1, 2, queue="nobody")
    before = eventually(lambda: keys_of(redis_server), what="the worker has bound its queue")

    found = look(broker=redis_server.url)

    assert after_empty == {}
    assert "workers-answer" in empty.severities
    assert found.told["subject"].endswith(", 1 worker, 2 queues")
    assert keys_of(redis_server) == before


def test_nothing_changes_on_rabbitmq(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, celery_worker: Callable[..., Worker]
) -> None:
    """No queue, exchange or binding is left behind, and no message is taken."""
    host = rabbitmq_url.rpartition("/")[2]

    def state() -> list[Any]:
        queues = rabbitmq_server.management("GET", f"queues/{host}")
        told = sorted((queue["name"], queue.get("messages", 0)) for queue in queues)
        exchanges = sorted(each["name"] for each in rabbitmq_server.management("GET", f"exchanges/{host}"))
        bindings = sorted(each["properties_key"] for each in rabbitmq_server.management("GET", f"bindings/{host}"))
        return [told, exchanges, bindings]

    untouched = state()
    look(broker=rabbitmq_url)
    assert state() == untouched
    worker = celery_worker(rabbitmq_url)
    worker.send("add", 1, 2, queue="nobody")
    before = eventually(
        lambda: (now := state()) and ("nobody", 1) in now[0] and now, 30.0, what="the message shows in the API"
    )

    found = look(broker=rabbitmq_url)

    assert found.told["subject"].endswith(", 1 worker, 1 queue")
    assert eventually(lambda: state() == before, 30.0, what="the API shows what there was before")


def test_secrets_and_arguments_are_never_printed(
    start_redis: Callable[..., Redis], celery_worker: Callable[..., Worker]
) -> None:
    """Though they wait in queues, in workers, in settings and in the URL."""
    server = start_redis(password="hunter2")
    worker = celery_worker(server.url, broker_transport_options={"sentinel_kwargs": {"password": "hunter2"}})
    worker.send("fail", SECRET, queue="nobody")
    worker.send("fail", SECRET, countdown=9000)
    worker.send("fail", SECRET)

    report = examine(load({"broker": (server.url,)}, {}), listen=1.0)
    code, output = printed("-b", server.url, "--listen-for", "1")

    assert code == 4
    for told in (output, *(render(report, form) for form in FORMATS)):
        assert "visibility-timeout" in told
        assert "hunter2" not in told
        assert SECRET not in told


def test_an_app_of_an_older_celery_is_looked_at(redis_server: Redis) -> None:
    """Its settings are fewer than those of today."""
    found = look(
        "--listen-for",
        "0",
        app="apps.sample",
        broker=redis_server.url,
        celery=packages("5.5.3"),
        accept_content=["json", "pickle"],
    )

    assert found.severities["pickle"] == "critical"
    assert "accept_content of the app has pickle" in found.of("pickle")[0]["evidence"]


def test_what_a_user_of_the_broker_may_not_ask_is_said(start_redis: Callable[..., Redis]) -> None:
    """Redis refuses commands to users with few rights, and managed ones refuse them to all; the rest is looked at."""
    server = start_redis("--user", "few", "on", ">word", "~*", "&*", "+@all", "-config", "-client", "-info", "-time")
    few = server.url.replace("redis://", "redis://few:word@")

    report = examine(load({"broker": (few,)}, {}), listen=0.0)

    reasons = {each.rule.name: each.reason for each in report.unchecked}
    refused = {"double-counting", "redis-eviction", "redis-output-limit", "redis-persistence"}
    assert {name for name in refused if "permission" in reasons.get(name, "")} == refused, reasons
    assert "orphan-keys" not in reasons
    assert "word" not in " ".join(reasons.values())


@pytest.mark.parametrize("kind", ["gone", "frozen"])
def test_a_broker_that_does_not_answer_is_one_finding(redis_server: Redis, kind: str) -> None:
    """Within seconds, whether it refuses or hangs; all the rest could not be checked, for that reason."""
    if kind == "gone":
        redis_server.stop()
    else:
        redis_server.pause()
    began = time.monotonic()

    found = look(broker=redis_server.url)

    assert found.code == 4
    assert found.severities == {"broker-unreachable": "critical"}
    assert len(found.unchecked) > 20
    assert time.monotonic() - began < 40


def test_a_broker_that_stalls_meanwhile_ends_the_look(redis_server: Redis) -> None:
    """What was seen until then is told."""
    with Proxy(redis_server.port) as network:
        timer = threading.Timer(4.0, network.stall)
        timer.start()
        began = time.monotonic()

        found = look("--listen-for", "20", broker=f"redis://127.0.0.1:{network.port}/0")

        timer.join()
    assert found.told["findings"]
    assert time.monotonic() - began < 60


def test_a_rabbitmq_that_hangs_is_one_finding(rabbitmq_server: RabbitMQ, rabbitmq_url: str) -> None:
    """Of a broker that takes connections and says nothing."""
    with Proxy(rabbitmq_server.port) as network:
        network.stall()

        found = look(broker=rabbitmq_url.replace(f":{rabbitmq_server.port}/", f":{network.port}/"))

    assert found.severities == {"broker-unreachable": "critical"}
