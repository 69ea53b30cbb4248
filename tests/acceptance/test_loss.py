"""Whatever events are lost, the number of tasks that were not seen is on the page, to the task.

The sum that must hold: tasks that workers accepted are `celery_task_started_total` and
`celery_observe_tasks_unobserved_total` together. It holds once each worker has sent two heartbeats after the last task.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.celery_versions import interpreter
from services.exporter import Exporter, Samples
from services.imitation import ImitatedWorker
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

STARTED = "celery_task_started_total"
UNOBSERVED = "celery_observe_tasks_unobserved_total"
GAP = "celery_observe_stream_gap_seconds_total"
RECONNECTS = "celery_observe_stream_reconnects_total"
POOLS = ("prefork", "threads")
SETTLES_WITHIN = 15.0  # seconds: three heartbeats, on a busy machine

# Redis cuts off a listener that is this much behind; its default is 32 MB.
SMALL_BUFFER = ("--client-output-buffer-limit", "pubsub 256kb 256kb 60")


def accepted(samples: Samples) -> float:
    """Tasks that workers have accepted as far as the page knows."""
    return samples.total(STARTED) + samples.total(UNOBSERVED)


def settle(page: Exporter, tasks: int) -> Samples:
    """Wait until the page accounts for so many tasks; more heartbeats later it must still be so many."""
    page.wait_for(lambda samples: accepted(samples) == tasks, timeout=SETTLES_WITHIN)
    beats = page.metrics().total("celery_observe_events_total", type="worker-heartbeat")
    samples = page.wait_for(
        lambda samples: samples.total("celery_observe_events_total", type="worker-heartbeat") >= beats + 3
    )
    assert accepted(samples) == tasks
    return samples


def settle_imitated(page: Exporter, *workers: ImitatedWorker) -> Samples:
    """The same for workers that only speak when they are told to."""
    tasks = sum(worker.processed for worker in workers)
    beat_until(page, lambda samples: accepted(samples) == tasks, *workers)
    beats = page.metrics().total("celery_observe_events_total", type="worker-heartbeat")
    samples = beat_until(
        page,
        lambda samples: samples.total("celery_observe_events_total", type="worker-heartbeat") >= beats + 10,
        *workers,
    )
    assert accepted(samples) == tasks
    return samples


def beat_until(page: Exporter, predicate: Callable[[Samples], bool], *workers: ImitatedWorker) -> Samples:
    """Have workers send heartbeats until the page is as wanted."""
    samples = page.metrics()

    def holds() -> bool:
        nonlocal samples
        for worker in workers:
            worker.beat()
        samples = page.metrics()
        return predicate(samples)

    eventually(holds, SETTLES_WITHIN, what="the page is as wanted")
    return samples


def test_without_loss_the_number_is_zero(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """Bursts of 200 quick tasks on two kinds of workers lose nothing, and nothing is said to be lost."""
    page = exporter(redis_server.url)
    page.wait_until_ready()
    workers = [celery_worker(redis_server.url, "--heartbeat-interval", "1", pool=pool) for pool in POOLS]

    for burst in range(1, 4):
        send(workers[0], 200)
        wait_for_started(page, 200 * burst)

    samples = settle(page, 600)
    assert samples.total(UNOBSERVED) == 0
    assert samples.total("celery_task_outcomes_total", outcome="succeeded") == 600
    assert samples.total(GAP) == samples.total(RECONNECTS) == 0
    page.wait_for(lambda samples: (samples.value("celery_observe_event_lag_seconds") or 0) < 1.0)


def test_what_redis_drops_while_we_are_paused_is_counted(
    start_redis: Callable[..., Redis], exporter: Callable[..., Exporter]
) -> None:
    """A reader that stops past Redis's output limit is cut off; what it missed is a number, and the gap is as long."""
    server = start_redis(*SMALL_BUFFER)
    page = exporter(server.url)
    page.wait_until_ready()
    with ImitatedWorker(server.url) as worker, server.client() as client:
        worker.beat(3)
        worker.accept(100)
        settle_imitated(page, worker)

        page.pause()
        paused = time.monotonic()
        listeners = len(client.client_list(_type="pubsub"))
        while len(client.client_list(_type="pubsub")) == listeners:
            worker.accept(20, padding=50_000)
        cut_after = time.monotonic() - paused
        worker.accept(500)
        paused_for = time.monotonic() - paused
        page.resume()
        page.wait_for(lambda samples: samples.value(RECONNECTS) == 1)
        worker.accept(100)
        samples = settle_imitated(page, worker)

    assert samples.total(UNOBSERVED) >= 500
    print(f"{samples.total(UNOBSERVED):.0f} of {worker.processed} tasks unobserved; gap {samples.value(GAP)} s")
    gap = samples.value(GAP) or 0.0
    assert paused_for - cut_after <= gap < paused_for + 1.5


def test_what_is_lost_when_the_connection_is_killed_is_counted(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """Under load, real workers and `CLIENT KILL`: each task is either seen or counted as unobserved."""
    page = exporter(redis_server.url)
    page.wait_until_ready()
    workers = [celery_worker(redis_server.url, "--heartbeat-interval", "1", pool=pool) for pool in POOLS]
    page.wait_for(lambda samples: len(samples.select("celery_worker_up")) == 2)

    for _ in range(5):
        for worker in workers:
            worker.pause()
        for _ in range(80):
            workers[0].send("work", 0.02)
        for worker in workers:
            worker.resume()
        kill_connection(redis_server, page)

    samples = settle(page, 400)
    print(f"{samples.total(UNOBSERVED):.0f} of 400 tasks unobserved; gap {samples.value(GAP)} s")
    assert samples.total(UNOBSERVED) > 0
    assert samples.value(RECONNECTS) == 5
    assert 0 < (samples.value(GAP) or 0.0) < 5 * 2.5


def kill_connection(server: Redis, page: Exporter) -> None:
    """Have Redis close the exporter's stream, and wait until it is connected again."""
    cut = page.metrics().total(RECONNECTS)
    with server.client() as client:
        # Workers listen too, for remote control and gossip.
        (stream,) = [each["id"] for each in client.client_list(_type="pubsub") if is_of(page, each["addr"])]
        client.client_kill_filter(_id=stream)
    page.wait_for(lambda samples: samples.total(RECONNECTS) > cut)


def is_of(page: Exporter, address: str) -> bool:
    """Whether the other end of a connection is a socket of this process."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in table if row[1].endswith(port)}
    return any(str(link.readlink()) in inodes for link in Path(f"/proc/{page.pid}/fd").iterdir() if link.is_symlink())


def test_what_was_accepted_while_it_was_dead_is_counted(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    """With a state file, tasks that ran between SIGKILL and restart are unobserved, and so is what was before.

    Exact if no task started in the last second before the kill: what it saw then it may not have saved.
    """
    page = exporter(redis_server.url, arguments=("--state-file", str(tmp_path / "state.json")))
    page.wait_until_ready()
    worker = celery_worker(redis_server.url, "--heartbeat-interval", "1", pool="prefork")
    page.wait_for(lambda samples: samples.select("celery_worker_up"))
    send(worker, 100)
    before = settle(page, 100).total(STARTED)

    page.kill()
    send(worker, 150)
    worker_has_done(worker, 250)
    page.start()
    page.wait_until_ready()
    send(worker, 70)

    samples = page.wait_for(lambda samples: before + accepted(samples) == 320, timeout=SETTLES_WITHIN)
    assert samples.total(UNOBSERVED) == 150
    page.kill()
    page.start()
    assert page.wait_for(lambda samples: samples.total(UNOBSERVED) == 150)


def wait_for_started(page: Exporter, count: int) -> None:
    """Wait until so many tasks have started, or more."""
    page.wait_for(lambda samples: samples.total(STARTED) >= count)


def send(worker: Worker, count: int) -> None:
    """Publish quick tasks."""
    for _ in range(count):
        worker.send("add", 1, 2)


def worker_has_done(worker: Worker, count: int) -> None:
    """Wait until its log says that it has succeeded so often."""
    eventually(lambda: worker.output.count(" succeeded in ") >= count, what=f"{count} tasks are done")


def test_without_a_state_file_nothing_is_invented(redis_server: Redis, exporter: Callable[..., Exporter]) -> None:
    """What a worker had accepted before the exporter's first life is not held against it."""
    with ImitatedWorker(redis_server.url) as worker:
        worker.accept(1_000, tell=False)
        page = exporter(redis_server.url)
        page.wait_until_ready()
        worker.beat(5)
        worker.accept(10)
        worker.beat(5)
        samples = page.wait_for(
            lambda samples: (
                samples.total(STARTED) == 10
                and samples.total("celery_observe_events_total", type="worker-heartbeat") == 10
            )
        )

    assert samples.total(UNOBSERVED) == 0


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_all_tasks_of_a_worker_without_events_are_unobserved(
    broker: str,
    request: pytest.FixtureRequest,
    exporter: Callable[..., Exporter],
    celery_worker: Callable[..., Worker],
) -> None:
    """A worker that was started without -E sends heartbeats only: they tell what the page misses."""
    url = url_of(broker, request)
    page = exporter(url)
    page.wait_until_ready()
    silent = celery_worker(url, "--heartbeat-interval", "1", events=False, queues=("silent",))
    telling = celery_worker(url, "--heartbeat-interval", "1", queues=("telling",))
    page.wait_for(lambda samples: len(samples.select("celery_worker_up")) == 2)

    for _ in range(20):
        silent.send("add", 1, 2, queue="silent")
    for _ in range(30):
        telling.send("add", 1, 2, queue="telling")

    samples = settle(page, 50)
    assert samples.value(UNOBSERVED, worker=silent.node) == 20
    assert samples.total(UNOBSERVED, worker=telling.node) == 0


def test_what_a_worker_itself_loses_is_counted(
    redis_server: Redis, exporter: Callable[..., Exporter], celery_worker: Callable[..., Worker]
) -> None:
    """The dispatcher of Celery 5.6 drops events when threads use it at once: how many tasks that hid is on the page."""
    page = exporter(redis_server.url)
    page.wait_until_ready()
    python = interpreter("5.6.3")
    worker = celery_worker(redis_server.url, "--heartbeat-interval", "1", pool="threads", concurrency=10, python=python)
    page.wait_for(lambda samples: samples.select("celery_worker_up"))

    send(worker, 300)

    samples = settle(page, 300)
    print(f"{samples.total(UNOBSERVED):.0f} of 300 tasks unobserved")
    assert samples.total(UNOBSERVED) > 0


def url_of(broker: str, request: pytest.FixtureRequest) -> str:
    """The URL of a fresh broker."""
    if broker == "redis":
        server: Redis = request.getfixturevalue("redis_server")
        return server.url
    url: str = request.getfixturevalue("rabbitmq_url")
    return url


def test_what_rabbitmq_expires_while_we_are_paused_is_counted(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, exporter: Callable[..., Exporter]
) -> None:
    """RabbitMQ keeps events for their time to live only; those that expire before they are read are unobserved."""
    page = exporter(rabbitmq_url, arguments=("--event-queue-ttl", "0.2"))
    page.wait_until_ready()
    virtual_host = rabbitmq_url.rpartition("/")[2]
    with ImitatedWorker(rabbitmq_url) as worker:
        worker.beat(3)
        worker.accept(100)
        settle_imitated(page, worker)

        page.pause()
        deadline = time.monotonic() + 20.0
        while not backlog(rabbitmq_server, virtual_host):  # the socket takes some megabytes first
            worker.accept(10, padding=200_000)
            assert time.monotonic() < deadline
        worker.accept(500)
        eventually(lambda: not backlog(rabbitmq_server, virtual_host), what="the events have expired")
        page.resume()
        worker.accept(100)
        samples = settle_imitated(page, worker)

    print(f"{samples.total(UNOBSERVED):.0f} of {worker.processed} tasks unobserved")
    assert samples.total(UNOBSERVED) >= 500


def backlog(server: RabbitMQ, virtual_host: str) -> int:
    """How many events wait in the event queue."""
    queues: list[dict[str, Any]] = server.management("GET", f"queues/{virtual_host}")
    return sum(queue.get("messages", 0) for queue in queues if queue["name"].startswith("celeryev."))


def test_loss_is_counted_for_each_worker_instance(redis_server: Redis, exporter: Callable[..., Exporter]) -> None:
    """A worker that comes back with a new pid, unannounced, owes all tasks since its own start."""
    page = exporter(redis_server.url)
    page.wait_until_ready()
    with ExitStack() as stack:
        first = stack.enter_context(ImitatedWorker(redis_server.url))
        other = stack.enter_context(ImitatedWorker(redis_server.url, name="other@localhost"))
        for worker in (first, other):
            worker.beat(3)
            worker.accept(10)
            worker.accept(5, tell=False)
            worker.beat(3)
        settle_imitated(page, first, other)
        first.pid, first.processed = first.pid + 1, 0
        first.connect()
        first.accept(7, tell=False)
        first.accept(3)
        samples = beat_until(page, lambda samples: accepted(samples) == 40, first, other)

    assert samples.total(STARTED) == 23
    assert samples.value(UNOBSERVED, worker=first.name) == 12
    assert samples.value(UNOBSERVED, worker=other.name) == 5
