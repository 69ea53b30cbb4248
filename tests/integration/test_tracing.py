"""The spans that real workers, their publishers and beat make, as a real receiver of OTLP gets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.beat import Beat
from services.celery_versions import packages
from services.otlp import OtlpReceiver, Span
from services.redis import Redis
from services.traced import REQUEST, Published, Traced
from services.waiting import eventually
from services.worker import TESTS

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")
SECRET = "4111 1111"
PUBLISHED = {
    "query": 4,
    "chain_of_5": 14,
    "chord_of_50": 103,
    "retry": 9,
    "publish_in_vain": 5,
    "unserialisable": 2,
    "failure": 3,
    "fail_expectedly": 3,
    "state": 3,
    "call": 6,
    "expired": 3,
    "later": 3,
    "reject_once": 4,
}
"""How many spans there are of each kind, the request included."""

Start = Callable[..., Traced]


@pytest.fixture
def start(redis_server: Redis, processes: ExitStack, tmp_path: Path, otlp: OtlpReceiver) -> Start:
    """Start a worker whose spans are received."""

    def begin(*arguments: str, broker: str = "", **options: Any) -> Traced:
        options = {"result_backend": redis_server.url, **options}
        return processes.enter_context(Traced(tmp_path, broker or redis_server.url, otlp, *arguments, **options))

    return begin


def links(span: Span) -> list[tuple[str, str]]:
    """What a span is linked to, each as what it is and its id."""
    return [(link.attributes["celery.link"], link.span) for link in span.links]


# -- trees, on each pool


class Played:
    """All that is published in the tests of a pool, and what became of it."""

    def __init__(self, worker: Traced, published: Published) -> None:
        self.worker = worker
        self.published = published
        self.trees = {kind: published.wait_for(kind, count) for kind, count in PUBLISHED.items()}


@pytest.fixture(
    scope="module", params=[pytest.param(pool, marks=pytest.mark.xdist_group(f"spans on {pool}")) for pool in POOLS]
)
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Publish it once to a worker of each pool."""
    folder = tmp_path_factory.mktemp("traced")
    with OtlpReceiver() as otlp, Redis(folder) as redis:
        worker = Traced(folder, redis.url, otlp, pool=request.param, concurrency=3, result_backend=redis.url)
        with worker:
            yield Played(worker, worker.publish(*PUBLISHED))


def test_a_task_is_published_within_the_request_and_processed_within_the_publish(played: Played) -> None:
    """And what its database client tells is within the attempt; baggage has come along."""
    tree = played.trees["query"]
    publish, process, select = (tree.one(name) for name in ("publish query", "process query", "SELECT"))

    assert tree.outline() == f"{REQUEST}(publish query(process query(SELECT)))"
    assert (publish.kind, process.kind) == ("producer", "consumer")
    assert select.attributes["tenant"] == "acme"
    assert tree.one(REQUEST).start <= publish.start <= publish.end
    assert publish.start <= process.start <= select.start <= select.end <= process.end
    task_id = process.attributes["messaging.message.id"]
    common = {
        "messaging.system": "celery",
        "messaging.destination.name": "celery",
        "messaging.message.id": task_id,
        "messaging.message.conversation_id": task_id,
        "celery.task.name": "query",
        "celery.task.retries": 0,
    }
    assert publish.attributes == common | {"messaging.operation.name": "publish", "messaging.operation.type": "send"}
    waits = {name: process.attributes[f"celery.task.{name}"] for name in ("queue_wait", "worker_wait")}
    assert 0.0 <= waits["worker_wait"] <= waits["queue_wait"]
    assert waits["queue_wait"] == pytest.approx(process.start - publish.start, abs=1.0)
    assert process.attributes == common | {
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.client.id": played.worker.node,
        "celery.task.queue_wait": waits["queue_wait"],
        "celery.task.worker_wait": waits["worker_wait"],
        "celery.task.outcome": "succeeded",
    }
    assert {span.status for span in tree.spans} == {"unset"}
    assert not any(span.links or span.events for span in tree.spans)


def test_a_chain_is_one_trace_with_the_retry_in_its_middle(played: Played) -> None:
    """What comes after is within the attempt that succeeded."""
    assert played.trees["chain_of_5"].outline() == (
        f"{REQUEST}(publish add(process add(publish add(process add(publish retry_once("
        "process retry_once(publish retry_once) "
        "process retry_once(publish query(process query(SELECT publish add(process add))))))))))"
    )


def test_attempts_stand_side_by_side_each_linked_to_the_one_before(played: Played) -> None:
    """However many there are."""
    tree = played.trees["retry"]
    first, *others = tree.named("process retry")
    creation = tree.named("publish retry")[0]

    assert tree.children(creation) == ["process retry"] * 4
    assert [span.attributes["celery.task.retries"] for span in (first, *others)] == [0, 1, 2, 3]
    assert [span.attributes["celery.task.outcome"] for span in (first, *others)] == ["retried"] * 3 + ["succeeded"]
    assert not first.links
    for before, after in zip([first, *others], others, strict=False):
        assert links(after) == [("previous_attempt", before.id)]
        assert tree.children(before) == ["publish retry"]


def test_the_body_of_a_chord_is_linked_to_its_whole_header(played: Played) -> None:
    """And is within the task that ended last, in the one trace of all."""
    tree = played.trees["chord_of_50"]
    header, body = tree.named("process add"), tree.one("process total")

    assert (len(header), len(tree.named("publish add"))) == (50, 50)
    assert tree.children(tree.one(REQUEST)) == ["publish add"] * 50
    assert sorted(links(body)) == sorted(("chord_header", span.id) for span in header)
    assert body.attributes["celery.chord.size"] == 50
    publish = tree.parent(body)
    assert publish is not None
    assert tree.parent(publish) in header
    assert {span.attributes["celery.group.index"] for span in header} == set(range(50))


def test_a_publish_that_fails_ends_its_span_and_leaves_nothing_behind(played: Played) -> None:
    """In a task, where what follows is not within it, and in the process of who published first."""
    tree = played.trees["publish_in_vain"]
    failed = tree.one("publish add")

    assert tree.outline() == f"{REQUEST}(publish publish_in_vain(process publish_in_vain(publish add SELECT)))"
    assert (failed.status, failed.attributes["error.type"]) == ("error", "EncodeError")
    assert failed.events[0].attributes["exception.type"] == "kombu.exceptions.EncodeError"
    assert played.published.left == 0
    assert played.trees["unserialisable"].one("publish add").status == "error"


def test_a_failure_is_an_error_and_quotes_nothing(played: Played) -> None:
    """The class of the exception and where it was raised are told; an argument is nowhere."""
    process = played.trees["failure"].one("process fail_badly")
    (event,) = process.events

    assert (process.status, process.message) == ("error", "")
    told = {"celery.task.outcome": "failed", "celery.task.cause": "exception", "error.type": "ValueError"}
    assert process.attributes.items() >= told.items()
    assert (event.name, event.attributes["exception.type"]) == ("exception", "ValueError")
    assert "in fail_badly" in event.attributes["exception.stacktrace"]
    assert "exception.message" not in event.attributes
    assert SECRET not in repr([tree.spans for tree in played.trees.values()])


def test_a_failure_that_a_task_says_it_throws_is_no_error(played: Played) -> None:
    """As Celery's own log has it."""
    process = played.trees["fail_expectedly"].one("process fail_expectedly")

    assert (process.status, process.attributes["celery.task.outcome"]) == ("unset", "failed")
    assert "error.type" not in process.attributes
    assert process.events[0].attributes["exception.type"] == "LookupError"


def test_a_state_of_its_own_is_an_event(played: Played) -> None:
    """With how much is done, and nothing else of what the task has said."""
    (event,) = played.trees["state"].one("process state").events

    assert (event.name, event.attributes) == (
        "celery.task.state",
        {"celery.task.state": "CHARGING", "celery.task.progress": 0.25},
    )


def test_what_is_called_in_place_is_within_its_caller(played: Played) -> None:
    """It is no message; a retry of it stands beside it."""
    tree = played.trees["call"]
    before, after = tree.named("call retry")

    assert tree.outline() == f"{REQUEST}(publish call(process call(call add call retry call retry)))"
    assert {span.kind for span in (tree.one("call add"), before, after)} == {"internal"}
    assert links(after) == [("previous_attempt", before.id)]
    assert not any(name.startswith("messaging.") for name in before.attributes)


def test_a_message_that_expired_is_discarded(played: Played) -> None:
    """By the worker, which executes nothing."""
    tree = played.trees["expired"]
    discarded = tree.one("discard add")

    assert tree.outline() == f"{REQUEST}(publish add(discard add))"
    assert (discarded.kind, discarded.attributes["messaging.operation.type"]) == ("client", "settle")
    assert (discarded.status, discarded.attributes["celery.task.outcome"]) == ("unset", "expired")


def test_time_until_an_eta_is_no_wait(played: Played) -> None:
    """It was asked for."""
    tree = played.trees["later"]
    process = tree.one("process add")

    assert "celery.task.eta" in process.attributes
    assert process.start - tree.one("publish add").start - process.attributes["celery.task.queue_wait"] > 0.9


def test_a_message_that_is_delivered_again_is_executed_beside(played: Played) -> None:
    """Both say how it went, and have ids of their own."""
    tree = played.trees["reject_once"]
    first, again = tree.named("process reject_once")

    assert tree.children(tree.one("publish reject_once")) == ["process reject_once"] * 2
    assert [span.attributes["celery.task.outcome"] for span in (first, again)] == ["rejected", "succeeded"]
    assert again.attributes["celery.task.redelivered"] is True


# -- what the main process tells

KILLED = {
    "die": ("process die", "failed", "oom_or_signal", "WorkerLostError", "error"),
    "hang": ("process hang", "failed", "hard_time_limit", "TimeLimitExceeded", "error"),
    "unregistered": ("discard nowhere", "unregistered", "unregistered", "NotRegistered", "error"),
    "reject": ("process reject", "rejected", None, None, "unset"),
}
"""What is published: the name of its last span, outcome, cause, error and status."""


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_the_main_process_tells_of_what_no_child_can(start: Start, request: pytest.FixtureRequest, broker: str) -> None:
    """Killed, timed out, lost, revoked: once each, by the id that the child began the span with."""
    url = request.getfixturevalue("rabbitmq_url") if broker == "rabbitmq" else ""
    worker = start(broker=url, pool="prefork", concurrency=2)
    published = worker.publish(*KILLED, "chain_of_5")

    for kind, (name, *expected) in KILLED.items():
        process = published.wait_for(kind, 4 if kind == "die" else 3).one(name)
        told = [process.attributes.get(f"celery.task.{each}") for each in ("outcome", "cause")]
        assert [*told, process.attributes.get("error.type"), process.status] == expected
        assert process.attributes["messaging.client.id"] == worker.node
    lost = published.wait_for("die", 4)
    assert lost.outline() == f"{REQUEST}(publish die(process die(SELECT)))"
    assert lost.one("process die").end - lost.one("process die").start > 0.4
    hung = published.wait_for("hang", 3).one("process hang")
    assert hung.end - hung.start > 0.9
    assert len(published.wait_for("chain_of_5", 14).spans) == 14
    again = worker.publish("die_once").wait_for("die_once", 4).named("process die_once")
    assert [span.attributes["celery.task.outcome"] for span in again] == ["rejected", "succeeded"]


def test_what_is_revoked_is_told_before_and_while_it_runs(start: Start, otlp: OtlpReceiver) -> None:
    """Of a task whose publisher makes no spans, all is in the trace that follows from its id."""
    worker = start(pool="prefork", concurrency=1)
    waiting, running = worker.send("sleep", 60, countdown=3), worker.send("sleep", 60)
    eventually(lambda: worker.output.count("received") == 2, 30.0)
    worker.revoke(waiting)
    worker.revoke(running, terminate=True)

    otlp.wait_for(lambda spans: len(spans) >= 2, 30.0)

    (terminated,), (revoked,) = otlp.named("process sleep"), otlp.named("discard sleep")
    assert (terminated.attributes["messaging.message.id"], revoked.attributes["messaging.message.id"]) == (
        running,
        waiting,
    )
    outcomes = [span.attributes["celery.task.outcome"] for span in (terminated, revoked)]
    assert outcomes == ["terminated", "revoked"]
    assert terminated.trace != revoked.trace
    assert (terminated.parent, revoked.parent) == ("", "")


@pytest.mark.parametrize("celery", ["5.5.3", "5.6.3"])
def test_older_celery_makes_the_same_trees(start: Start, celery: str) -> None:
    """Though it calls its signals differently."""
    expected = {"chord_of_50": 103, "retry": 9, "call": 6, "die": 4, "hang": 3, "publish_in_vain": 5}
    worker = start(pool="prefork", env={"PYTHONPATH": os.pathsep.join(map(str, (TESTS, packages(celery))))})

    published = worker.publish(*expected)

    trees = {kind: published.wait_for(kind, count) for kind, count in expected.items()}
    assert f"v{celery}" in worker.output
    assert {kind: len(tree.spans) for kind, tree in trees.items()} == expected
    assert len(trees["chord_of_50"].one("process total").links) == 50
    assert [len(span.links) for span in trees["retry"].named("process retry")] == [0, 1, 1, 1]
    assert trees["die"].outline() == f"{REQUEST}(publish die(process die(SELECT)))"
    assert trees["hang"].one("process hang").attributes["celery.task.cause"] == "hard_time_limit"


# -- where spans go


@pytest.mark.parametrize("provider", ["", "app", "child"])
def test_children_that_are_recycled_lose_nothing(start: Start, otlp: OtlpReceiver, provider: str) -> None:
    """Whether the app has set up a provider, before its children are forked or in each, or has none."""
    worker = start("--max-tasks-per-child", "1", pool="prefork", env={"TRACED_PROVIDER": provider})
    for _ in range(10):
        worker.send("query")

    otlp.wait_for(lambda spans: len(spans) >= 20, 60.0)

    assert worker.terminate() == 0
    assert (len(otlp.named("process query")), len(otlp.named("SELECT"))) == (10, 10)
    assert {span.resource["service.name"] for span in otlp.spans} == {"shop" if provider else "worker"}


def test_children_that_are_recycled_lose_nothing_over_grpc(start: Start, otlp: OtlpReceiver) -> None:
    """Though the main process, from which they are forked, uses it too."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.grpc_url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    worker = start("--max-tasks-per-child", "1", pool="prefork", env=env)
    worker.send("add", 1, 2, expires=-10)
    otlp.wait_for(lambda spans: [span.name for span in spans] == ["discard add"], 60.0)
    for _ in range(10):
        worker.send("add", 1, 2)

    otlp.wait_for(lambda spans: len(spans) >= 11, 60.0)

    assert worker.terminate() == 0
    assert len(otlp.named("process add")) == 10


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_what_has_ended_is_sent_when_the_worker_ends(start: Start, otlp: OtlpReceiver, pool: str) -> None:
    """Though it would be sent later otherwise."""
    worker = start(pool=pool, env={"OTEL_BSP_SCHEDULE_DELAY": "600000"})
    worker.send("add", 1, 2)
    worker.send("add", 1, 2, expires=-10)
    eventually(lambda: "succeeded in" in worker.output and "Discarding" in worker.output, 30.0)
    assert not otlp.spans

    assert worker.terminate() == 0

    assert {span.name for span in otlp.spans} == {"process add", "discard add"}


def test_a_collector_that_never_answers_holds_nothing_up(start: Start, otlp: OtlpReceiver) -> None:
    """One child waits for it in vain, the others not even that; and the worker ends."""
    otlp.stalled.set()
    worker = start("--max-tasks-per-child", "1", pool="prefork", concurrency=1)
    began = time.monotonic()

    for _ in range(8):
        worker.send("add", 1, 2)
    eventually(lambda: worker.output.count("succeeded in") == 8, 90.0)

    assert time.monotonic() - began < 60.0
    assert worker.terminate() == 0


def test_greenlets_use_the_provider_of_the_app(start: Start, otlp: OtlpReceiver) -> None:
    """Whatever the variables say of those that we would build."""
    worker = start(pool="gevent", env={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "TRACED_PROVIDER": "app"})
    worker.send("add", 1, 2)

    otlp.wait_for(lambda spans: any(span.name == "process add" for span in spans))

    assert "no spans are made" not in worker.output


def test_greenlets_do_without_grpc(start: Start, otlp: OtlpReceiver) -> None:
    """It would hold all of them up; what to do is said, once, and tasks go on."""
    worker = start(pool="gevent", env={"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    worker.send("add", 1, 2)
    worker.send("add", 1, 2)

    eventually(lambda: worker.output.count("succeeded in") == 2, 30.0)

    assert worker.output.count("set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf") == 1
    assert not otlp.spans


# -- as it is asked for


def test_links_instead_of_parents_waits_and_texts(start: Start, otlp: OtlpReceiver) -> None:
    """Each attempt begins a trace, linked to what published it and to the attempt before, a body to its header."""
    asked = {"tracing_links": True, "tracing_waits": True, "tracing_exception_text": True}
    worker = start(pool="threads", concurrency=3, instrument=asked)

    published = worker.publish("retry", "chord", "failure")

    spans = otlp.wait_for(
        lambda spans: (
            {"process total", "process fail_badly"} <= {each.name for each in spans}
            and sum(each.name == "process retry" for each in spans) == 4
        ),
        60.0,
    )
    first, second = sorted(otlp.named("process retry"), key=lambda span: span.start)[:2]
    creation = min(otlp.named("publish retry"), key=lambda span: span.start)
    assert (first.parent, links(first)) == ("", [("creation", creation.id)])
    assert links(second) == [("previous_attempt", first.id), ("creation", creation.id)]
    assert len({first.trace, second.trace, creation.trace}) == 3
    (body,) = otlp.named("process total")
    header = {(span.trace, span.id) for span in spans if span.name in {"process add", "process work"}}
    linked = {(link.trace, link.span) for link in body.links if link.attributes["celery.link"] == "chord_header"}
    assert linked == header
    (failed,) = otlp.named("process fail_badly")
    assert failed.events[0].attributes["exception.message"] == SECRET
    (wait,) = otlp.named("wait fail_badly")
    assert wait.trace == published.traces["failure"]
    assert wait.end == pytest.approx(failed.start, abs=0.001)


def test_what_the_publisher_did_not_sample_is_not_recorded(start: Start, otlp: OtlpReceiver) -> None:
    """Nor is what comes after it."""
    worker = start(pool="solo")

    worker.publish("query", OTEL_TRACES_SAMPLER="always_off")
    worker.publish("add")

    otlp.wait_for(lambda spans: any(span.name == "process add" for span in spans))
    eventually(lambda: worker.output.count("succeeded in") == 2, 30.0)
    assert {span.attributes.get("celery.task.name") for span in otlp.spans if "add" in span.name} == {"add"}
    assert not [span for span in otlp.spans if "query" in span.name or span.name == "SELECT"]


def test_a_context_that_the_user_has_put_into_a_message_stays(start: Start, otlp: OtlpReceiver) -> None:
    """The publish is linked to it."""
    worker = start(pool="solo")

    worker.publish("custom")

    otlp.wait_for(lambda spans: any(span.name == "process add" for span in spans))
    (publish,), (process,) = otlp.named("publish add"), otlp.named("process add")
    assert (process.trace, process.parent) == ("a" * 32, "b" * 16)
    assert links(publish) == [("creation", "b" * 16)]


def test_a_group_that_nobody_traces_is_one_trace(start: Start, otlp: OtlpReceiver) -> None:
    """The publisher makes spans, but none was current."""
    worker = start(pool="solo")

    worker.publish("group", request="")

    spans = otlp.wait_for(lambda spans: len(spans) >= 6)
    assert len({span.trace for span in spans}) == 1


def test_logs_and_alerts_name_the_trace_of_the_attempt(start: Start, otlp: OtlpReceiver) -> None:
    """Each entry of it has the same."""
    worker = start(pool="prefork", instrument={"logs": "json", "tracing_links": True})

    worker.publish("get")

    otlp.wait_for(lambda spans: any(span.name == "process get" for span in spans))
    (process,) = otlp.named("process get")
    entries = [json.loads(line) for line in worker.output.splitlines() if line.startswith("{")]
    told = {
        entry["event"]: entry["trace_id"] for entry in entries if entry["event"] in {"task started", "task succeeded"}
    }
    assert told == {"task started": process.trace, "task succeeded": process.trace}


# -- beat


def test_beat_begins_a_trace_with_the_name_of_the_entry(
    redis_server: Redis, processes: ExitStack, tmp_path: Path, otlp: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it publishes is within, and each time it is another trace."""
    for name, value in otlp.environment.items():
        monkeypatch.setenv(name, value)
    schedule = {"nightly": {"task": "add", "schedule": 0.5, "args": [1, 2]}}
    processes.enter_context(Beat(tmp_path, redis_server.url, schedule, instrument={"tracing": True}))

    otlp.wait_for(lambda spans: sum(span.name == "beat nightly" for span in spans) >= 2, 60.0)

    entries, publishes = otlp.named("beat nightly"), otlp.named("publish add")
    assert len({span.trace for span in entries}) == len(entries)
    assert {(span.kind, span.parent, span.attributes["celery.beat.entry"]) for span in entries} == {
        ("internal", "", "nightly")
    }
    assert all("celery.beat.lateness" in span.attributes for span in entries)
    assert {span.parent for span in publishes} >= {span.id for span in entries[:1]}


# -- what children inherit

FIRST = """
import sys
from celery_observe.tracing.provider import provider
provider.settle(apart=True, green=False)
provider.prepare()
imported = set(sys.modules)
span = provider.tracer.start_span("first")
made = set(sys.modules)
span.end()
provider.close(10.0)
print(sorted({name for name in made - imported if name.startswith(("requests", "urllib3"))} | set(sys.modules) - made))
"""


def test_all_that_sending_takes_is_imported_before_children_are_forked(otlp: OtlpReceiver) -> None:
    """One that is forked while a thread of ours imports would wait for that import whenever it has spans to send."""
    command = [sys.executable, "-P", "-c", FIRST]

    printed = subprocess.run(
        command, env={**os.environ, **otlp.environment}, capture_output=True, check=True, text=True
    ).stdout

    assert printed.strip() == "[]"
    assert [span.name for span in otlp.spans] == ["first"]


# -- without

BLOCKED = """
import sys
sys.modules["opentelemetry"] = None
from celery_observe import instrument
from apps.sample import app
instrument(app, tracing=True)
print(app.send_task("add", (1, 2)).id and "published")
app.worker_main(["worker", "-P", "solo", "-l", "INFO", "-n", "w@localhost"])
"""


def test_all_else_works_without_opentelemetry(redis_server: Redis, tmp_path: Path) -> None:
    """What is missing is said, and how to get it."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "SAMPLE_BROKER": redis_server.url,
        "CELERY_OBSERVE_PORT": "0",
        "C_FORCE_ROOT": "1",
    }
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            [sys.executable, "-P", "-c", BLOCKED], env=environment, cwd=tmp_path, stdout=output, stderr=output
        ) as worker,
    ):
        try:
            eventually(lambda: "succeeded in" in log.read_text() or worker.poll() is not None, 60.0)
        finally:
            worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert "pip install 'celery-observe[otel]'" in log.read_text()
    assert "metrics are served" in log.read_text()
