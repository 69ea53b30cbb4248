"""What may go wrong where traces are rebuilt from events, and what is left out of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from celery_observe.fact import AttemptId
from celery_observe.guard import Guard
from celery_observe.metrics import observer
from celery_observe.recorder import Recorder
from celery_observe.settings import load
from celery_observe.tracing import replay_export
from celery_observe.tracing.replay_export import Replay
from services.exporter import Exporter, Served
from services.imitation import ImitatedWorker
from services.instrumented import Instrumented
from services.otlp import OtlpReceiver, executed
from services.prometheus import Prometheus
from services.redis import Redis
from services.waiting import eventually
from services.webhook import Webhook
from services.worker import Worker
from unit.test_replay import TRACED

ATTEMPTS = "celery_observe_replay_attempts_total"

FAILED = {"on": "failed", "group_wait": 0}


def exemplars(served: Served) -> set[str]:
    """The traces that the page names."""
    status, page = served.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    return set(re.findall(r'# \{trace_id="(\w{32})"\}', page))


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
    replaying: Start, otlp: OtlpReceiver, redis_server: Redis, processes: ExitStack, tmp_path: Path, webhook: Webhook
) -> None:
    """As they say in their heartbeats: no span of theirs comes twice. Their own page and alerts name their traces."""
    exporter = replaying()
    given = {"tracing": True, "alert_rule": [FAILED], "alert_sink": {"webhook": webhook.url}}
    worker = processes.enter_context(
        Instrumented(
            tmp_path,
            redis_server.url,
            app="apps.traced",
            pool="prefork",
            events=True,
            instrument=given,
            env=otlp.environment,
        )
    )

    task = worker.send("fail_badly", "4111 1111")

    exporter.wait_for(lambda page: page.value(ATTEMPTS, outcome="live") == 1, 30.0)
    (span,) = (span for span in otlp.wait_for(lambda spans: executed(spans)["fail_badly"]) if span.kind == "consumer")
    assert span.attributes["messaging.message.id"] == task
    assert exporter.metrics().value(ATTEMPTS, outcome="exported") == 0
    assert exemplars(exporter) == set()
    eventually(lambda: exemplars(worker) == {span.trace})
    eventually(lambda: webhook.calls)
    assert webhook.calls[0].body["alerts"][0]["trace_id"] == span.trace


def test_alerts_name_the_trace_that_was_rebuilt(
    replaying: Start, otlp: OtlpReceiver, redis_server: Redis, webhook: Webhook
) -> None:
    """And link to it; so does the page."""
    link = "Trace=https://tempo.example.com/trace/{trace_id}"
    sink = f"webhook={webhook.url}"
    exporter = replaying("--alert-rule", json.dumps(FAILED), "--alert-sink", sink, "--alert-link", link)
    with ImitatedWorker(redis_server.url) as worker:
        worker.say("task-received", uuid="a", name="pay", retries=0)
        worker.say("task-started", uuid="a")
        worker.say("task-failed", uuid="a", exception="KeyError('secret')", traceback="")
        (span,) = otlp.wait_for(bool)
        eventually(lambda: webhook.calls)

    (alert,) = webhook.calls[0].body["alerts"]
    assert alert["trace_id"] == span.trace
    assert alert["links"] == {"Trace": f"https://tempo.example.com/trace/{span.trace}"}
    assert exemplars(exporter) == {span.trace}


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


def test_more_than_can_wait_is_dropped_and_counted(otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's thread is never held up; every attempt is counted once."""
    monkeypatch.setattr(replay_export, "MOST_WAITING", 3)
    for name, value in otlp.environment.items():
        monkeypatch.setenv(name, value)
    settings, recorder = load({"broker": ("redis://h",), "replay_traces": True}, {}), Recorder()
    replay = Replay(settings.brokers[0], settings, recorder, Guard(recorder.record))

    for number in range(5):
        recorder.record(msgspec.structs.replace(TRACED, attempt=AttemptId(str(number))))
    replay.look()

    counts = {labels[0]: count for labels, count in recorder[observer.REPLAY_ATTEMPTS].values.items() if count}
    assert counts == {"exported": 3, "queue_full": 2}
    assert executed(otlp.spans) == {"shop.pay": 3}


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
