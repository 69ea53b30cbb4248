"""The ways in which the exporter is started, and what it is told to observe."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from services.exporter import Exporter
from services.imitation import ImitatedWorker
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

TESTS = Path(__file__).parents[1]
STARTED = "celery_task_started_total"
ROUNDS = "celery_observe_plugin_duration_seconds_count"
UNREACHED = "worker could not be told to send task events"


def of_app(broker: str, **conf: Any) -> dict[str, str]:
    """The environment in which `apps.sample` is an app with this broker and these settings."""
    return {"PYTHONPATH": str(TESTS), "SAMPLE_BROKER": broker, "SAMPLE_CONF": json.dumps(conf)}


class CeleryObserve(Exporter):
    """The same, started as a sub-command of the user's `celery`."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        super().__init__(folder, env=env)
        server = self.command[self.command.index("--host") :]
        self.command = [sys.executable, "-P", "-m", "celery", "-A", "apps.sample", "observe", *server]


def as_celery_observe(folder: Path, env: dict[str, str]) -> Exporter:
    """`celery -A apps.sample observe`."""
    return CeleryObserve(folder, env)


def as_run_with_app(folder: Path, env: dict[str, str]) -> Exporter:
    """`celery-observe run -A apps.sample`."""
    return Exporter(folder, arguments=("-A", "apps.sample"), env=env)


REDIS_CONF = {
    "broker_transport_options": {"global_keyprefix": "shop:", "sep": "|"},
    "event_exchange": "happenings",
}
RABBITMQ_CONF = {"event_exchange": "happenings", "event_queue_prefix": "watchers", "control_exchange": "orders"}


@pytest.mark.parametrize("start", [as_celery_observe, as_run_with_app])
@pytest.mark.parametrize(("broker", "conf"), [("redis", REDIS_CONF), ("rabbitmq", RABBITMQ_CONF)])
def test_all_comes_from_the_app(
    broker: str,
    conf: dict[str, Any],
    start: Callable[[Path, dict[str, str]], Exporter],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    celery_worker: Callable[..., Worker],
) -> None:
    """Broker, database, key prefix, separator, exchanges and queues are those that the app's workers use."""
    server = request.getfixturevalue("redis_server") if broker == "redis" else None
    url = server.url_of_database(3) if server else request.getfixturevalue("rabbitmq_url")
    conf = conf | {"task_send_sent_event": False}
    worker = celery_worker(url, queues=("only",), **conf)
    with start(tmp_path, of_app(url, **conf)) as page:
        page.wait_until_ready()
        page.wait_for(lambda samples: samples.value("celery_observe_plugin_up", plugin="workers") == 1)

        worker.send("add", 1, 2, queue="only")

        samples = page.wait_for(lambda samples: samples.total(STARTED) == 1)
        assert samples.value(STARTED, task="add", queue="only") == 1
        assert page.terminate() == 0


def test_several_brokers_are_told_apart(
    start_redis: Callable[..., Redis],
    rabbitmq_url: str,
    exporter: Callable[..., Exporter],
    celery_worker: Callable[..., Worker],
) -> None:
    """Two Redis and a RabbitMQ with workers of the same name: each has its own counts, and its own trouble."""
    first, second = start_redis(), start_redis()
    page = exporter(f"first={first.url}", f"second={second.url}", f"third={rabbitmq_url}")
    page.wait_until_ready()
    for number, url in enumerate((first.url, second.url, rabbitmq_url), start=1):
        worker = celery_worker(url, name="same")
        for _ in range(number):
            worker.send("add", 1, 2)

    samples = page.wait_for(lambda samples: samples.total(STARTED) == 6)
    assert [samples.total(STARTED, broker=name) for name in ("first", "second", "third")] == [1, 2, 3]

    second.kill()
    eventually(lambda: page.readiness()[0] == 503, what="readiness is red")
    assert [str(second.port) in reason for reason in page.readiness()[1]["reasons"]] == [True]
    up = "celery_observe_stream_up"
    assert [page.metrics().value(up, broker=name) for name in ("first", "second", "third")] == [1, 0, 1]


def test_events_are_turned_on_where_they_are_off(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """Workers that run without -E, and those that come later, are told to send task events."""
    first = celery_worker(redis_server.url, events=False, queues=("first",))
    page = exporter(redis_server.url, arguments=("--enable-events", "--inspect-interval", "0.2"))
    first.wait_output("Events of group {task} enabled by remote")
    second = celery_worker(redis_server.url, events=False, queues=("second",))
    second.wait_output("Events of group {task} enabled by remote")
    hidden = celery_worker(redis_server.url, "--without-heartbeat", events=False, queues=("hidden",))
    hidden.wait_output("Events of group {task} enabled by remote")

    for worker, queue in ((first, "first"), (second, "second"), (hidden, "hidden")):
        worker.send("add", 1, 2, queue=queue)

    page.wait_for(lambda samples: samples.total(STARTED) == 3)
    assert UNREACHED not in page.output


def test_workers_that_cannot_be_told_to_send_events_are_named(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """The log names, once, a worker without remote control, and one that has no event dispatcher to turn on."""
    deaf = celery_worker(redis_server.url, events=False, worker_enable_remote_control=False)
    mute = celery_worker(redis_server.url, "--without-heartbeat", "--without-gossip", events=False)

    page = exporter(redis_server.url, arguments=("--enable-events", "--inspect-interval", "0.2"))

    eventually(lambda: page.output.count(UNREACHED) == 2, what="two workers are named")
    rounds = page.metrics().total(ROUNDS, plugin="workers")
    page.wait_for(lambda samples: samples.total(ROUNDS, plugin="workers") >= rounds + 3)
    lines = [line for line in page.output.splitlines() if UNREACHED in line]
    assert sorted(worker for worker in (deaf.node, mute.node) for line in lines if worker in line) == sorted(
        [deaf.node, mute.node]
    )
    assert len(lines) == 2


def test_asking_leaves_nothing_behind(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """Neither keys in Redis nor connections are left by enquiries, answered or not."""
    celery_worker(redis_server.url, worker_enable_remote_control=False)
    celery_worker(redis_server.url)
    with redis_server.client() as client:
        keys, connections = set(client.keys()), len(client.client_list())
        page = exporter(redis_server.url, arguments=("--enable-events", "--inspect-interval", "0.1"))

        page.wait_for(lambda samples: samples.total(ROUNDS, plugin="workers") >= 5)
        assert page.terminate() == 0

        eventually(lambda: len(client.client_list()) == connections, what="only the connections of before are left")
        assert set(client.keys()) == keys


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_hostile_messages_are_counted_and_harmless(
    broker: str, request: pytest.FixtureRequest, exporter: Callable[..., Exporter], tmp_path: Path
) -> None:
    """Garbage, pickles, deep and huge bodies: each is counted by its reason, nothing is run, and counting goes on."""
    url = request.getfixturevalue("redis_server").url if broker == "redis" else request.getfixturevalue("rabbitmq_url")
    page = exporter(url)
    page.wait_until_ready()
    trap = tmp_path / "sprung"
    with ImitatedWorker(url) as worker:
        for body, content_type in hostile(trap):
            worker.publish(body, content_type)
        worker.accept(3)

        samples = page.wait_for(lambda samples: samples.total(STARTED) == 3)

    family = "celery_observe_events_malformed_total"
    found = {dict(labels)["reason"]: value for (name, labels), value in samples.items() if name == family}
    assert found == {
        "not_json": 2, "not_utf8": 1, "too_deep": 1, "missing_field": 2, "wrong_type": 3, "refused_content": 2,
        "too_large": 1,
    }  # fmt: skip
    assert not trap.exists()
    assert samples.value("celery_observe_stream_reconnects_total") == 0


def hostile(trap: Path) -> list[tuple[bytes, str]]:
    """Bodies and their content types; unpickling the pickle would create the file."""
    pickle = f"cos\nsystem\n(S'touch {trap}'\ntR.".encode()
    event = {"type": "task-started", "timestamp": 1.0, "hostname": "a@b", "uuid": str(uuid.uuid4())}
    json_type = "application/json"
    return [
        (b"", json_type),
        (json.dumps(event).encode()[:-5], json_type),
        (b'{"type": "\xff\xfe"}', json_type),
        (b"[" * 100_000, json_type),
        (b"{}", json_type),
        (json.dumps([{**event, "uuid": None}, {**event, "type": None}]).encode(), json_type),
        (json.dumps({**event, "timestamp": "noon"}).encode(), json_type),
        (json.dumps({**event, "uuid": ["a"]}).encode(), json_type),
        (json.dumps({**event, "hostname": "x" * 100_000}).encode(), json_type),
        (pickle, "application/x-python-serialize"),
        (b"- type: x", "application/x-yaml"),
    ]  # fmt: skip


def test_a_password_is_never_shown(
    start_redis: Callable[..., Redis], rabbitmq_server: RabbitMQ, rabbitmq_url: str, exporter: Callable[..., Exporter]
) -> None:
    """Neither log nor pages hold it: with a right password, a wrong one, and a broker that is away."""
    password = "hunter2horse"
    server = start_redis(password=password)
    wrong_redis = server.url.replace(password, "wrong4zebra")
    wrong_rabbitmq = rabbitmq_url.replace("guest:guest", "guest:wrong4zebra")
    page = exporter(
        f"good={server.url}",
        f"bad={wrong_redis}",
        f"worse={wrong_rabbitmq}",
        arguments=("--log-level", "debug", "--inspect-interval", "0.1"),
    )
    eventually(lambda: len(page.readiness()[1]["reasons"]) == 2, what="two brokers refuse the password")
    server.kill()
    eventually(lambda: len(page.readiness()[1]["reasons"]) == 3, what="no broker is connected")

    shown = page.output + "".join(page.get(path)[1] for path in ("/", "/metrics", "/readyz", "/healthz"))

    assert rabbitmq_server.running
    assert "***" in shown
    assert password not in shown
    assert "wrong4zebra" not in shown


def test_scrapes_and_a_flood_of_events_do_not_hold_each_other_up(
    redis_server: Redis, exporter: Callable[..., Exporter]
) -> None:
    """While thousands of events arrive, scrapes are answered at once, and constant scraping delays no event."""
    page = exporter(redis_server.url)
    page.wait_until_ready()
    durations, lags = [], []
    with ImitatedWorker(redis_server.url) as worker:
        worker.beat()
        for _ in range(20):
            worker.accept(50)
            asked = time.monotonic()
            samples = page.metrics()
            durations.append(time.monotonic() - asked)
            lags.append(samples.value("celery_observe_event_lag_seconds") or 0.0)
        worker.beat(3)
        page.wait_for(lambda samples: samples.total(STARTED) == 1_000)

    print(f"slowest scrape {max(durations):.3f} s, greatest lag {max(lags):.3f} s")
    assert median(durations) < 1.0
    assert median(lags) < 1.0
    assert page.metrics().total("celery_observe_tasks_unobserved_total") == 0
