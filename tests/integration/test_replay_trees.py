"""Whole traces rebuilt from the events of a worker that has no code of ours, as real collectors get them."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from celery_observe.tracing.conventions import trace_id_of
from conftest import require
from services.exporter import Exporter, Samples
from services.otlp import OtlpReceiver, Span, children_of, executed
from services.redis import Redis
from services.worker import Worker

pytestmark = [pytest.mark.redis, pytest.mark.workers, pytest.mark.xdist_group("replay")]

REPLAY = ("--replay-traces",)
ATTEMPTS = "celery_observe_replay_attempts_total"
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
SECRET = "4111 1111 1111 1111"

EXECUTED = Counter(
    {"add": 3 + 50 + 2, "retry_once": 2, "query": 1, "total": 1, "work": 1, "die": 1, "hang": 1}
) + Counter({"start_chain_of_5": 1, "start_chord_of_50": 1, "start_group": 1, "fail_badly": 1})
"""Attempts, by task."""
DISCARDED = Counter({"add": 1, "nobody.knows": 1})


class Seen(NamedTuple):
    """What came of the tasks of one worker."""

    spans: list[Span]
    """Over HTTP, from one exporter."""
    others: list[Span]
    """Over gRPC, from another one beside it."""
    ids: dict[str, str]
    """The ids of the tasks that a client published."""
    page: str
    """In OpenMetrics."""
    samples: Samples

    def named(self, name: str) -> list[Span]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]

    def trace(self, task: str) -> list[Span]:
        """The spans of the trace that a task began."""
        return [span for span in self.spans if span.trace == f"{trace_id_of(self.ids[task]):032x}"]


def publish(worker: Worker) -> dict[str, str]:
    """Have a worker execute all kinds of tasks; return the ids of those that a client publishes."""
    sent = {task: worker.send(task) for task in ("start_chain_of_5", "start_chord_of_50", "start_group")}
    sent |= {task: worker.send(task) for task in ("die", "hang", "nobody.knows")}
    return sent | {"fail_badly": worker.send("fail_badly", SECRET), "add": worker.send("add", 1, 2, expires=-10)}


def is_whole(spans: list[Span]) -> bool:
    """Whether all has come that should come."""
    return executed(spans) == EXECUTED and executed(spans, "discard") == DISCARDED


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """Two exporters beside a worker that knows of neither."""
    require("redis-server", installed=shutil.which("redis-server") is not None)
    folder = tmp_path_factory.mktemp("replay")
    with ExitStack() as started:
        one, other = started.enter_context(OtlpReceiver()), started.enter_context(OtlpReceiver())
        redis = started.enter_context(Redis(folder))
        over_grpc = {"OTEL_EXPORTER_OTLP_ENDPOINT": other.grpc_url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        exporter = started.enter_context(Exporter(folder, redis.url, arguments=REPLAY, env=one.environment))
        second = started.enter_context(Exporter(folder, redis.url, arguments=REPLAY, env=over_grpc))
        exporter.wait_until_ready()
        second.wait_until_ready()
        with Worker(folder, redis.url, app="apps.traced", pool="prefork") as worker:
            ids = publish(worker)
            one.wait_for(is_whole, 60.0)
            other.wait_for(is_whole)
        page = exporter.get("/metrics", **OPENMETRICS)[1]
        yield Seen(one.spans, other.spans, ids, page, exporter.metrics())


def test_each_attempt_is_one_span(seen: Seen) -> None:
    """Those that were killed, retried, expired and unknown included; and each message is one."""
    assert executed(seen.spans) == EXECUTED
    assert executed(seen.spans, "discard") == DISCARDED
    assert executed(seen.spans, "publish") == EXECUTED + DISCARDED
    assert len({(span.trace, span.id) for span in seen.spans}) == len(seen.spans)
    assert seen.samples.value(ATTEMPTS, outcome="exported") == EXECUTED.total() + DISCARDED.total()
    assert seen.samples.total(ATTEMPTS) == EXECUTED.total() + DISCARDED.total()


def test_two_exporters_tell_the_same(seen: Seen) -> None:
    """Over HTTP and over gRPC, without a word between them: so either may fail."""

    def known(spans: list[Span]) -> list[Span]:
        plain = (span._replace(resource={}) for span in spans)
        return sorted(plain, key=lambda span: (span.trace, span.id))

    assert known(seen.spans) == known(seen.others)


def test_a_chain_with_a_retry_is_one_path(seen: Seen) -> None:
    """Each step below the one before, the retry beside the attempt that asked for it."""
    tree = seen.trace("start_chain_of_5")
    path = []
    (span,) = (span for span in tree if not span.parent)
    while below := children_of(span, tree):
        path += [each.name for each in below]
        span = next((each for each in reversed(below) if each.attributes.get("celery.task.outcome") != "retried"), span)

    step = ["publish add", "process add"]
    assert path == [
        "process start_chain_of_5",
        *step,
        *step,
        *("publish retry_once", "process retry_once", "process retry_once"),
        *("publish query", "process query"),
        *step,
    ]
    first, second = sorted((each for each in tree if each.name == "process retry_once"), key=lambda each: each.start)
    assert [each.attributes["celery.task.outcome"] for each in (first, second)] == ["retried", "succeeded"]
    assert [(link.trace, link.span) for link in second.links] == [(first.trace, first.id)]
    assert [link.attributes for link in second.links] == [{"celery.link": "previous_attempt"}]
    assert [each.name for each in children_of(first, tree)] == ["publish retry_once"]
    assert len(tree) == 2 * 7


def test_a_chord_of_fifty_is_one_trace(seen: Seen) -> None:
    """The header below the task that published it, the body below the last of the header, which published that."""
    tree = seen.trace("start_chord_of_50")
    by_id = {span.id: span for span in tree}
    (start,) = (span for span in tree if span.name == "process start_chord_of_50")
    header = [span for span in tree if span.name == "process add"]
    (body,) = (span for span in tree if span.name == "publish total")

    assert [each.name for each in children_of(start, tree)] == ["publish add"] * 50
    assert len(header) == 50
    assert all(by_id[by_id[span.parent].parent] is start for span in header)
    assert by_id[body.parent] in header
    assert len(tree) == 2 * 52


def test_the_client_and_the_worker_see_the_same_times(seen: Seen) -> None:
    """A message is published before it is processed, and within the task that publishes it; waits are told."""
    tree = {span.id: span for span in seen.trace("start_chord_of_50")}
    for span in tree.values():
        above = tree.get(span.parent)
        assert span.start <= span.end
        if above is not None and span.name.startswith("process"):
            assert above.start <= span.start
            assert span.attributes["celery.task.queue_wait"] == pytest.approx(span.start - above.start, abs=0.001)
        elif above is not None:  # its start is told by the main process, when that comes to it
            assert span.start <= above.end


@pytest.mark.parametrize(
    ("task", "exception", "cause"),
    [
        ("die", "WorkerLostError", "oom_or_signal"),
        ("hang", "TimeLimitExceeded", "hard_time_limit"),
        ("fail_badly", "ValueError", "exception"),
    ],
)
def test_a_failure_says_why(seen: Seen, task: str, exception: str, cause: str) -> None:
    """As the metrics do; killed children leave a span too."""
    published, failed = seen.trace(task)

    assert (published.status, failed.status) == ("unset", "error")
    assert failed.attributes["error.type"] == exception
    assert failed.attributes["celery.task.cause"] == cause
    assert failed.attributes["celery.task.outcome"] == "failed"
    assert [event.attributes["exception.type"] for event in failed.events] == [exception]
    assert failed.end - failed.start >= {"hang": 0.5}.get(task, 0.0)


@pytest.mark.parametrize(("task", "outcome"), [("add", "expired"), ("nobody.knows", "unregistered")])
def test_a_message_that_is_thrown_away_leaves_a_span(seen: Seen, task: str, outcome: str) -> None:
    """Of the moment at which that was done."""
    published, discarded = seen.trace(task)

    assert (published.kind, discarded.kind) == ("producer", "client")
    assert discarded.parent == published.id
    assert discarded.attributes["celery.task.outcome"] == outcome


def test_spans_say_what_the_conventions_ask_for(seen: Seen) -> None:
    """Of the system, the operation, the message, the queue, the worker and the broker; and no arguments."""
    (span,) = seen.named("process total")
    body = seen.ids["start_chord_of_50"]

    assert span.kind == "consumer"
    assert span.scope == "celery_observe"
    assert span.resource["service.name"] == "celery"
    assert span.attributes["messaging.message.conversation_id"] == body != span.attributes["messaging.message.id"]
    assert span.attributes.items() >= {
        ("messaging.system", "celery"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "celery"),
        ("celery.task.name", "total"),
        ("celery.task.retries", 0),
        ("server.address", "127.0.0.1"),
    }
    assert str(span.attributes["messaging.client.id"]).endswith("@localhost")
    assert SECRET not in str(seen.spans)


def test_buckets_of_the_runtime_name_traces_that_were_exported(seen: Seen) -> None:
    """In OpenMetrics; each of the last attempt in its bucket."""
    named = re.findall(
        r'^celery_task_runtime_seconds_bucket\{.*task="(\w+)".*# \{trace_id="(\w{32})"\}', seen.page, re.MULTILINE
    )

    assert {task for task, _ in named} >= {"add", "die", "hang", "total"}
    assert {trace for _, trace in named} <= {span.trace for span in seen.spans}
    assert ("hang", seen.trace("hang")[0].trace) in named
