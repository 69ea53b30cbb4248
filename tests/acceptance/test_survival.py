"""Whatever the broker does, the page answers, readiness tells, and counting goes on soon after."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from services.exporter import Exporter
from services.imitation import ImitatedWorker
from services.ports import LOOPBACK
from services.proxy import Proxy
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.waiting import eventually

RESUME_WITHIN = 2.0  # seconds from the moment at which the broker takes connections
AWAY = 60.0  # seconds for which RabbitMQ is stopped
ANSWERS_WITHIN = 2.0  # seconds in which any page is served, on a busy machine
PASSWORD = "s3cret"


def resumption(page: Exporter, url: str, port: int) -> float:
    """Seconds from when the broker takes connections to when an event, sent again and again, is counted.

    To be started while the broker is still down.
    """
    task = f"task-{time.monotonic_ns()}"
    eventually(lambda: accepts(port), timeout=60.0, what=f"port {port} takes connections")
    back = time.monotonic()
    with ExitStack() as stack:
        worker = eventually(lambda: connected(stack, url), what=f"a publisher is connected to port {port}")
        assert worker is not None
        eventually(lambda: said(worker, task) and counted(page, task), what=f"{task} is counted")
    return time.monotonic() - back


def accepts(port: int) -> bool:
    """Whether a connection can be made."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=0.2).close()
    except OSError:
        return False
    return True


def connected(stack: ExitStack, url: str) -> ImitatedWorker | None:
    """A publisher, if the broker serves already."""
    worker = ImitatedWorker(url)
    try:
        return stack.enter_context(worker)
    except (OSError, OperationalError):
        return None


def said(worker: ImitatedWorker, task: str) -> bool:
    """Send the event once more; a broker may accept before it serves."""
    try:
        worker.say("task-sent", uuid=str(uuid.uuid4()), name=task, queue="celery", retries=0)
    except (OSError, OperationalError):
        with suppress(OSError, OperationalError):
            worker.connect()
        return False
    return True


def counted(page: Exporter, task: str) -> bool:
    """Whether such an event is on the page."""
    return page.metrics().total("celery_task_published_total", task=task) > 0


def wait_until_blind(page: Exporter, timeout: float) -> str:
    """Wait until readiness is red; the reason it gives."""
    eventually(lambda: page.readiness()[0] == 503, timeout, what="readiness is red")
    (reason,) = page.readiness()[1]["reasons"]
    return str(reason)


@contextmanager
def scraped_all_the_while(page: Exporter) -> Iterator[list[float]]:
    """Scrape again and again meanwhile; yields how long each scrape took."""
    durations: list[float] = []
    watching = True

    def scrape() -> None:
        while watching:
            started = time.monotonic()
            page.metrics()
            page.readiness()
            durations.append(time.monotonic() - started)
            time.sleep(0.02)

    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(scrape)
        try:
            yield durations
        finally:
            watching = False
        scraping.result()


def watched_return(page: Exporter, url: str, port: int, start: Callable[[], None]) -> float:
    """Start the broker again, here, and measure from another thread how soon counting goes on."""
    with ThreadPoolExecutor(1) as pool:
        seconds = pool.submit(resumption, page, url, port)
        start()
        return seconds.result()


def test_counting_goes_on_after_redis_was_killed(
    start_redis: Callable[..., Redis], exporter: Callable[..., Exporter]
) -> None:
    """Each time Redis is killed and comes back, readiness turns red and green and counting resumes within 2 s."""
    server = start_redis(password=PASSWORD)
    page = exporter(server.url)
    page.wait_until_ready()

    with scraped_all_the_while(page) as scrapes:
        for _ in range(3):
            server.kill()
            reason = wait_until_blind(page, timeout=2.0)
            assert "cannot connect" in reason or "closed the connection" in reason
            assert page.metrics().value("celery_observe_stream_up") == 0
            seconds = watched_return(page, server.url, server.port, server.start)
            print(f"resumed after {seconds:.2f} s")
            assert seconds < RESUME_WITHIN
            page.wait_until_ready()

    assert max(scrapes) < ANSWERS_WITHIN
    samples = page.metrics()
    assert samples.value("celery_observe_stream_up") == 1
    assert samples.value("celery_observe_stream_reconnects_total") == 3
    assert PASSWORD not in page.output + page.get("/metrics")[1] + page.get("/readyz")[1]


def test_counting_goes_on_after_rabbitmq_was_away_for_a_minute(
    rabbitmq_server: RabbitMQ, rabbitmq_url: str, exporter: Callable[..., Exporter]
) -> None:
    """While RabbitMQ is stopped all is as with Redis, and an exporter that is started meanwhile waits for it."""
    first = exporter(rabbitmq_url)
    first.wait_until_ready()

    with scraped_all_the_while(first) as scrapes:
        stopping = time.monotonic()
        rabbitmq_server.stop()
        assert "amqp://guest:***@" in wait_until_blind(first, timeout=2.0)
        second = exporter(rabbitmq_url)
        assert "cannot connect" in wait_until_blind(second, timeout=2.0)
        eventually(lambda: time.monotonic() - stopping >= AWAY, timeout=AWAY + 10.0, what="a minute has passed")
        assert "cannot connect" in wait_until_blind(first, timeout=2.0)
        with ThreadPoolExecutor(2) as pool:
            resumptions = [
                pool.submit(resumption, page, rabbitmq_url, rabbitmq_server.port) for page in (first, second)
            ]
            rabbitmq_server.start()
            away = time.monotonic() - stopping
            seconds = [each.result() for each in resumptions]

    print(f"resumed after {seconds} s")
    assert max(seconds) < RESUME_WITHIN
    assert max(scrapes) < ANSWERS_WITHIN
    gap = first.metrics().value("celery_observe_stream_gap_seconds_total") or 0.0
    assert away - 2.0 < gap < away + RESUME_WITHIN
    assert second.metrics().value("celery_observe_stream_gap_seconds_total") == 0
    first.wait_until_ready()
    second.wait_until_ready()


def test_an_exporter_may_be_there_before_its_broker(redis_server: Redis, exporter: Callable[..., Exporter]) -> None:
    """Without a broker it serves its page, says why it is not ready, and counts once the broker is there."""
    redis_server.kill()

    page = exporter(redis_server.url)

    assert "cannot connect" in wait_until_blind(page, timeout=2.0)
    assert page.get("/healthz")[0] == 200
    assert watched_return(page, redis_server.url, redis_server.port, redis_server.start) < RESUME_WITHIN
    assert page.metrics().value("celery_observe_stream_gap_seconds_total") == 0


@pytest.mark.parametrize(("broker", "notices_within"), [("redis", 6.0), ("rabbitmq", 11.0)])
def test_a_peer_that_stalls_is_noticed(
    broker: str, notices_within: float, request: pytest.FixtureRequest, exporter: Callable[..., Exporter]
) -> None:
    """A network that swallows everything and closes nothing turns readiness red; when it is back, counting resumes."""
    with Proxy(port_of(broker, request)) as network:
        url = through(network, broker, request)
        page = exporter(url)
        page.wait_until_ready()
        with ImitatedWorker(url) as worker, scraped_all_the_while(page) as scrapes:
            worker.beat(4)
            page.wait_for(lambda samples: samples.select("celery_worker_up"))
            network.stall()
            stalled = time.monotonic()
            reason = wait_until_blind(page, timeout=notices_within + 1.0)
            blind_after = time.monotonic() - stalled
            # What was under way may be delivered to connections that are given up: they are cut, as networks do.
            network.cut()
            away = time.monotonic() - stalled
            network.flow()
            seconds = resumption(page, url, network.port)

    print(f"noticed after {blind_after:.1f} s, resumed after {seconds:.2f} s")
    assert "stalled" in reason or "timed out" in reason or "no answer" in reason or "Timeout" in reason
    assert blind_after < notices_within
    assert seconds < RESUME_WITHIN
    assert max(scrapes) < ANSWERS_WITHIN
    gap = page.metrics().value("celery_observe_stream_gap_seconds_total") or 0.0
    assert away - 0.5 < gap < away + RESUME_WITHIN + 1.0


def port_of(broker: str, request: pytest.FixtureRequest) -> int:
    """The port of this broker."""
    server: Any = request.getfixturevalue("redis_server" if broker == "redis" else "rabbitmq_server")
    return int(server.port)


def through(network: Proxy, broker: str, request: pytest.FixtureRequest) -> str:
    """The URL of this broker through a network."""
    if broker == "redis":
        return f"redis://{LOOPBACK}:{network.port}/0"
    url: str = request.getfixturevalue("rabbitmq_url")
    return url.replace(str(port_of(broker, request)), str(network.port))


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_a_hundred_losses_leave_nothing_behind(
    broker: str, request: pytest.FixtureRequest, exporter: Callable[..., Exporter]
) -> None:
    """Neither threads nor descriptors nor memory grow while the connections are cut 100 times."""
    with Proxy(port_of(broker, request)) as network:
        url = through(network, broker, request)
        page = exporter(url)
        page.wait_until_ready()
        lose(page, network, times=30)
        before = resources(page)

        lose(page, network, times=100)

        eventually(lambda: resources(page)[:2] <= before[:2], what=f"no more than {before[:2]} threads and descriptors")
        after = resources(page)
    print(f"threads, descriptors, KiB: {before} before, {after} after")
    assert after[2] < before[2] + 3_000
    assert page.metrics().value("celery_observe_stream_reconnects_total") == 130


def lose(page: Exporter, network: Proxy, times: int) -> None:
    """Cut all connections, as often as they have been made again."""
    for _ in range(times):
        reconnects = page.metrics().total("celery_observe_stream_reconnects_total")
        network.cut()
        wait_for_more_reconnects(page, reconnects)


def wait_for_more_reconnects(page: Exporter, than: float) -> None:
    """Wait until the stream was connected once more."""
    page.wait_for(lambda samples: samples.total("celery_observe_stream_reconnects_total") > than)


def resources(page: Exporter) -> tuple[int, int, int]:
    """How many threads and descriptors a process has, and its resident KiB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{page.pid}/status").read_text().splitlines())
    descriptors = sum(1 for _ in Path(f"/proc/{page.pid}/fd").iterdir())
    return int(status["Threads"]), descriptors, int(status["VmRSS"].split()[0])
