"""Real beats, with each scheduler there is, tell what they do; and what is known of those that tell nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from services.beat import DATABASE, PERSISTENT, REDBEAT, Beat
from services.celery_versions import packages
from services.exporter import COMMAND, Exporter, Samples
from services.instrumented import Instrumented, Sidecar
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

SUM = {"task": "add", "schedule": 1.0, "args": [1, 2]}
SCHEDULE = {"sum": SUM, "yearly": {"task": "work", "schedule": 3e7, "args": [0]}}
ENTRIES = len([*SCHEDULE, "celery.backend_cleanup"])
SCHEDULERS = [
    pytest.param(PERSISTENT, id="celery"),
    pytest.param(DATABASE, id="django-celery-beat"),
    pytest.param(REDBEAT, id="redbeat"),
]
Start = Callable[..., Beat]


@pytest.fixture
def start(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Start:
    """Start an instrumented beat on the Redis of this test, which looks at its schedule each second."""

    def begin(*arguments: str, schedule: dict[str, Any] | None = None, **options: Any) -> Beat:
        given = ("--max-interval", "1", *arguments)
        return processes.enter_context(Beat(tmp_path, redis_server.url, schedule or SCHEDULE, *given, **options))

    return begin


@pytest.fixture
def worker(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Callable[..., Instrumented]:
    """Start an instrumented worker on that Redis."""
    return lambda *args, **options: processes.enter_context(
        Instrumented(tmp_path, redis_server.url, *args, pool="solo", **options)
    )


@pytest.fixture
def sidecar(processes: ExitStack, tmp_path: Path) -> tuple[Sidecar, dict[str, str]]:
    """A sidecar, and the setting of who is to report to it."""
    address = str(tmp_path / "s")
    return processes.enter_context(Sidecar(tmp_path, COMMAND, address)), {"sidecar": f"unix://{address}"}


def sent(page: Samples, entry: str = "sum") -> float:
    """How many tasks beat has sent for an entry."""
    return page.total("celery_beat_sent_total", entry=entry)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_beat_tells_what_it_does(start: Start, worker: Callable[..., Instrumented], scheduler: str) -> None:
    """When it ticked, what it has, found due, sent and how late; its worker when that succeeded."""
    beat = start(scheduler=scheduler)
    executing = worker()

    page = beat.wait_for(lambda page: sent(page) >= 3 and page.value("celery_beat_entries") is not None, 30.0)

    assert page.value("celery_beat_entries") == ENTRIES
    assert page.value("celery_beat_instances") == 1
    assert page.value("celery_beat_max_interval_seconds") == 1.0
    assert 0 <= time.time() - page.total("celery_beat_last_tick_timestamp_seconds") < 4.0
    assert page.value("celery_beat_due_total", entry="sum") - sent(page) in {0, 1}  # type: ignore[operator]
    assert page.total("celery_beat_publish_failures_total") == sent(page, "yearly") == 0
    assert page.value("celery_beat_lateness_seconds_count", entry="sum") >= 2  # type: ignore[operator]
    assert page.total("celery_beat_lateness_seconds_sum") < page.total("celery_beat_lateness_seconds_count")
    assert page.total("celery_observe_handler_errors_total") == 0
    before = time.time()
    executing.wait_for(lambda page: page.total("celery_beat_last_success_timestamp_seconds", entry="sum") >= before)
    assert beat.get("/healthz")[0] == 200
    assert beat.terminate() == 0
    assert "Traceback" not in beat.output


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_publish_that_fails_is_counted(
    start: Start, start_redis: Callable[..., Redis], redis_server: Redis, scheduler: str
) -> None:
    """Of which Celery tells its log only; and beat goes on by itself once the broker is back."""
    policy = {"task_publish_retry_policy": {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.1}}
    beat = start(scheduler=scheduler, redbeat_redis_url=start_redis().url, **policy)
    beat.wait_for(lambda page: sent(page) >= 1, 30.0)

    redis_server.kill()
    page = beat.wait_for(lambda page: page.total("celery_beat_publish_failures_total", entry="sum") >= 2, 40.0)
    redis_server.start()

    assert page.total("celery_beat_due_total") >= sent(page) + 2
    assert page.total("celery_beat_publish_failures_total", entry="yearly") == 0
    assert "refused" in beat.output
    before = sent(page)
    beat.wait_for(lambda page: sent(page) > before, 30.0)
    assert beat.get("/healthz")[0] == 200


def test_a_publish_that_is_refused_is_counted(start: Start, redis_server: Redis) -> None:
    """The broker is there, and takes no more."""
    beat = start()
    beat.wait_for(lambda page: sent(page) >= 1, 30.0)

    with redis_server.client() as client:
        client.config_set("maxmemory", "1")

    beat.wait_for(lambda page: page.total("celery_beat_publish_failures_total", entry="sum") >= 2, 30.0)


def test_what_was_missed_is_late(start: Start) -> None:
    """Beat was away, and remembers when it sent last."""
    beat = start(schedule={"sum": {**SUM, "schedule": 3.0}})
    beat.wait_for(lambda page: sent(page) >= 1, 30.0)
    beat.stop()
    stopped = time.monotonic()
    eventually(lambda: time.monotonic() - stopped > 5.0)

    beat.start()

    page = beat.wait_for(lambda page: sent(page) >= 1, 30.0)
    assert page.total("celery_beat_lateness_seconds_sum", entry="sum") > 2.0


def test_two_at_once_are_two(start: Start, sidecar: tuple[Sidecar, dict[str, str]]) -> None:
    """To whom both report; and one again as soon as one of them leaves."""
    page, setting = sidecar
    first, second = (start(instrument=setting) for _ in range(2))

    page.wait_for(lambda page: page.value("celery_beat_instances") == 2)
    assert first.terminate() == 0

    page.wait_for(lambda page: page.value("celery_beat_instances") == 1, 5.0)
    second.kill()
    page.wait_for(lambda page: page.value("celery_beat_instances") == 0)


def test_two_pages_add_up_to_two(start: Start) -> None:
    """Where each serves itself, as the shipped rule has it."""
    beats = [start(), start()]

    eventually(lambda: sum(beat.metrics().total("celery_beat_instances") for beat in beats) == 2)


def test_a_redbeat_that_waits_for_the_lock_is_none(start: Start, sidecar: tuple[Sidecar, dict[str, str]]) -> None:
    """It takes over when the other leaves, and is alive all the time."""
    page, setting = sidecar
    first = start(scheduler=REDBEAT, instrument=setting)
    page.wait_for(lambda page: page.value("celery_beat_instances") == 1)
    second = start(scheduler=REDBEAT)

    assert second.get("/healthz")[0] == second.get("/readyz")[0] == 200
    assert second.metrics().value("celery_beat_instances") is None
    assert first.terminate() == 0

    second.wait_for(lambda page: page.value("celery_beat_instances") == 1)
    page.wait_for(lambda page: page.value("celery_beat_instances") == 0)


def test_a_beat_inside_a_worker_serves_beside_it(worker: Callable[..., Instrumented], tmp_path: Path) -> None:
    """`worker --beat` forks it."""
    executing = worker("--beat", "--schedule", str(tmp_path / "schedule"), beat_schedule=SCHEDULE)
    executing.wait_for(lambda page: page.total("celery_beat_last_success_timestamp_seconds", entry="sum") > 0)
    node, executing.port = executing.node, executing.port + 1

    page = executing.wait_for(lambda page: sent(page) >= 2)

    assert page.value("celery_beat_instances") == 1
    assert page.value("celery_worker_up", worker=node) is None
    assert executing.terminate() == 0
    assert "Traceback" not in executing.output


def test_a_beat_inside_a_worker_reports_to_its_sidecar(
    worker: Callable[..., Instrumented], sidecar: tuple[Sidecar, dict[str, str]], tmp_path: Path
) -> None:
    """So that one page has both."""
    page, setting = sidecar
    executing = worker("--beat", "--schedule", str(tmp_path / "schedule"), beat_schedule=SCHEDULE, instrument=setting)

    page.wait_for(lambda page: page.total("celery_beat_last_success_timestamp_seconds", entry="sum") > 0)
    page.wait_for(lambda page: page.value("celery_beat_instances") == 1)
    page.wait_for(lambda page: page.value("celery_worker_up", worker=executing.node) == 1)


@pytest.mark.parametrize("version", ["5.5.3", "5.6.3"])
def test_beats_of_older_celery_tell_the_same(start: Start, worker: Callable[..., Instrumented], version: str) -> None:
    """None of it needs what 5.7 added."""
    beat = start(packages=packages(version))
    executing = worker()

    page = beat.wait_for(lambda page: sent(page) >= 2, 30.0)

    assert page.value("celery_beat_entries") == ENTRIES
    assert page.value("celery_beat_instances") == 1
    executing.wait_for(lambda page: page.total("celery_beat_last_success_timestamp_seconds", entry="sum") > 0)
    assert beat.terminate() == 0


# -- beats that are not instrumented


@pytest.mark.parametrize(("version", "told"), [(None, True), ("5.6.3", False)])
def test_a_worker_knows_entries_by_the_header_of_5_7(
    start: Start, worker: Callable[..., Instrumented], version: str | None, *, told: bool
) -> None:
    """Where one entry alone names the task."""
    schedule = {**SCHEDULE, "again": {**SUM, "task": "retry"}, "and again": {**SUM, "task": "retry"}}
    start(app="apps.sample", schedule=schedule, packages=packages(version) if version else None)
    executing = worker(beat_schedule=schedule)

    page = executing.wait_for(
        lambda page: all(
            page.total("celery_task_outcomes_total", task=task, outcome="succeeded") > 1 for task in ("add", "retry")
        ),
        40.0,
    )

    told_of = {dict(labels)["entry"] for name, labels in page if name == "celery_beat_last_success_timestamp_seconds"}
    assert told_of == ({"sum"} if told else set())


def test_a_worker_knows_entries_by_the_header_of_django_celery_beat(
    start: Start, worker: Callable[..., Instrumented]
) -> None:
    """Whatever the version of Celery."""
    start(app="apps.sample", scheduler=DATABASE)

    executing = worker()

    executing.wait_for(lambda page: page.total("celery_beat_last_success_timestamp_seconds", entry="sum") > 0, 30.0)


def test_the_exporter_notes_successes_of_configured_tasks(
    start: Start, celery_worker: Callable[..., Worker], exporter: Callable[..., Exporter], redis_server: Redis
) -> None:
    """From events alone, with the app's schedule."""
    environment = {"SAMPLE_BROKER": redis_server.url, "SAMPLE_CONF": json.dumps({"beat_schedule": SCHEDULE})}
    tests = str(Path(__file__).parents[1])
    page = exporter(arguments=("--app", "apps.sample"), env={**environment, "PYTHONPATH": tests})
    page.wait_until_ready()
    celery_worker(redis_server.url)
    start(app="apps.sample")

    before = time.time()

    page.wait_for(lambda page: page.total("celery_beat_last_success_timestamp_seconds", entry="sum") > before, 30.0)


def test_the_exporter_counts_beats_that_answer(
    start: Start, exporter: Callable[..., Exporter], redis_server: Redis, celery_worker: Callable[..., Worker]
) -> None:
    """From 5.7 on, with remote control; two of one host too, and none is known to be none only after there was one."""
    page = exporter(redis_server.url, arguments=("--inspect-interval", "0.2"))
    page.wait_until_ready()
    celery_worker(redis_server.url)
    page.wait_for(lambda page: page.total("celery_observe_plugin_up", plugin="beat.ping") == 1)
    nobody = page.metrics().value("celery_beat_instances")

    beats = [start(app="apps.sample", beat_enable_remote_control=True) for _ in range(2)]
    page.wait_for(lambda page: page.value("celery_beat_instances") == 2)
    for beat in beats:
        beat.kill()

    page.wait_for(lambda page: page.value("celery_beat_instances") == 0)
    assert nobody is None
