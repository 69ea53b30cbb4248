"""What the probe of workers tells of real ones."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import pytest
from celery import Celery

from celery_observe.broker import BrokerSettings
from celery_observe.errors import ProbeError
from celery_observe.event import Snapshot
from celery_observe.metrics import Family, observer, workers
from celery_observe.probes.rota import ROUND
from celery_observe.probes.workers import Answers, WorkersProbe
from celery_observe.settings import Settings
from services.certificates import Certificates
from services.exporter import Exporter, Samples
from services.ports import free_port
from services.probed import Heard
from services.redis import Redis
from services.sentinel import Sentinel
from services.waiting import eventually
from services.worker import Worker


class Asking:
    """The probe of the workers of one broker, what it told last, and who is said to send heartbeats."""

    def __init__(self, broker: str | BrokerSettings, **settings: Any) -> None:
        broker = BrokerSettings(url=broker) if isinstance(broker, str) else broker
        self.heard = Heard()
        self.answers: list[Answers] = []
        self.probe = WorkersProbe(broker, Settings(**settings), self.heard, on_answers=self._take)
        self.told: dict[tuple[str, tuple[str, ...]], float] = {}

    def _take(self, answers: Answers, _expected: set[str]) -> None:
        self.answers.append(answers)

    def ask(self, turns: int = 2 * ROUND) -> Asking:
        """Ask so many questions; each has had its turn then, those too that depend on the answers to others."""
        for _ in range(turns):
            self.told = {(family.name, labels): value for family, labels, value in self.probe.ask()}
        return self

    @property
    def snapshots(self) -> list[Snapshot]:
        """What was told to the reader."""
        return [snapshot for answers in self.answers for snapshot in answers.snapshots]

    def value(self, family: Family, *labels: str) -> float | None:
        """One sample, None if there is none."""
        return self.told.get((family.name, labels))


@pytest.fixture
def asking(redis_server: Redis) -> Iterator[Asking]:
    """The probe, for one Redis."""
    asking = Asking(redis_server.url, inspect_timeout=3.0, worker_label=True)
    with closing(asking.probe):
        yield asking


@pytest.mark.parametrize(
    ("pool", "slots"), [("prefork", 3), ("threads", 3), ("gevent", 3), ("eventlet", 3), ("solo", 1)]
)
def test_every_pool_tells_its_slots(
    pool: str, slots: int, redis_server: Redis, asking: Asking, celery_worker: Callable[..., Worker]
) -> None:
    """And what it is, what it may hold, since when it runs, and what it has used."""
    worker = celery_worker(redis_server.url, pool=pool, concurrency=3, queues=("a", "b"), worker_prefetch_multiplier=2)
    asking.heard.beating = {worker.node}
    worker.send("add", 1, 2, queue="a")

    eventually(lambda: asking.ask().value(workers.TASKS, worker.node, "add") == 1, what="the task is told")

    assert asking.value(workers.SLOTS, worker.node) == slots
    assert {snapshot.pool for snapshot in asking.snapshots} == {pool}
    assert asking.value(workers.PREFETCH, worker.node) == 2 * 3  # a solo worker too takes more than it should
    assert asking.value(workers.PREFETCH_CONFIGURED, worker.node) == 2 * slots
    assert asking.value(workers.CONSUMES, worker.node, "a") == asking.value(workers.CONSUMES, worker.node, "b") == 1
    assert asking.value(workers.RESERVED, worker.node) == 0
    assert (asking.value(workers.UPTIME, worker.node) or 0) >= 1
    assert (asking.value(workers.CPU, worker.node) or 0) > 0
    assert (asking.value(workers.PEAK_MEMORY, worker.node) or 0) > 10_000_000
    assert asking.value(observer.WORKERS_ANSWERED) == 1


def test_what_is_held_and_limited_is_told(
    redis_server: Redis, asking: Asking, celery_worker: Callable[..., Worker]
) -> None:
    """Tasks that wait for a slot, those that wait for their ETA, which add to the prefetch count, and rate limits."""
    worker = celery_worker(
        redis_server.url, pool="prefork", concurrency=1, task_annotations={"fail": {"rate_limit": "30/m"}}
    )
    asking.heard.beating = {worker.node}
    for _ in range(3):
        worker.send("work", 60)
    for _ in range(2):
        worker.send("add", 1, 2, countdown=600)

    eventually(lambda: asking.ask().value(workers.SCHEDULED, worker.node) == 2, what="the two are told")

    assert asking.value(workers.RESERVED, worker.node) == 2
    assert asking.value(workers.PREFETCH_CONFIGURED, worker.node) == 4
    assert asking.value(workers.PREFETCH, worker.node) == 6
    assert asking.value(workers.RATE_LIMIT, worker.node, "fail") == 0.5
    assert asking.value(workers.RATE_LIMIT, worker.node, "add") is None


def test_a_worker_that_does_not_answer_keeps_what_does_not_pass(
    redis_server: Redis, asking: Asking, celery_worker: Callable[..., Worker]
) -> None:
    """While it sends heartbeats; a solo worker in a long task is silent. What was true of a moment is absent."""
    worker = celery_worker(redis_server.url, pool="solo")
    asking.heard.beating = {worker.node}
    asking.ask()
    worker.send("work", 60)
    eventually(lambda: asking.ask(1).value(observer.WORKERS_ANSWERED) == 0, what="it is busy")
    passing = (workers.CPU, workers.RESERVED)
    eventually(lambda: {asking.ask(1).value(each, worker.node) for each in passing} == {None}, timeout=60)

    assert asking.value(workers.SLOTS, worker.node) == asking.value(workers.CONSUMES, worker.node, "celery") == 1
    assert asking.value(workers.PREFETCH, worker.node) is None
    assert asking.value(workers.RESERVED, worker.node) is None

    asking.heard.beating = set()
    assert asking.ask(1).value(workers.SLOTS, worker.node) is None


def test_it_waits_no_longer_than_for_those_that_are_known(
    redis_server: Redis, asking: Asking, celery_worker: Callable[..., Worker]
) -> None:
    """Far less than the three seconds that workers may take."""
    worker = celery_worker(redis_server.url, pool="threads")
    asking.heard.beating = {worker.node}
    asking.ask()

    asking.probe = WorkersProbe(BrokerSettings(url=redis_server.url), Settings(inspect_timeout=60.0), asking.heard)

    assert asking.ask().value(observer.WORKERS_ANSWERED) == 1  # or the test would time out


def test_a_pool_that_is_made_smaller_has_fewer_slots(
    redis_server: Redis, asking: Asking, celery_worker: Callable[..., Worker]
) -> None:
    """Whether by hand or by an autoscaler; the worker answers as before, and none has left."""
    worker = celery_worker(redis_server.url, pool="prefork", concurrency=3)
    asking.heard.beating = {worker.node}
    assert asking.ask(1).value(workers.SLOTS, worker.node) == 3

    with Celery(broker=redis_server.url, set_as_current=False) as app:
        app.control.pool_shrink(1, reply=True)

    eventually(lambda: asking.ask().value(workers.SLOTS, worker.node) == 2, what="two are left")
    assert asking.value(workers.PREFETCH, worker.node) == asking.value(workers.PREFETCH_CONFIGURED, worker.node) == 8
    assert asking.value(observer.WORKERS_ANSWERED) == 1


def test_an_autoscaled_pool_has_the_slots_of_the_moment(
    redis_server: Redis, asking: Asking, celery_worker: Callable[..., Worker]
) -> None:
    """One while it is idle, more once there is work; its prefetch is that of the most."""
    worker = celery_worker(redis_server.url, "--autoscale=3,1", pool="prefork")
    asking.heard.beating = {worker.node}
    asking.ask()
    assert asking.value(workers.SLOTS, worker.node) == 1
    assert asking.value(workers.PREFETCH_CONFIGURED, worker.node) == 12

    for _ in range(3):
        worker.send("work", 30)

    eventually(lambda: asking.ask().value(workers.SLOTS, worker.node) == 3, timeout=30, what="three are there")


def test_queues_that_are_added_and_cancelled_are_seen(
    redis_server: Redis, asking: Asking, celery_worker: Callable[..., Worker]
) -> None:
    """Within a round."""
    worker = celery_worker(redis_server.url, pool="threads")
    asking.ask(1)
    with Celery(broker=redis_server.url, set_as_current=False) as app:
        app.control.add_consumer("extra", reply=True)
        app.control.cancel_consumer("celery", reply=True)

    eventually(lambda: asking.ask().value(workers.CONSUMES, worker.node, "extra") == 1, what="the new queue is told")

    assert asking.value(workers.CONSUMES, worker.node, "celery") is None
    assert asking.snapshots[-1].queues == ("extra",)


def broadcasts(redis: Redis) -> Callable[[], list[dict[str, Any]]]:
    """Listen to what is sent to workers, and return what reads it: each message as it was sent to all of them."""
    listener = redis.client().pubsub()
    listener.psubscribe("/*.celery.pidbox")
    eventually(listener.get_message, what="it listens")

    def heard() -> list[dict[str, Any]]:
        found = []
        while (message := listener.get_message(timeout=0.5)) is not None:
            envelope = json.loads(message["data"])
            body = json.loads(base64.b64decode(envelope["body"]))
            found.append(body | {"sent": envelope["headers"]["expires"]})
        return found

    return heard


def test_each_time_one_broadcast_goes_out(
    redis_server: Redis, asking: Asking, celery_worker: Callable[..., Worker]
) -> None:
    """But the first time. Within a round every question has gone out."""
    worker = celery_worker(redis_server.url, pool="threads")
    asking.heard.beating = {worker.node}
    heard = broadcasts(redis_server)

    asking.ask(1)
    assert {each["method"] for each in heard()} == {"stats", "active_queues", "reserved", "active"}
    for _ in range(2 * ROUND):
        asking.ask(1)
        (message,) = heard()
        assert message["destination"] in (None, [worker.node])
    asked = {"".join(labels) for family, labels in asking.told if family == observer.WORKERS_ASKED.name}
    assert asked == {"stats", "active_queues", "reserved", "active", "scheduled", "registered", "conf"}
    assert min(asking.value(observer.WORKERS_ASKED, command) or 0 for command in asked) > time.time() - 60


def test_after_a_loss_of_the_broker_all_is_asked_at_once(redis_server: Redis, asking: Asking) -> None:
    """As at the start: so what is told is not older than the outage."""
    asking.ask(2)
    heard = broadcasts(redis_server)

    asking.probe.renew()
    asking.ask(1)

    assert len(heard()) == 4


def test_an_exporter_sends_one_broadcast_per_interval(
    redis_server: Redis, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """Give or take a tenth of it, so that several exporters do not ask in step; its workers' answers are all served."""
    worker = celery_worker(redis_server.url, pool="threads")
    page = exporter(redis_server.url, arguments=("--inspect-interval", "0.5"))
    page.wait_for(lambda samples: samples.value("celery_worker_slots", worker=worker.node) == 2)
    heard = broadcasts(redis_server)
    turns: list[dict[str, Any]] = []

    def has_enough() -> bool:
        turns.extend(each for each in heard() if each["pattern"] is None)
        return len(turns) >= 2 * ROUND

    eventually(has_enough, timeout=60, what="two rounds")

    gaps = [later["sent"] - turn["sent"] for turn, later in pairwise(turns)]
    assert min(gaps) > 0.44
    assert max(gaps) - min(gaps) > 0.005
    told = ("celery_worker_reserved", "celery_worker_prefetch", "celery_worker_consumes")
    page.wait_for(lambda samples: all(samples.select(family, worker=worker.node) for family in told))


def test_a_worker_that_never_answers_is_not_down(
    redis_server: Redis, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """It sends heartbeats; what it would have answered is absent."""
    worker = celery_worker(redis_server.url, pool="threads", worker_enable_remote_control=False)
    page = exporter(redis_server.url, arguments=("--inspect-interval", "0.1", "--inspect-timeout", "0.2"))
    runs = "celery_observe_plugin_duration_seconds_count"

    samples = page.wait_for(lambda samples: samples.total(runs, plugin="workers") > 2 * ROUND, timeout=30)

    assert samples.value("celery_worker_up", worker=worker.node) == 1
    assert samples.value("celery_observe_workers_answered") == 0
    assert samples.value("celery_observe_plugin_up", plugin="workers") == 1
    assert samples.select("celery_worker_exits_total") == []
    assert samples.select("celery_worker_slots") == []


def test_workers_are_asked_over_tls_with_a_password(
    start_redis: Callable[..., Redis], certificates: Certificates, celery_worker: Callable[..., Worker]
) -> None:
    """The URL of the broker is all that is needed."""
    server = start_redis(password="secret", tls=certificates)
    worker = celery_worker(server.url, pool="threads")

    assert Asking(server.url, inspect_timeout=3.0).ask(1).value(workers.SLOTS, worker.node) == 2


def test_workers_are_asked_by_the_master_that_the_sentinel_names(
    redis_sentinel: Sentinel, celery_worker: Callable[..., Worker]
) -> None:
    """Transport options lead to it, and after its death to the one that took over, where workers are too."""
    options = redis_sentinel.transport_options
    worker = celery_worker(redis_sentinel.url, pool="threads", broker_transport_options=options)
    asking = Asking(BrokerSettings(url=redis_sentinel.url, transport_options=options), inspect_timeout=3.0)
    assert asking.ask(1).value(workers.SLOTS, worker.node) == 2

    redis_sentinel.master.kill()

    def answers() -> bool:
        asking.probe.renew()
        try:
            return asking.ask(1).value(observer.WORKERS_ANSWERED) == 1
        except ProbeError:
            return False

    eventually(answers, timeout=60.0, what="the worker answers by the new master")


def test_a_broker_that_stalls_amid_a_question_makes_values_absent_and_scrapes_stay_fast(
    redis_server: Redis, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter]
) -> None:
    """No value outlives what is known, no scrape waits, and all comes back."""
    worker = celery_worker(redis_server.url, pool="threads")
    page = exporter(redis_server.url, arguments=("--inspect-interval", "0.2"))
    asked = [family.name for family in WorkersProbe.families if family not in (workers.TASKS, workers.RATE_LIMIT)]

    def all_are_told(samples: Samples) -> bool:
        return all(samples.select(name) for name in asked)

    page.wait_for(all_are_told, timeout=30)

    redis_server.pause()
    try:
        stalled, slowest = page.time_scrapes(
            lambda samples: samples.value("celery_observe_plugin_up", plugin="workers") == 0, timeout=30
        )
    finally:
        redis_server.resume()

    assert slowest < 2  # a question hangs for three seconds
    assert [name for name in asked if stalled.select(name)] == []
    back = page.wait_for(all_are_told, timeout=30)
    assert back.value("celery_worker_slots", worker=worker.node) == 2


def test_a_broker_that_is_not_there_is_an_error() -> None:
    """With its URL, less the password."""
    asking = Asking(f"redis://:hunter2@127.0.0.1:{free_port()}/0")

    with pytest.raises(ProbeError, match="workers cannot be asked") as error:
        asking.ask()

    assert "hunter2" not in str(error.value)
