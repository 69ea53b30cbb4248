"""Chains, groups and chords on real workers and brokers, as events and as instrumented processes tell of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from apps.canvases import CANVASES
from services.celery_versions import interpreter, packages
from services.exporter import COMMAND, Exporter, Samples, Served
from services.instrumented import Sidecar
from services.redis import Redis
from services.worker import TESTS, Worker

QUIET = ("--workflow-quiet", "6")
OUTCOMES = "celery_workflow_outcomes_total"

# What a worker publishes from within a task: how it ends, and of how many tasks it is, that one included.
ROOTED = {
    "start_chain": ("succeeded", 4),
    "start_failing_chain": ("failed", 3),
    "start_retried_chain": ("succeeded", 4),
    "start_group": ("succeeded", 4),
    "start_chord": ("succeeded", 5),
    "start_failing_chord": ("failed", 4),
    "start_nested": ("succeeded", 6),
    "start_replace": ("succeeded", 6),
    "start_map": ("succeeded", 2),
    "start_starmap": ("succeeded", 2),
    "start_chunks": ("succeeded", 4),
    "start_limited": ("succeeded", 3),
}
LIMITED = 1.0
"""Seconds for which a rate limit of one task in two seconds holds the second up, if that comes a second later at most;
older Celery lets it go early."""
VERSIONS = ["", "5.5.3"]
"""Of Celery; "" is that of today."""


class Canvases:
    """A worker of apps.canvases, and what observes it."""

    def __init__(self, observer: Served, worker: Worker, env: dict[str, str]) -> None:
        self.observer = observer
        self.worker = worker
        self._env = env

    def publish(self, kinds: Iterable[str]) -> None:
        """Publish canvases from a process that is no worker."""
        command = [sys.executable, "-P", "-m", "apps.canvases", *kinds]
        subprocess.run(command, env={**os.environ, **self.worker.env, **self._env}, check=True, timeout=60)

    def ended(self, count: int) -> Samples:
        """The page, once so many workflows have ended."""
        return self.observer.wait_for(lambda page: page.total(OUTCOMES) >= count, 60.0)


Start = Callable[..., Canvases]


@pytest.fixture
def observed(processes: ExitStack, tmp_path: Path) -> Start:
    """Start a worker with events, and an exporter."""

    def start(url: str, version: str = "", **conf: Any) -> Canvases:
        exporter = processes.enter_context(Exporter(tmp_path, url, arguments=QUIET))
        exporter.wait_until_ready()
        python = interpreter(version) if version else sys.executable
        worker = Worker(tmp_path, url, app="apps.canvases", pool="prefork", concurrency=4, python=python, **conf)
        return Canvases(exporter, processes.enter_context(worker), {})

    return start


@pytest.fixture
def instrumented(processes: ExitStack, tmp_path: Path) -> Start:
    """Start an instrumented worker without events, and a sidecar to which it reports."""

    def start(url: str, version: str = "", **conf: Any) -> Canvases:
        address = str(tmp_path / "s")
        sidecar = processes.enter_context(Sidecar(tmp_path, COMMAND, address, *QUIET))
        env = {"SAMPLE_INSTRUMENT": json.dumps({"sidecar": f"unix://{address}"})}
        worker = Worker(tmp_path, url, app="apps.canvases", pool="prefork", concurrency=4, events=False, **conf)
        older = packages(version) if version else None
        worker.env |= env | {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (TESTS, older))))}
        return Canvases(sidecar, processes.enter_context(worker), env)

    return start


def ended(page: Samples) -> dict[str, tuple[str, int]]:
    """By root: how its one workflow ended, and of how many tasks it was."""
    found = {}
    for (name, labels), value in page.items():
        if name == OUTCOMES and value == 1:
            told = dict(labels)
            found[told["root"]] = told["outcome"], int(page.total("celery_workflow_tasks_sum", root=told["root"]))
    return found


def seconds(page: Samples, root: str, stage: str) -> float:
    """What the critical path spent on a stage."""
    return page.total("celery_workflow_critical_path_seconds_total", root=root, stage=stage)


def assert_stages_add_up(page: Samples) -> None:
    """The critical path of each root is as long as the workflows were."""
    for root in {dict(labels)["root"] for name, labels in page if name == OUTCOMES}:
        duration = page.total("celery_workflow_duration_seconds_sum", root=root)
        path = page.total("celery_workflow_critical_path_seconds_total", root=root)
        assert path == pytest.approx(duration, abs=0.001), root


@pytest.mark.parametrize("version", VERSIONS)
def test_events_tell_of_what_began_with_a_task(observed: Start, redis_server: Redis, version: str) -> None:
    """Of each canvas that a task publishes: its end, its size, its retries and where it waited."""
    canvases = observed(redis_server.url, version)
    for root in ROOTED:
        canvases.worker.send(root)

    page = canvases.ended(len(ROOTED))

    assert ended(page) == ROOTED
    assert_stages_add_up(page)
    assert page.value("celery_workflow_retries_total", root="start_retried_chain") == 1
    assert 0.9 < seconds(page, "start_retried_chain", "scheduled") < 2.5
    assert version or seconds(page, "start_limited", "worker") > LIMITED
    assert seconds(page, "start_chord", "run") >= 0.3
    assert page.total("celery_workflow_active") == 0
    assert page.total("celery_observe_workflows_reopened_total") == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_instrumented_workers_tell_of_groups_and_chords_too(
    instrumented: Start, redis_server: Redis, version: str
) -> None:
    """And of rate limits, items and chords that fail, whatever published them."""
    canvases = instrumented(redis_server.url, version)
    for root in ROOTED:
        canvases.worker.send(root)

    page = canvases.ended(len(ROOTED))

    assert ended(page) == ROOTED
    assert_stages_add_up(page)
    assert page.value("celery_workflow_retries_total", root="start_retried_chain") == 1
    assert 0.9 < seconds(page, "start_retried_chain", "scheduled") < 2.5
    assert version or seconds(page, "start_limited", "rate_limit") > LIMITED
    assert page.value("celery_chord_errors_total", root="start_failing_chord", reason="header_failed") == 1
    assert page.total("celery_chord_waiting") == page.total("celery_chord_stalled") == 0
    assert page.value("celery_workflow_map_items_sum", task="add") == 3 + 2 + 25
    assert page.value("celery_workflow_map_items_count", task="add") == 1 + 1 + 3
    assert page.total("celery_observe_handler_errors_total") == 0


def test_what_a_client_publishes_is_whole_if_it_is_instrumented(instrumented: Start, redis_server: Redis) -> None:
    """The tasks of its groups have no root in common; their group tells that they belong together."""
    canvases = instrumented(redis_server.url)

    canvases.publish(CANVASES.keys() - {"slow_chord"})

    page = canvases.ended(10)  # a map or starmap is a task, no workflow
    tasks = {"add": 3 + 2 + 3 + 3 + 4 + 3 + 5 + 5, "celery.starmap": 3, "limited": 2}
    assert {root: page.value("celery_workflow_tasks_sum", root=root) for root in tasks} == tasks
    assert page.value(OUTCOMES, root="add", outcome="failed") == 2
    assert page.value(OUTCOMES, root="add", outcome="succeeded") == 6
    assert_stages_add_up(page)


def test_groups_and_chords_show_how_far_they_are(instrumented: Start, redis_server: Redis) -> None:
    """While they are on their way."""
    canvases = instrumented(redis_server.url)

    canvases.publish(["slow_chord"])

    page = canvases.observer.wait_for(lambda page: page.value("celery_workflow_group_tasks_ended", root="add") == 1)
    assert page.value("celery_workflow_group_tasks", root="add") == 2
    assert page.value("celery_chord_waiting", root="add") == 1
    canvases.observer.wait_for(lambda page: page.value("celery_chord_waiting", root="add") == 0)
    assert canvases.ended(1).value(OUTCOMES, root="add", outcome="succeeded") == 1


def test_a_chord_whose_results_are_gone_is_stalled(instrumented: Start, redis_server: Redis) -> None:
    """Its header has succeeded, but its body is never sent."""
    canvases = instrumented(redis_server.url)
    canvases.publish(["slow_chord"])
    canvases.observer.wait_for(lambda page: page.value("celery_workflow_group_tasks_ended", root="add") == 1)

    with redis_server.client() as client:
        client.delete(*client.keys("celery-taskset-meta-*"))

    page = canvases.observer.wait_for(lambda page: page.total("celery_chord_stalled") == 1)
    assert page.value("celery_chord_stalled", root="add", reason="body_not_sent") == 1
    assert page.value("celery_workflow_active", root="add") == 1


def test_chords_on_rabbitmq_are_polled_for(observed: Start, rabbitmq_url: str, tmp_path: Path) -> None:
    """Where the result backend cannot count, which is all that events tell of a chord before its body."""
    canvases = observed(rabbitmq_url, result_backend=f"file://{tmp_path}")
    for root in ("start_chain", "start_slow_chord", "start_replace"):
        canvases.worker.send(root)

    canvases.observer.wait_for(lambda page: page.value("celery_chord_waiting", root="start_slow_chord") == 1)

    page = canvases.ended(3)
    assert ended(page) == {
        "start_chain": ("succeeded", 4),
        "start_slow_chord": ("succeeded", 5),  # celery.chord_unlock among them
        "start_replace": ("succeeded", 6),
    }
    assert_stages_add_up(page)
    assert page.total("celery_chord_waiting") == 0
    assert page.total("celery_workflow_retries_total") == 0


@pytest.mark.parametrize("source", ["observed", "instrumented"])
def test_trace_prints_the_tree(
    source: str, request: pytest.FixtureRequest, redis_server: Redis, tmp_path: Path
) -> None:
    """With states and times, and no arguments."""
    canvases: Canvases = request.getfixturevalue(source)(redis_server.url)
    root = canvases.worker.send("start_nested")
    canvases.ended(1)
    command = [*COMMAND, "trace", root, "--url", f"http://127.0.0.1:{canvases.observer.port}"]

    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()

    assert printed[0].startswith(f"start_nested {root}: succeeded, 6 tasks, 0 open, since ")
    assert len(printed) == 7
    assert printed[1].startswith(f"`- start_nested {root[:8]} succeeded queue=celery worker={canvases.worker.node} ")
    assert printed[1].endswith("s *")
    assert printed[2].startswith("   `- add ")
    assert sum(" total " in line for line in printed) == 1
    assert "[" not in "".join(printed)
