"""Workers scale by what the chart ships: its expressions in a real Prometheus, over real workers that come and go."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from services.autoscaler import Loop, Pod, Pods
from services.exporter import Exporter, Samples
from services.helm import CHART, Helm
from services.prometheus import Prometheus
from services.redis import Redis
from services.waiting import eventually

pytestmark = pytest.mark.timeout(400)

QUEUE = "mail"
SLOTS = 2  # of each worker
QUICKLY = ("--queue", QUEUE, "--queue-interval", "0.5", "--inspect-interval", "0.2", "--drain-target", "4")
# Of minutes, seconds are made: a window and a cooldown that are shorter than the long tasks below.
WORKER: dict[str, Any] = {"deployment": "w", "queues": [QUEUE], "perReplica": SLOTS, "maxReplicas": 4}
WORKER |= {"stabilizationWindowSeconds": 4, "cooldownPeriod": 4, "scaleDownPercent": 100}
LONG = 12.0  # seconds
ADAPTER = yaml.safe_load((CHART / "prometheus-adapter-values.yaml").read_text())["rules"]["external"]


def manifest(helm: Helm, engine: str, by: str) -> Any:
    """The autoscaler of the chart for the worker."""
    values = {"broker": {"url": "x"}, "autoscaling": {"engine": engine, "workers": [WORKER | {"by": by}]}}
    kinds = {"ScaledObject", "HorizontalPodAutoscaler"}
    (found,) = (each for each in helm.manifests(values=values) if each["kind"] in kinds)
    return found


def expression(manifest: Any) -> str:
    """What is asked of Prometheus: by KEDA, or by the adapter that HPAs ask."""
    spec = manifest["spec"]
    if manifest["kind"] == "ScaledObject":
        return str(spec["triggers"][0]["metadata"]["query"])
    metric = spec["metrics"][0]["external"]["metric"]
    (selector,) = metric["selector"]["matchExpressions"]
    assert selector["operator"] == "In"
    matcher = f'{selector["key"]}=~"{"|".join(selector["values"])}"'
    (rule,) = (rule for rule in ADAPTER if rule["name"]["as"] == metric["name"])
    return str(rule["metricsQuery"]).replace("<<.LabelMatchers>>", matcher)


@pytest.mark.parametrize("by", ["desired_slots", "messages"])
def test_keda_and_hpas_ask_for_the_same(helm: Helm, by: str) -> None:
    """The expression in the ScaledObject is the adapter's."""
    assert expression(manifest(helm, "keda", by)) == expression(manifest(helm, "hpa", by))


class Look(NamedTuple):
    """One turn of the control loop."""

    at: float
    replicas: int
    running: float
    """Tasks that are executed, by their events."""
    waiting: float
    """Messages in the queue: what an autoscaler sees that knows no more."""


class World(NamedTuple):
    """A fleet of workers under an autoscaler."""

    page: Exporter
    prometheus: Prometheus
    pods: Pods
    loop: Loop
    publisher: Pod
    looks: list[Look]

    def send(self, count: int, seconds: float) -> None:
        """Publish so many tasks that take so long."""
        for _ in range(count):
            self.publisher.send("work", seconds, queue=QUEUE)

    def until(self, holds: Callable[[Samples], object], timeout: float = 120.0) -> None:
        """Go on until something holds of the page."""
        deadline = time.monotonic() + timeout
        while not holds(page := self.page.metrics()):
            now = time.monotonic()
            assert now < deadline, f"{self.loop.history}: {self.looks[-1]}"
            running, waiting = page.total("celery_task_running"), page.total("celery_queue_waiting")
            self.looks.append(Look(now, self.loop.look(), running, waiting))
            time.sleep(0.25)

    def assert_no_running_work_was_taken(self) -> None:
        """There was a slot for each task at all times, long after nothing was waiting any more, and none was killed."""
        assert not [look for look in self.looks if look.replicas * SLOTS < look.running]
        unseen = [look.at for look in self.looks if look.running and not look.waiting]
        assert unseen[-1] - unseen[0] > 2 * WORKER["cooldownPeriod"]
        # One that was not yet up when it had to go knows no better end.
        assert not [pod.node for pod in self.pods.gone if pod.wait(60.0) and f"{pod.node} ready." in pod.output]
        assert self.page.metrics().total("celery_task_started_total") == succeeded(self.page.metrics())


def succeeded(page: Samples) -> float:
    """How many tasks have."""
    return page.total("celery_task_outcomes_total", outcome="succeeded")


@pytest.fixture
def world(
    redis_server: Redis,
    exporter: Callable[..., Exporter],
    prometheus: Callable[..., Prometheus],
    processes: ExitStack,
    tmp_path: Path,
) -> Callable[[Any], World]:
    """Make the world of an autoscaler, with no worker and no message."""

    def make() -> Pod:
        return Pod(tmp_path, redis_server.url, pool="prefork", concurrency=SLOTS, queues=(QUEUE,))

    def start(manifest: Any) -> World:
        page = exporter(redis_server.url, arguments=QUICKLY)
        page.wait_until_ready()
        server = prometheus({"celery": [page.port]})
        query = expression(manifest)
        pods = processes.enter_context(Pods(make))
        pods.scale(manifest["spec"].get("minReplicas", 0))
        loop = Loop(manifest, lambda: one(server.query(query)), pods)
        return World(page, server, pods, loop, make(), [])

    return start


def one(found: list[tuple[dict[str, str], float]]) -> float | None:
    """The value of the one series that KEDA and the adapter want; None if there is none."""
    assert len(found) <= 1
    return found[0][1] if found else None


def rises_then_falls(history: list[int]) -> bool:
    """Whether replicas came, and then went, and none came again."""
    top = history.index(max(history))
    return history[: top + 1] == sorted(history[: top + 1]) and history[top:] == sorted(history[top:], reverse=True)


def test_keda_scales_from_zero_follows_a_burst_and_takes_no_running_work(
    helm: Helm, world: Callable[[Any], World]
) -> None:
    """By desired slots, the whole life of a queue: nothing, one message, a burst, long tasks, nothing."""
    own = world(manifest(helm, "keda", "desired_slots"))
    query = expression(manifest(helm, "keda", "desired_slots"))
    eventually(lambda: one(own.prometheus.query(query)) == 0, timeout=30.0)
    for by in ("desired_slots", "messages"):
        unknown = expression(manifest(helm, "keda", by)).replace(QUEUE, "unknown")
        assert one(own.prometheus.query(unknown)) is None
    assert [own.loop.look() for _ in range(4)] == [0] * 4

    own.send(1, 0.5)
    own.until(lambda page: succeeded(page) == 1)
    own.until(lambda _page: not own.pods.there)
    assert own.loop.history == [0, 1, 0]

    own.send(24, 1.0)
    own.send(4, LONG)
    own.until(lambda page: succeeded(page) == 29 and not own.pods.there)

    assert max(own.loop.history) >= 3
    assert rises_then_falls(own.loop.history[2:])
    own.assert_no_running_work_was_taken()


def test_an_hpa_follows_a_burst_and_takes_no_running_work(helm: Helm, world: Callable[[Any], World]) -> None:
    """By messages, the external metric that the adapter makes; one worker is always there."""
    own = world(manifest(helm, "hpa", "messages"))
    own.send(1, 0.5)
    own.until(lambda page: succeeded(page) == 1)

    own.send(24, 1.0)
    own.send(4, LONG)
    own.until(lambda page: succeeded(page) == 29 and len(own.pods.there) == 1)

    assert max(own.loop.history) >= 3
    assert rises_then_falls(own.loop.history)
    own.assert_no_running_work_was_taken()
