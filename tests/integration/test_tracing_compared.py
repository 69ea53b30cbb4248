"""What opentelemetry-instrumentation-celery gets wrong, as its current release does, and we do not.

Both are set up as their documentation says, and asked for the same.
"""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest

from services.otlp import OtlpReceiver, Span
from services.redis import Redis
from services.traced import Traced, Tree
from services.waiting import eventually

PINNED = "0.66b2"
OURS, THEIRS = "celery-observe", "opentelemetry"
KINDS = {"retry": 9, "chord": 9, "add": 3, "expired": 2, "die": 3}
"""What is published, and how many spans both make of it; of the last two we make one more."""


def traced_by(
    by: str, folder: Path, redis: Redis, otlp: OtlpReceiver, *arguments: str, pool: str = "prefork", **env: str
) -> Traced:
    """A worker whose spans are made by one of them."""
    return Traced(
        folder,
        redis.url,
        otlp,
        *arguments,
        instrument={} if by == OURS else None,
        env={"TRACED_BY": by, **env},
        pool=pool,
        result_backend=redis.url,
    )


class Seen(NamedTuple):
    """What one of them has told."""

    left: int
    """The span that is current in the process of a publisher whose publish has failed; 0 if none is."""
    trees: dict[str, Tree]
    attempt: str
    """How it names the span of an attempt."""

    def attempts(self, kind: str, task: str) -> list[Span]:
        """The spans of the attempts of a task."""
        return self.trees[kind].named(self.attempt.format(task))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """What both have told of the same."""
    found = {}
    for by, attempt in ((OURS, "process {}"), (THEIRS, "run/{}")):
        folder = tmp_path_factory.mktemp(by)
        with OtlpReceiver() as otlp, Redis(folder) as redis, traced_by(by, folder, redis, otlp) as worker:
            published = worker.publish(*KINDS)
            eventually(lambda: "WorkerLostError" in worker.output, 30.0)
            more = {"expired": 1, "die": 1} if by == OURS else {}
            trees = {kind: published.wait_for(kind, count + more.get(kind, 0)) for kind, count in KINDS.items()}
            found[by] = Seen(worker.publish("unserialisable", request="").left, trees, attempt)
    return found


pytestmark = pytest.mark.xdist_group("compared with opentelemetry")


def test_this_is_their_current_release() -> None:
    """Whoever takes a newer one looks whether all this still is so."""
    assert version("opentelemetry-instrumentation-celery") == PINNED


def test_a_publish_that_fails_stays_current_with_them(seen: dict[str, Seen]) -> None:
    """All that the process does after is within it."""
    assert seen[OURS].left == 0
    assert seen[THEIRS].left != 0


def test_retries_nest_ever_deeper_with_them(seen: dict[str, Seen]) -> None:
    """Each within the publish of the attempt before; with us side by side."""
    depths = {}
    for by, told in seen.items():
        depths[by] = [depth(span, told.trees["retry"]) for span in told.attempts("retry", "retry")]

    assert depths == {OURS: [2, 2, 2, 2], THEIRS: [2, 4, 6, 8]}


def depth(span: Span, tree: Tree) -> int:
    """How many spans this one is within."""
    parent = tree.parent(span)
    return 0 if parent is None else 1 + depth(parent, tree)


def test_the_body_of_a_chord_knows_one_parent_with_them(seen: dict[str, Seen]) -> None:
    """Which of the header ended last; with us all of the header."""
    linked = {by: {link.span for link in told.attempts("chord", "total")[0].links} for by, told in seen.items()}
    header = {span.id for task in ("add", "work") for span in seen[OURS].attempts("chord", task)}

    assert linked == {OURS: header, THEIRS: set()}
    assert len(header) == 3


def test_what_expires_or_is_killed_has_no_span_with_them(seen: dict[str, Seen]) -> None:
    """What a killed task's database has told belongs to nothing then."""
    killed = {by: len(told.attempts("die", "die")) for by, told in seen.items()}
    homeless = {
        by: [span.name for span in told.trees["die"].spans if is_homeless(span, told.trees["die"])]
        for by, told in seen.items()
    }

    assert killed == {OURS: 1, THEIRS: 0}
    assert homeless == {OURS: [], THEIRS: ["SELECT"]}
    assert [span.name for span in seen[OURS].trees["expired"].spans][2:] == ["discard add"]
    assert not [span.name for span in seen[THEIRS].trees["expired"].spans][2:]


def is_homeless(span: Span, tree: Tree) -> bool:
    """Whether the span that this one is within has never come."""
    return span.parent != "" and tree.parent(span) is None


def test_nobody_knows_how_long_a_message_waited_with_them(seen: dict[str, Seen]) -> None:
    """It is no attribute of any name."""
    waits = {
        by: [name for name in told.attempts("add", "add")[0].attributes if "wait" in name] for by, told in seen.items()
    }

    assert waits == {OURS: ["celery.task.queue_wait", "celery.task.worker_wait"], THEIRS: []}


def test_children_that_are_recycled_lose_spans_with_them(
    redis_server: Redis, processes: ExitStack, tmp_path: Path
) -> None:
    """With the usual delay of five seconds, after which spans are sent."""
    told = {}
    for by in (OURS, THEIRS):
        otlp = processes.enter_context(OtlpReceiver())
        arguments = ("--max-tasks-per-child", "1", "-Q", by)
        worker = traced_by(by, tmp_path, redis_server, otlp, *arguments, OTEL_BSP_SCHEDULE_DELAY="5000")
        processes.enter_context(worker)
        for _ in range(10):
            worker.send("add", 1, 2, queue=by)
        eventually(lambda: worker.output.count("succeeded in") == 10, 90.0)  # noqa: B023 - it is asked at once
        assert worker.terminate() == 0
        told[by] = sum(span.kind == "consumer" for span in otlp.spans)

    assert told[OURS] == 10
    assert told[THEIRS] < 10


@pytest.mark.parametrize("pool", ["threads", "gevent", "eventlet"])
def test_nothing_is_told_of_other_pools_with_them(
    redis_server: Redis, processes: ExitStack, tmp_path: Path, pool: str
) -> None:
    """For the signal in which their documentation has them begin is that of a child process."""
    told = {}
    for by in (OURS, THEIRS):
        otlp = processes.enter_context(OtlpReceiver())
        worker = processes.enter_context(traced_by(by, tmp_path, redis_server, otlp, "-Q", by, pool=pool))
        worker.send("add", 1, 2, queue=by)
        eventually(lambda: "succeeded in" in worker.output, 60.0)  # noqa: B023 - it is asked at once
        assert worker.terminate() == 0
        told[by] = len(otlp.spans)

    assert told == {OURS: 1, THEIRS: 0}


def test_where_theirs_is_active_we_make_none_and_say_so_once(
    redis_server: Redis, processes: ExitStack, tmp_path: Path, otlp: OtlpReceiver
) -> None:
    """However many children there are; the last has not lived out, for who does takes their spans along."""
    worker = Traced(
        tmp_path, redis_server.url, otlp, "--max-tasks-per-child", "3", env={"TRACED_BY": THEIRS}, pool="prefork"
    )
    processes.enter_context(worker)
    for _ in range(7):
        worker.send("add", 1, 2)

    eventually(lambda: worker.output.count("succeeded in") == 7, 60.0)
    otlp.wait_for(lambda spans: len(spans) >= 1)

    assert worker.terminate() == 0
    assert {span.name for span in otlp.spans} == {"run/add"}
    assert worker.output.count("opentelemetry-instrumentation-celery makes the spans") == 1
