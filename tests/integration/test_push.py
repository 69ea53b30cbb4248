"""Metrics over OTLP: what a collector gets is what the page says, and a collector that fails costs nothing else."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path

import pytest
from prometheus_client.utils import floatToGoString

from celery_observe import logs
from celery_observe.errors import PushError
from celery_observe.guard import Guard
from celery_observe.hosting import serve_as_guest
from celery_observe.metrics import CATALOGUE, observer
from celery_observe.otlp import push
from celery_observe.otlp.points import Points
from celery_observe.recorder import Recorder
from celery_observe.settings import load
from celery_observe.streams.local import pair
from services.exporter import Exporter, Samples, Served
from services.imitation import ImitatedWorker
from services.instrumented import Instrumented
from services.otlp import OtlpReceiver, Point, Push
from services.redis import Redis
from services.victoria import VictoriaMetrics
from services.waiting import eventually
from services.worker import Worker

POINTS = "celery_observe_pushed_points_total"
OUTCOMES = "celery_task_outcomes_total"
KINDS = {"counter": "sum", "gauge": "gauge", "histogram": "histogram"}
FAMILIES = {family.name: family for family in CATALOGUE}

Start = Callable[..., Exporter]


def as_page(push: Push) -> Samples:
    """What a page would say that says the same."""
    return Samples(sample for point in push.points for sample in samples_of(point))


def samples_of(point: Point) -> Iterable[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    """The lines of one point."""
    labels = frozenset(point.attributes.items())
    if point.kind != "histogram":
        yield (point.name, labels), point.value
        return
    bounds = [*map(floatToGoString, point.bounds), "+Inf"]
    for bound, below in zip(bounds, accumulate(point.counts), strict=True):
        yield (f"{point.name}_bucket", labels | {("le", bound)}), below
    yield (f"{point.name}_count", labels), sum(point.counts)
    yield (f"{point.name}_sum", labels), point.value


def is_pushed(otlp: OtlpReceiver, **outcome: str) -> Callable[[], bool]:
    """Return what tells whether the last push says so of tasks."""
    return lambda: bool(otlp.pushes) and as_page(otlp.pushes[-1]).total(OUTCOMES, **outcome) > 0


@pytest.fixture
def pushing(processes: ExitStack, tmp_path: Path, redis_server: Redis, otlp: OtlpReceiver) -> Start:
    """Start an exporter that pushes, with what else is asked for."""

    def start(*arguments: str, **env: str) -> Exporter:
        given = {**otlp.environment, "OTEL_EXPORTER_OTLP_TIMEOUT": "1", **env}
        pushes = ("--push-metrics", "--push-interval", "0.3", *arguments)
        exporter = processes.enter_context(Exporter(tmp_path, redis_server.url, arguments=pushes, env=given))
        exporter.wait_until_ready()
        return exporter

    return start


def agreed(served: Served, otlp: OtlpReceiver) -> tuple[Push, Samples]:
    """What is pushed when nothing happens, and the samples on which the pages before and after it agree."""

    def look() -> tuple[Push, Samples] | None:
        before, seen = served.metrics(), len(otlp.pushes)
        eventually(lambda: len(otlp.pushes) > seen + 1, 30.0)
        pushed, after = otlp.pushes[seen + 1], served.metrics()
        if not before.keys() == after.keys() == as_page(pushed).keys():
            return None
        return pushed, Samples((sample, value) for sample, value in before.items() if after[sample] == value)

    found = eventually(look, 60.0)
    assert found is not None
    return found


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_what_is_pushed_is_what_is_served(
    protocol: str, pushing: Start, otlp: OtlpReceiver, redis_server: Redis, celery_worker: Callable[..., Worker]
) -> None:
    """Sample by sample, after tasks that succeed and fail; with units, starts, exemplars, and who says it."""
    started = time.time()
    given = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_RESOURCE_ATTRIBUTES": "k8s.cluster.name=one"}
    endpoint = otlp.grpc_url if protocol == "grpc" else otlp.url
    exporter = pushing("--replay-traces", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **given)
    worker = celery_worker(redis_server.url, pool="threads")
    for _ in range(5):
        worker.send("add", 1, 2)
    worker.send("fail")
    exporter.wait_for(lambda page: page.total(OUTCOMES, outcome="failed") and page.total(OUTCOMES) == 6, 30.0)
    otlp.wait_for(lambda spans: len(spans) >= 6)

    pushed, page = agreed(exporter, otlp)

    said = as_page(pushed)
    # A scrape opens a socket, and takes time of the CPU.
    different = {sample for sample, value in page.items() if said[sample] != value}
    assert {name for name, _ in different} <= {"process_open_fds"}
    assert {"celery_task_runtime_seconds_bucket", "celery_worker_up", OUTCOMES} <= {name for name, _ in page}
    for point in pushed.points:
        family = FAMILIES.get(point.name)
        assert family is None or (point.kind, point.description) == (KINDS[family.kind], family.help)
        assert point.kind == "gauge" or started - 5 < point.start <= point.time <= time.time()
    runtimes = pushed.named("celery_task_runtime_seconds")
    assert {trace for point in runtimes for trace, _ in point.exemplars} <= {span.trace for span in otlp.spans}
    assert any(point.exemplars for point in runtimes)
    assert {point.unit for point in runtimes} == {"s"}
    assert pushed.resource.items() >= {"service.name": "celery", "k8s.cluster.name": "one"}.items()
    assert pushed.resource["service.instance.id"].endswith(f":{exporter.port}")


@pytest.fixture
def victoria(processes: ExitStack, tmp_path: Path, redis_server: Redis) -> tuple[VictoriaMetrics, Exporter]:
    """A real one that has an exporter's metrics twice: it scrapes them, and is pushed to."""
    server = VictoriaMetrics(tmp_path)
    arguments = ("--push-metrics", "--push-interval", "0.5")
    exporter = processes.enter_context(
        Exporter(tmp_path, redis_server.url, arguments=arguments, env=server.environment)
    )
    server.scrape(exporter.port)
    return processes.enter_context(server), exporter


def series(server: VictoriaMetrics, job: str) -> dict[frozenset[tuple[str, str]], float]:
    """All series of a job with their last values, less what only a scrape has, and who said it.

    A bound is a number over OTLP, so that `le` is `1` then, and `1.0` on the page.
    """
    found = server.query(f'{{job="{job}", __name__!~"up|scrape_.+"}}')
    return {
        frozenset(
            (name, str(float(label)) if name == "le" else label)
            for name, label in labels.items()
            if name not in {"job", "instance"}
        ): value
        for labels, value in found
    }


def test_what_is_made_of_it_are_the_series_of_a_scrape(
    victoria: tuple[VictoriaMetrics, Exporter], redis_server: Redis
) -> None:
    """In a server that others have made, by the naming of Prometheus: names, labels, and values of tasks."""
    server, exporter = victoria
    exporter.wait_until_ready()
    with ImitatedWorker(redis_server.url) as worker:
        worker.accept(7, task="t")
        exporter.wait_for(lambda page: page.total(OUTCOMES, task="t", outcome="succeeded") == 7)

        def agree() -> bool:
            pushed, scraped = series(server, "celery"), series(server, "scraped")
            of_tasks = {each for each in scraped if dict(each)["__name__"].startswith("celery_task_")}
            same = {each for each in of_tasks if pushed.get(each) == scraped[each]}
            return pushed.keys() == scraped.keys() and same == of_tasks != set()

        eventually(agree, 60.0, what="a scrape and pushes agree")

    assert {value for _, value in server.query(f'{OUTCOMES}{{outcome="succeeded"}}')} == {7.0}
    instances = {labels["instance"] for labels, _ in server.query('celery_observe_build_info{job="celery"}')}
    assert instances == {f"{socket.gethostname()}:{exporter.port}"}


def test_a_collector_that_is_gone_costs_pushes_and_nothing_else(
    pushing: Start, otlp: OtlpReceiver, redis_server: Redis
) -> None:
    """They are counted, events are read on, and when it is back it is told all. What was taken is counted exactly."""
    otlp.refusing.set()
    exporter = pushing()
    with ImitatedWorker(redis_server.url) as worker:
        worker.accept(3, task="t")
        page = exporter.wait_for(lambda page: page.total(POINTS, outcome="refused") > 0, 30.0)
        assert page.total(POINTS, outcome="exported") == 0
        exporter.wait_for(lambda page: page.value("celery_observe_plugin_up", plugin="push") == 0)
        assert page.total("celery_observe_plugin_errors_total", plugin="push") > 0
        exporter.wait_for(lambda page: page.total(OUTCOMES, task="t", outcome="succeeded") == 3)

        otlp.refusing.clear()
        eventually(is_pushed(otlp, task="t", outcome="succeeded"), 30.0)

    exporter.wait_for(lambda page: page.value("celery_observe_plugin_up", plugin="push") == 1)
    assert exporter.terminate() == 0
    *earlier, last = otlp.pushes
    taken = as_page(last).total(POINTS, outcome="exported")
    assert taken == sum(len(push.points) for push in earlier)
    assert as_page(last).total("celery_observe_plugin_duration_seconds_count", plugin="push") == len(earlier)


def test_a_collector_that_stalls_holds_up_nothing(pushing: Start, otlp: OtlpReceiver, redis_server: Redis) -> None:
    """Not the events, nor the page, nor the end."""
    otlp.stalled.set()
    exporter = pushing(OTEL_EXPORTER_OTLP_TIMEOUT="30")
    with ImitatedWorker(redis_server.url) as worker:
        worker.accept(3)
        exporter.wait_for(lambda page: page.total(OUTCOMES, outcome="succeeded") == 3)

        assert exporter.terminate(timeout=10.0) == 0


def test_the_end_is_pushed(pushing: Start, otlp: OtlpReceiver, redis_server: Redis) -> None:
    """What was counted after the last push is not lost, however long the interval."""
    exporter = pushing("--push-interval", "3600")
    eventually(lambda: otlp.pushes, 30.0)
    with ImitatedWorker(redis_server.url) as worker:
        worker.accept(3, task="late")
        exporter.wait_for(lambda page: page.total(OUTCOMES, task="late") == 3)

        assert exporter.terminate() == 0

    first, last = otlp.pushes
    assert as_page(first).total(OUTCOMES, task="late") == 0
    assert as_page(last).total(OUTCOMES, task="late") == 3


def test_a_worker_pushes_its_page(
    processes: ExitStack, tmp_path: Path, redis_server: Redis, otlp: OtlpReceiver
) -> None:
    """The one that it hosts, at its end too, while children come and go."""
    worker = processes.enter_context(
        Instrumented(
            tmp_path,
            redis_server.url,
            *("--max-tasks-per-child", "2"),
            pool="prefork",
            instrument={"push_metrics": True, "push_interval": 3600},
            env=otlp.environment,
        )
    )
    eventually(lambda: otlp.pushes, 30.0)
    for _ in range(5):
        worker.send("add", 1, 2)
    page = worker.wait_for(lambda page: page.total(OUTCOMES, task="add", outcome="succeeded") == 5, 60.0)
    assert worker.terminate() == 0

    first, last = otlp.pushes
    assert as_page(first).total(OUTCOMES) == 0
    told = {sample: value for sample, value in page.items() if sample[0].startswith("celery_task_")}
    assert {sample: as_page(last)[sample] for sample in told} == told
    assert last.resource["service.instance.id"].endswith(f":{worker.port}")


def test_a_worker_does_not_push_over_grpc(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Its children would inherit half of it. That is said, and the page is served."""
    monkeypatch.setattr(logs, "_hosted", False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    reading, writing = pair()
    with reading, writing:
        hosted = serve_as_guest("a@h", load({"port": 0, "push_metrics": True}, {}, instrumented=True), reading)
        assert hosted is not None
        page = hosted.render()
        hosted.stop()

    assert "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/protobuf" in caplog.text
    assert b"celery_observe_build_info" in page
    assert POINTS.encode() not in page


def test_secrets_of_the_way_to_the_collector_are_not_told(pushing: Start, otlp: OtlpReceiver) -> None:
    """Headers arrive; neither they nor what cannot be read as such are in the log, nor is a password in the URL."""
    otlp.refusing.set()
    url = otlp.url.replace("://", "://user:hunter2@")
    headers = "authorization=Bearer%20hunter2,hunter2 is no header"
    exporter = pushing(
        OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_HEADERS=headers, CELERY_OBSERVE_LOG_LEVEL="debug"
    )
    exporter.wait_for(lambda page: page.total(POINTS, outcome="refused") > 0, 30.0)
    otlp.refusing.clear()
    eventually(lambda: otlp.pushes, 30.0)

    assert otlp.calls[-1].headers["authorization"]
    assert "Header format invalid" in exporter.output
    assert "hunter2" not in exporter.output + exporter.get("/metrics")[1]


def test_variables_that_are_wrong_are_refused_at_the_start(
    processes: ExitStack, tmp_path: Path, redis_server: Redis
) -> None:
    """In one line that says which, not amid the work."""
    env = {"OTEL_EXPORTER_OTLP_COMPRESSION": "carrier-pigeon"}
    refused = Exporter(tmp_path, redis_server.url, arguments=("--push-metrics",), env=env)
    with pytest.raises(AssertionError, match="ended"):
        processes.enter_context(refused)

    assert "OTEL_EXPORTER_OTLP_* cannot be used" in refused.output
    assert "carrier-pigeon" in refused.output
    assert "Traceback" not in refused.output


def test_what_is_too_much_for_one_request_is_several(otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each point is in one of them, and if one is not taken the others are not tried."""
    monkeypatch.setattr(push, "MOST_POINTS", 3)
    for name, value in {**otlp.environment, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}.items():
        monkeypatch.setenv(name, value)
    recorder, own = Recorder(), Recorder()
    for number in range(8):
        recorder[observer.EVENTS].increase((f"type-{number}",))
    points = Points(time.time_ns())
    pushed = own[observer.PUSHED_POINTS]
    pusher = push.Push(
        1.0,
        lambda: points.read([recorder], live=[True], now=time.time_ns()),
        lambda: "here",
        pushed,
        Guard(own.record),
    )

    pusher.push()
    otlp.refusing.set()
    with pytest.raises(PushError):
        pusher.push()

    assert [len(each.points) for each in otlp.pushes] == [3, 3, 2]
    assert len({point.attributes["type"] for each in otlp.pushes for point in each.points}) == 8
    assert pushed.values == {("exported",): 8, ("refused",): 8}
