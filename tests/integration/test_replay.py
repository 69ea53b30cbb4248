"""What may go wrong where traces are rebuilt from events, and what is left out of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.exporter import Exporter
from services.imitation import ImitatedWorker
from services.otlp import OtlpReceiver, executed
from services.prometheus import Prometheus
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

ATTEMPTS = "celery_observe_replay_attempts_total"

Start = Callable[..., Exporter]


@pytest.fixture
def replaying(processes: ExitStack, tmp_path: Path, redis_server: Redis, otlp: OtlpReceiver) -> Start:
    """Start an exporter that rebuilds traces, with what else is asked for."""

    def start(*arguments: str, **env: str) -> Exporter:
        given = {**otlp.environment, "OTEL_EXPORTER_OTLP_TIMEOUT": "1", **env}
        exporter = processes.enter_context(
            Exporter(tmp_path, redis_server.url, arguments=("--replay-traces", *arguments), env=given)
        )
        exporter.wait_until_ready()
        return exporter

    return start


def test_of_what_is_not_in_the_sample_failing_workflows_are_kept_whole(
    replaying: Start, otlp: OtlpReceiver, redis_server: Redis, celery_worker: Callable[..., Worker]
) -> None:
    """What succeeded before the failure included; the rest is counted."""
    exporter = replaying("--replay-ratio", "0", "--replay-waits")
    worker = celery_worker(redis_server.url, app="apps.traced", pool="threads")
    for task in ("start_chain", "start_failing_chain"):
        worker.send(task)

    spans = otlp.wait_for(lambda spans: executed(spans)["fail"])
    page = exporter.wait_for(lambda page: page.value("celery_observe_replay_held") == 4)

    assert executed(spans) == {"start_failing_chain": 1, "add": 1, "fail": 1}
    assert executed(spans, "wait") == executed(spans)
    assert len({span.trace for span in spans}) == 1
    assert page.value(ATTEMPTS, outcome="exported") == 3
    assert exporter.terminate() == 0


def test_workers_that_trace_are_left_alone(
    replaying: Start, otlp: OtlpReceiver, redis_server: Redis, processes: ExitStack, tmp_path: Path
) -> None:
    """As they say in their heartbeats; there are no spans of theirs twice."""
    exporter = replaying()
    worker = Worker(tmp_path, redis_server.url, app="apps.traced", pool="prefork")
    worker.env |= {"SAMPLE_INSTRUMENT": json.dumps({"tracing": True, "port": 0}), **otlp.environment}
    processes.enter_context(worker)

    task = worker.send("add", 1, 2)

    exporter.wait_for(lambda page: page.value(ATTEMPTS, outcome="live") == 1, 30.0)
    spans = otlp.wait_for(lambda spans: executed(spans)["add"])
    assert [span.attributes["messaging.message.id"] for span in spans if span.name == "process add"] == [task]
    assert exporter.metrics().value(ATTEMPTS, outcome="exported") == 0


def test_a_collector_that_is_gone_costs_spans_and_nothing_else(
    replaying: Start, otlp: OtlpReceiver, redis_server: Redis
) -> None:
    """They are counted, events are read on, and when it is back so are the spans."""
    otlp.refusing.set()
    exporter = replaying()
    with ImitatedWorker(redis_server.url) as worker:
        worker.accept(1, task="lost")
        exporter.wait_for(lambda page: page.value(ATTEMPTS, outcome="refused"), 30.0)
        page = exporter.wait_for(lambda page: page.value("celery_observe_plugin_up", plugin="replay") == 0)
        otlp.refusing.clear()

        def is_seen() -> bool:
            worker.accept(1, task="seen")
            return bool(otlp.named("process seen"))

        eventually(is_seen, 30.0)

    assert page.total("celery_task_outcomes_total", task="lost", outcome="succeeded") == 1
    assert otlp.named("process lost") == []
    exporter.wait_for(lambda page: page.value("celery_observe_plugin_up", plugin="replay") == 1)


def test_a_collector_that_stalls_holds_up_nothing(replaying: Start, otlp: OtlpReceiver, redis_server: Redis) -> None:
    """Not the events, nor the page, nor the end."""
    otlp.stalled.set()
    exporter = replaying(OTEL_EXPORTER_OTLP_TIMEOUT="30")
    with ImitatedWorker(redis_server.url) as worker:
        worker.accept(3)
        exporter.wait_for(lambda page: page.total("celery_task_outcomes_total", outcome="succeeded") == 3)

        assert exporter.terminate(timeout=10.0) == 0


def test_prometheus_keeps_the_exemplars(
    replaying: Start, otlp: OtlpReceiver, redis_server: Redis, prometheus: Callable[..., Prometheus]
) -> None:
    """From a point on a graph to its trace."""
    exporter = replaying()
    server = prometheus({"celery": [exporter.port]}, features=("exemplar-storage",))
    with ImitatedWorker(redis_server.url) as worker:
        worker.accept(1, task="t")
        (span,) = (span for span in otlp.wait_for(bool) if span.name == "process t")
        query = {"query": "celery_task_runtime_seconds_bucket", "start": "0", "end": "9999999999"}
        found = eventually(lambda: server.ask("/api/v1/query_exemplars", **query)["data"], 30.0)

    assert {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]} == {span.trace}
