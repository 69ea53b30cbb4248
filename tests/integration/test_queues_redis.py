"""The queue probe against real Redis servers, with messages that Celery published and workers hold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from apps.sample import make_app
from celery_observe.errors import CeleryObserveError
from celery_observe.probes.queues import redis as probe_of_redis
from services.certificates import Certificates
from services.exporter import Exporter, Samples
from services.probed import Heard, Probed
from services.redis import Redis
from services.sentinel import Sentinel
from services.waiting import eventually
from services.worker import TESTS, Worker


@pytest.fixture
def probe() -> Iterator[Callable[..., Probed]]:
    """Make the probe of a broker: `probe(url, heard, options={…}, queue=("a",))`; closed after the test."""
    made: list[Probed] = []

    def make(*args: Any, **settings: Any) -> Probed:
        made.append(Probed(*args, **settings))
        return made[-1]

    yield make
    for probed in made:
        probed.close()


def publish(url: str, queue: str, times: int = 1, *, options: dict[str, Any] | None = None, **sending: Any) -> None:
    """Send tasks as a user's app does."""
    with make_app(url, broker_transport_options=options or {}) as app:
        for _ in range(times):
            app.send_task("add", (1, 2), queue=queue, **sending)


def push(url: str, queue: str, headers: dict[str, Any], **properties: Any) -> None:
    """Send a message with these headers and no others."""
    bound = Queue(queue, Exchange(queue), routing_key=queue)
    with Connection(url) as connection:
        connection.Producer().publish({}, routing_key=queue, headers=headers, declare=[bound], **properties)


@pytest.mark.parametrize("database", [0, 5])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"global_keyprefix": "shop[1]:"},
        {"priority_steps": list(range(10)), "sep": ":"},
        {"priority_steps": [0, 5], "sep": "/", "global_keyprefix": "{shop}", "queue_order_strategy": "priority"},
    ],
)
def test_what_waits_is_counted_by_priority_wherever_kombu_puts_it(
    redis_server: Redis, probe: Callable[..., Probed], options: dict[str, Any], database: int
) -> None:
    """Steps of priority, separator, key prefix and database are the user's."""
    url = redis_server.url_of_database(database)
    steps = options.get("priority_steps", [0, 3, 6, 9])
    for priority in range(10):
        publish(url, "high", priority=priority, options=options)
    publish(url, "low", 2, options=options)

    told = probe(url, options=options).ask()

    expected = {("high", str(step)): 0.0 for step in steps} | {("low", str(step)): 0.0 for step in steps}
    for priority in range(10):
        expected["high", str(max(step for step in steps if step <= priority))] += 1
    expected["low", "0"] = 2
    assert told.values("waiting") == expected


def test_it_reads_over_tls_with_a_password(
    start_redis: Callable[..., Redis], certificates: Certificates, probe: Callable[..., Probed]
) -> None:
    """The URL of the broker is all that is needed."""
    server = start_redis(password="secret", tls=certificates)
    publish(server.url, "celery")

    assert probe(server.url).ask().value("waiting", "celery", "0") == 1


def test_it_reads_from_the_master_that_the_sentinel_names(
    redis_sentinel: Sentinel, probe: Callable[..., Probed]
) -> None:
    """Transport options lead to the master, and after its death to the one that took over."""
    options = redis_sentinel.transport_options
    publish(redis_sentinel.url, "celery", options=options)
    told = probe(redis_sentinel.url, options=options)
    assert told.ask().value("waiting", "celery", "0") == 1
    with redis_sentinel.replica.client() as client:
        eventually(lambda: client.llen("celery") == 1, what="the replica has the message")

    redis_sentinel.master.kill()

    def answers() -> bool:
        try:
            return told.ask().value("waiting", "celery", "0") == 1
        except CeleryObserveError:
            return False

    eventually(answers, timeout=30.0, what="the probe reads from the new master")


def test_a_queue_is_there_without_workers_and_messages_until_its_binding_goes(
    redis_server: Redis, probe: Callable[..., Probed]
) -> None:
    """An autoscaler needs a zero; a queue that was deleted is absent."""
    publish(redis_server.url, "celery")
    told = probe(redis_server.url)
    with redis_server.client() as client:
        client.delete("celery")
        assert told.ask().value("waiting", "celery", "0") == 0
        assert told.value("in_flight", "celery") == 0
        assert told.value("oldest_age_seconds", "celery") == 0

        client.delete("_kombu.binding.celery")

    eventually(lambda: told.ask().values("waiting") == {}, what="no queue is told of")


def test_queues_come_from_workers_events_and_settings(redis_server: Redis, probe: Callable[..., Probed]) -> None:
    """An event alone makes no queue: it may be gone since. Denied queues are never shown."""
    with redis_server.client() as client:
        client.lpush("heard-full", "{}")
        client.lpush("denied", "{}")
    heard = Heard({"heard-full", "heard-empty", "denied"}, {"consumed": 3})

    told = probe(redis_server.url, heard, queue=("declared", "*"), queue_deny=("den*",)).ask()

    assert {queue for queue, _ in told.values("waiting")} == {"declared", "heard-full", "consumed"}
    assert told.value("consumers", "consumed") == 3
    assert told.value("consumers", "declared") == 0


def test_consumers_are_absent_while_they_are_not_known(redis_server: Redis, probe: Callable[..., Probed]) -> None:
    """Redis itself does not know who consumes."""
    publish(redis_server.url, "celery")

    assert probe(redis_server.url, Heard(consumed=None)).ask().values("consumers") == {}


def test_a_binding_that_comes_later_is_found_among_many_keys(
    redis_server: Redis, probe: Callable[..., Probed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walk through the keys goes on, a step each round."""
    monkeypatch.setattr(probe_of_redis, "_SCAN_KEYS", 100)
    monkeypatch.setattr(probe_of_redis.RedisQueues, "first_scans", 1)
    with redis_server.client() as client:
        client.mset({f"celery-task-meta-{number}": "" for number in range(1000)})
        told = probe(redis_server.url).ask()
        publish(redis_server.url, "late")

    eventually(lambda: told.ask().value("waiting", "late", "0") == 1, what="the queue is found")


def test_dead_letters_and_orphans_are_counted_apart(redis_server: Redis, probe: Callable[..., Probed]) -> None:
    """A dead-letter list needs no binding; what is no list is passed over."""
    with redis_server.client() as client:
        client.lpush("orders.dlq", "{}", "{}")
        client.set("not-a-dlq", "text")
        client.lpush("0c2a.reply.celery.pidbox", "{}")
        client.lpush("celeryev.0c2a", "{}")
        client.lpush("shop-dead", "{}")

    told = probe(redis_server.url, dead_letter=("*dlq*", "shop-dead")).ask()

    assert told.values("dead_letters") == {("orders.dlq",): 2, ("shop-dead",): 1}
    assert told.values("waiting") == {}
    assert told.value("orphans") == 2


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_a_worker_holds_is_told_by_queue_and_by_eta(
    redis_server: Redis, probe: Callable[..., Probed], celery_worker: Callable[..., Worker], pool: str
) -> None:
    """Held for execution, for an ETA, and for an ETA at which Redis will have delivered the message again."""
    conf = {"task_acks_late": True, "worker_prefetch_multiplier": 4}
    worker = celery_worker(redis_server.url, pool=pool, queues=("fast", "slow"), concurrency=1, **conf)
    for _ in range(2):
        worker.send("work", 30, queue="slow")
    worker.send("add", 1, 2, queue="fast", countdown=600)
    worker.send("add", 1, 2, queue="slow", countdown=7200)
    told = probe(redis_server.url)

    def held() -> tuple[float, float]:
        told.ask()
        return sum(told.values("in_flight").values()), sum(told.values("scheduled").values())

    eventually(lambda: held() == (2, 2), what="the worker holds all")

    assert told.values("in_flight") == {("fast",): 0, ("slow",): 2}
    assert told.values("scheduled") == {("fast",): 1, ("slow",): 1}
    assert told.values("eta_beyond_visibility_timeout") == {("fast",): 0, ("slow",): 1}
    assert told.value("unattributed") == 0


def hold(server: Redis, routes: dict[tuple[str, str], int], **message: Any) -> None:
    """Write entries into `unacked` as a worker does."""
    with server.client() as client, client.pipeline() as pipe:
        for (exchange, routing_key), count in routes.items():
            for number in range(count):
                tag = f"{exchange}/{routing_key}/{number}"
                pipe.hset("unacked", tag, json.dumps([{"headers": {}} | message, exchange, routing_key]))
                pipe.zadd("unacked_index", {tag: time.time()})
        pipe.execute()


def test_a_routing_key_leads_to_its_queue_by_the_bindings(redis_server: Redis, probe: Callable[..., Probed]) -> None:
    """Where several queues are bound, none is guessed: it is absent, and the messages are unattributed."""
    with redis_server.client() as client:
        for member in ("orders.*\x06\x16^orders\\.[^.]+$\x06\x16orders", "#\x06\x16^.*$\x06\x16audit"):
            client.sadd("_kombu.binding.topic", member)
        client.sadd("_kombu.binding.direct", "key\x06\x16\x06\x16mail")
    hold(redis_server, {("topic", "orders.new"): 3, ("topic", "users.new"): 2, ("direct", "key"): 1, ("", "plain"): 4})

    told = probe(redis_server.url, queue=("plain", "*")).ask()

    assert told.values("in_flight") == {("mail",): 1, ("plain",): 4}
    assert told.value("unattributed") == 3


def test_more_than_can_be_looked_at_is_absent_and_says_so(
    redis_server: Redis, probe: Callable[..., Probed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of what is in flight would be a wrong number."""
    monkeypatch.setattr(probe_of_redis, "MAX_UNACKED", 100)
    hold(redis_server, {("", "celery"): 101})

    told = probe(redis_server.url, queue=("celery",)).ask()

    assert told.values("in_flight") == {}
    assert told.value("unattributed") == 101


def test_a_large_hash_is_read_in_rounds_within_bounds(
    redis_server: Redis, probe: Callable[..., Probed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers are absent until all entries are known, and then only new ones are fetched."""
    monkeypatch.setattr(probe_of_redis, "_MAX_BYTES", 40_000)
    hold(redis_server, {("", "celery"): 7000}, body="x" * 10)
    told = probe(redis_server.url, queue=("celery",))

    first = told.ask().value("in_flight", "celery")
    eventually(lambda: told.ask().value("in_flight", "celery") == 7000, what="all is read")

    assert first is None
    with redis_server.client() as client:
        client.config_resetstat()
        told.ask()
        assert "cmdstat_hmget" not in client.info("commandstats")


def test_the_age_is_that_of_the_publish_stamp(redis_server: Redis, probe: Callable[..., Probed]) -> None:
    """The oldest of all priorities counts; a message for later is not late."""
    now = time.time()
    for priority, age in ((0, 50), (9, 100), (9, 10)):
        push(redis_server.url, "celery", {"celery_observe_published": round(1e6 * (now - age))}, priority=priority)
    later = datetime.now(UTC) + timedelta(hours=1)
    push(redis_server.url, "later", {"celery_observe_published": round(1e6 * (now - 50)), "eta": later.isoformat()})

    told = probe(redis_server.url).ask()

    assert told.value("oldest_age_seconds", "celery") == pytest.approx(100, abs=5)
    assert told.value("oldest_age_seconds", "later") == 0


def test_without_a_stamp_the_age_is_that_of_the_events(redis_server: Redis, probe: Callable[..., Probed]) -> None:
    """Where events do not tell of all messages there is no age."""
    for queue in ("known", "unknown") * 2:
        push(redis_server.url, queue, {})
    now = time.time()

    told = probe(redis_server.url, Heard(since={"known": [now - 40, now - 30, now - 20], "unknown": [now - 5]})).ask()

    assert told.values("oldest_age_seconds") == {("known",): pytest.approx(30, abs=5)}


def test_two_hundred_queues_are_one_round_trip(redis_server: Redis, probe: Callable[..., Probed]) -> None:
    """A round sends all its commands at once, and none that looks at all keys or at a whole hash."""
    with redis_server.client() as client:
        for number in range(200):
            client.sadd(f"_kombu.binding.q{number}", f"q{number}\x06\x16\x06\x16q{number}")
            client.lpush(f"q{number}", "{}")
        told = probe(redis_server.url).ask()
        client.config_resetstat()
        before = client.info("stats")["total_reads_processed"]

        told.ask()

        assert len(told.values("waiting")) == 800
        commands = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
        assert commands <= {"llen", "lindex", "smembers", "zrange", "zcard", "scan", "info", "config|resetstat"}
        reads = client.info("stats")["total_reads_processed"] - before
    assert reads < 20  # a round trip of 75 kB, which the server reads in pieces of 16 kB


def test_a_wrong_password_is_said_without_showing_it(
    start_redis: Callable[..., Redis], probe: Callable[..., Probed]
) -> None:
    """The reason is for the log."""
    server = start_redis(password="secret")

    with pytest.raises(CeleryObserveError) as caught:
        probe(server.url.replace("secret", "hunter2")).ask()

    assert "hunter2" not in str(caught.value)
    assert "cannot connect" in str(caught.value)


def up(page: Samples) -> float | None:
    """Whether the probe worked when it ran last."""
    return page.value("celery_observe_plugin_up", plugin="queues.redis")


def test_a_stalled_redis_makes_values_absent_and_scrapes_stay_fast(
    redis_server: Redis, exporter: Callable[..., Exporter]
) -> None:
    """No value outlives what is known, no scrape waits, and all comes back."""
    publish(redis_server.url, "celery", 3)
    page = exporter(redis_server.url, arguments=("--queue-interval", "0.5"))
    page.wait_for(lambda samples: samples.value("celery_queue_waiting", queue="celery", priority="0") == 3)

    redis_server.pause()
    try:
        stalled, slowest = page.time_scrapes(lambda samples: up(samples) == 0)  # until then a probe hangs
    finally:
        redis_server.resume()

    assert slowest < 2  # a probe hangs for three seconds
    assert stalled.select("celery_queue_waiting") == []
    assert stalled.value("celery_observe_probe_last_success_timestamp_seconds", plugin="queues.redis") is not None
    back = page.wait_for(lambda samples: samples.value("celery_queue_waiting", queue="celery", priority="0") == 3)
    assert up(back) == 1


def test_a_stalled_redis_does_not_keep_the_exporter_from_ending(
    redis_server: Redis, exporter: Callable[..., Exporter]
) -> None:
    """SIGTERM ends it within three seconds, in the middle of a probe too."""
    page = exporter(redis_server.url, arguments=("--queue-interval", "0.2"))
    page.wait_for(up)
    redis_server.pause()
    try:
        started = time.monotonic()
        assert page.terminate(timeout=10.0) == 0
    finally:
        redis_server.resume()

    assert time.monotonic() - started < 3.0


def test_depth_age_and_consumers_follow_real_workers(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """From a backlog without a worker to an empty queue with one."""
    page = exporter(redis_server.url, arguments=("--queue-interval", "0.5"))
    page.wait_until_ready()
    publish(redis_server.url, "celery", 2)
    alone = page.wait_for(lambda samples: (samples.value("celery_queue_oldest_age_seconds", queue="celery") or 0) > 1)
    assert alone.total("celery_queue_waiting", queue="celery") == 2
    assert alone.value("celery_queue_consumers", queue="celery") == 0

    celery_worker(redis_server.url)

    served = page.wait_for(lambda samples: samples.value("celery_queue_consumers", queue="celery") == 1)
    assert served.total("celery_queue_waiting", queue="celery") == 0
    assert served.value("celery_queue_oldest_age_seconds", queue="celery") == 0


def test_an_app_declares_its_queues(redis_server: Redis, exporter: Callable[..., Exporter]) -> None:
    """They are there on a broker that has never been used, with the app's transport options."""
    conf = {
        "task_queues": {"high": {}, "low": {}},
        "broker_transport_options": {"priority_steps": [0, 1], "sep": ":"},
    }
    env = {"SAMPLE_BROKER": redis_server.url, "SAMPLE_CONF": json.dumps(conf), "PYTHONPATH": str(TESTS)}
    page = exporter(arguments=("-A", "apps.sample", "--queue-interval", "0.5", "--queue-deny", "low"), env=env)

    samples = page.wait_for(lambda samples: samples.select("celery_queue_waiting"))

    assert samples.value("celery_queue_waiting", queue="high", priority="1") == 0
    assert len(samples.select("celery_queue_waiting")) == 2


def test_two_brokers_are_asked_apart(start_redis: Callable[..., Redis], exporter: Callable[..., Exporter]) -> None:
    """The stall of one hides nothing of the other."""
    one, two = start_redis(), start_redis()
    publish(one.url, "celery", 1)
    publish(two.url, "celery", 2)
    page = exporter(f"one={one.url}", f"two={two.url}", arguments=("--queue-interval", "0.5"))
    page.wait_for(lambda samples: len(samples.select("celery_queue_waiting", priority="0")) == 2)

    one.pause()
    try:
        samples = page.wait_for(lambda samples: not samples.select("celery_queue_waiting", broker="one"))
    finally:
        one.resume()

    assert samples.value("celery_queue_waiting", broker="two", queue="celery", priority="0") == 2
