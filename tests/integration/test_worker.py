"""Instrumented workers of every pool tell what happened, each thing once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from celery_observe import instrument
from services.exporter import COMMAND, Samples
from services.instrumented import Instrumented, Sidecar
from services.redis import Redis
from services.waiting import eventually

OUTCOMES = "celery_task_outcomes_total"
AT_ONCE = 1.0
"""Seconds in which a probe that runs a command wants its answer."""
TRIES = 20
Start = Callable[..., Instrumented]


@pytest.fixture(autouse=True)
def stamping() -> None:
    """This process publishes, so it is instrumented too."""
    instrument()


@pytest.fixture
def start(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Start:
    """Start an instrumented worker on the Redis of this test."""
    return lambda *args, **options: processes.enter_context(Instrumented(tmp_path, redis_server.url, *args, **options))


@pytest.fixture
def sidecar(processes: ExitStack, tmp_path: Path) -> tuple[Sidecar, str]:
    """A sidecar, and the address at which it listens."""
    address = str(tmp_path / "s")
    return processes.enter_context(Sidecar(tmp_path, COMMAND, address)), address


def outcome(page: Samples, task: str, outcome: str) -> float:
    """How many attempts of a task ended so."""
    return page.total(OUTCOMES, task=task, outcome=outcome)


def pools() -> list[Any]:
    """All pools that are installed."""
    return [
        "prefork",
        "threads",
        "solo",
        pytest.param("gevent", marks=pytest.mark.skipif(not installed("gevent"), reason="gevent is not installed")),
        pytest.param(
            "eventlet", marks=pytest.mark.skipif(not installed("eventlet"), reason="eventlet is not installed")
        ),
    ]


def installed(module: str) -> bool:
    """Whether this Python has a module."""
    return subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


EVERYWHERE = {
    ("add", "succeeded"): 2,  # one of them is what `replace` was replaced by
    ("fail", "failed"): 1,
    ("retry", "retried"): 1,
    ("retry", "succeeded"): 1,
    ("give_up", "retried"): 1,
    ("give_up", "failed"): 1,
    ("ignore", "ignored"): 1,
    ("replace", "replaced"): 1,
    ("reject", "rejected"): 1,
    ("reject_once", "rejected"): 1,
    ("reject_once", "succeeded"): 1,
    ("gone", "unregistered"): 1,
}


@pytest.mark.parametrize("pool", pools())
def test_each_attempt_has_its_outcome(start: Start, pool: str) -> None:
    """Those that Celery's events leave out among them; all that the worker accepted was seen."""
    worker = start(pool=pool)
    for task in ("fail", "retry", "give_up", "ignore", "replace", "reject", "reject_once", "gone"):
        worker.send(task, priority=3)
    worker.send("add", 1, 2)

    page = worker.wait_for(lambda page: all(outcome(page, *key) == count for key, count in EVERYWHERE.items()), 30.0)

    ended = {
        (labels["task"], labels["outcome"]): value
        for name, pairs in page
        if name == OUTCOMES and (value := page[name, pairs]) and (labels := dict(pairs))
    }
    assert ended == EVERYWHERE
    assert page.total("celery_task_started_total") == page.total("celery_task_queue_wait_seconds_count") == 12
    worker.wait_for(lambda page: page.total("celery_task_received_priority_total", queue="celery", priority="3") >= 8)
    assert (
        page.value("celery_task_failures_total", task="give_up", cause="retries_exhausted", exception="KeyError") == 1
    )
    worker.wait_for(lambda page: page.value("celery_worker_processed_total", worker=worker.node) == 12)
    assert worker.metrics().total("celery_observe_tasks_unobserved_total") == 0
    assert worker.metrics().total("celery_observe_handler_errors_total") == 0


@pytest.mark.parametrize("pool", pools())
def test_what_runs_is_known_while_it_runs(start: Start, pool: str) -> None:
    """And that it has ended, when it has."""
    worker = start(pool=pool)
    worker.send("work", 4.0)

    worker.wait_for(lambda page: page.value("celery_task_running", task="work") == 1)
    page = worker.wait_for(lambda page: outcome(page, "work", "succeeded") == 1)

    assert page.value("celery_task_running", task="work") in {0, 1}
    worker.wait_for(lambda page: page.value("celery_task_running", task="work") == 0)
    assert 4.0 <= page.total("celery_task_runtime_seconds_sum", task="work") < 6.0


@pytest.mark.parametrize("pool", pools())
def test_probes_answer_while_a_task_hogs_the_interpreter(start: Start, pool: str) -> None:
    """Also where tasks are greenlets: ours is a thread of the operating system."""
    worker = start(pool=pool)
    worker.send("spin", 3.0)
    worker.wait_output("Task spin[")

    slowest = 0.0
    for _ in range(10):
        asked = time.monotonic()
        assert worker.get("/healthz")[0] == 200
        slowest = max(slowest, time.monotonic() - asked)

    assert slowest < 2.0
    worker.wait_for(lambda page: outcome(page, "spin", "succeeded") == 1)


@pytest.mark.parametrize("pool", pools())
def test_tasks_may_run_event_loops(start: Start, pool: str) -> None:
    """Ours is in nobody's way."""
    worker = start(pool=pool)

    worker.send("run_loop")

    worker.wait_for(lambda page: outcome(page, "run_loop", "succeeded") == 1)


@pytest.mark.parametrize("pool", pools())
def test_a_worker_ends_as_it_would_without_us(start: Start, pool: str) -> None:
    """In time, with its exit code, after its last task was told of."""
    worker = start(pool=pool)
    worker.send("work", 3.0)
    worker.wait_for(lambda page: page.total("celery_task_running", task="work") == 1)

    began = time.monotonic()

    assert worker.terminate() == 0
    assert time.monotonic() - began < 10.0
    assert "Traceback" not in worker.output


def test_killed_children_are_closed_from_the_main_process(start: Start) -> None:
    """By whatever ended them: a time limit, a signal, their own exit, a revoke."""
    worker = start(pool="prefork")
    for task in ("hard_limit", "soft_limit", "kill_self", "kill_self_once", "exit_process"):
        worker.send(task)
    doomed = worker.send("work", 60.0)
    worker.wait_for(lambda page: page.value("celery_task_running", task="work") == 1, 30.0)
    worker.control.revoke(doomed, terminate=True)

    expected = {
        ("hard_limit", "failed"): 1,
        ("soft_limit", "failed"): 1,
        ("kill_self", "failed"): 1,
        ("kill_self_once", "rejected"): 1,
        ("kill_self_once", "succeeded"): 1,
        ("exit_process", "failed"): 1,
        ("work", "terminated"): 1,
    }
    worker.wait_for(lambda page: all(outcome(page, *key) == count for key, count in expected.items()), 30.0)
    page = worker.wait_for(lambda page: page.total("celery_task_running") == 0)

    assert page.total(OUTCOMES) == 7
    causes = {
        ("hard_limit", "hard_time_limit", "TimeLimitExceeded"),
        ("soft_limit", "soft_time_limit", "SoftTimeLimitExceeded"),
        ("kill_self", "oom_or_signal", "WorkerLostError"),
        ("exit_process", "worker_lost", "WorkerLostError"),
    }
    for task, cause, exception in causes:
        assert page.value("celery_task_failures_total", task=task, cause=cause, exception=exception) == 1
    # Three at least: what a child dies of before Celery has read that it began, another is given to execute again.
    killed = worker.output.count("exited with 'signal 9 (SIGKILL)'")
    assert page.total("celery_worker_child_exits_total", reason="sigkill") == killed >= 3
    assert page.total("celery_task_redeliveries_total", task="kill_self_once") == 1


def descriptors_of(worker: Instrumented) -> int:
    """How many files and sockets its main process has open."""
    return len(list(Path(f"/proc/{worker.pid}/fd").iterdir()))


def test_children_that_live_for_one_task_leave_nothing(start: Start) -> None:
    """No file, no descriptor, no thread and no series more than before."""
    worker = start("--max-tasks-per-child=1", pool="prefork", concurrency=2)

    def after(sent: int, more: int) -> tuple[int, int]:
        """How many series and descriptors there are once more children have executed a task each, and are replaced."""
        for _ in range(more):
            worker.send("add", 1, 2)
        gone = sent + more

        def are_replaced(page: Samples) -> bool:
            return (
                outcome(page, "add", "succeeded") == page.value("celery_task_started_total", task="add") == gone
                and page.total("celery_worker_child_exits_total", reason="recycled") == gone
                and page.total("celery_worker_children_total") == gone + 2
            )

        page = worker.wait_for(are_replaced, 60.0)
        assert page.total("celery_observe_reports_dropped_total") == 0
        return len(page), descriptors_of(worker)

    series, descriptors = after(0, 12)
    more_series, more_descriptors = after(12, 60)

    assert more_series <= series + 4  # what ran when it was listed
    assert more_descriptors <= descriptors + 2


def test_children_of_an_autoscaled_pool_report_too(start: Start) -> None:
    """Those that were forked beside our threads."""
    worker = start("--autoscale=4,1", pool="prefork")
    for _ in range(4):
        worker.send("work", 3.0)

    worker.wait_for(lambda page: page.value("celery_worker_slots", worker=worker.node) == 4)
    worker.wait_for(lambda page: outcome(page, "work", "succeeded") == 4, 30.0)


def test_a_connection_ends_for_children_too(start: Start) -> None:
    """A child forked while a client is connected does not keep that connection open."""
    worker = start("--max-tasks-per-child=1", pool="prefork", concurrency=1)
    began = time.monotonic()

    for _ in range(5):
        worker.send("add", 1, 2)
        assert worker.get("/metrics", Connection="close")[0] == 200

    assert time.monotonic() - began < 10.0


def test_rate_limits_are_read_from_the_worker(start: Start) -> None:
    """Those of the task, and those set at run time; and how many wait."""
    worker = start(pool="prefork")
    for _ in range(4):
        worker.send("limited")

    page = worker.wait_for(lambda page: page.total("celery_worker_rate_limited", task="limited") == 3)
    worker.control.rate_limit("limited", "100/s", destination=[worker.node])

    assert page.total("celery_worker_rate_limit", task="limited") == pytest.approx(0.1)
    worker.wait_for(lambda page: page.total("celery_worker_rate_limit", task="limited") == pytest.approx(100))


def test_what_a_worker_holds_is_read_from_it(start: Start) -> None:
    """Reserved, scheduled, prefetch, slots and memory, without a broadcast."""
    worker = start(pool="prefork", concurrency=1)
    worker.send("work", 4.0)
    worker.send("add", 1, 2)
    worker.send("add", 1, 2, countdown=60)

    page = worker.wait_for(
        lambda page: page.total("celery_worker_reserved") == page.total("celery_worker_scheduled") == 1
    )

    assert page.value("celery_worker_slots", worker=worker.node) == 1
    assert page.value("celery_worker_prefetch", worker=worker.node) == 5
    assert page.value("celery_worker_connected", worker=worker.node) == 1
    resident = page.total("celery_worker_resident_memory_bytes")
    assert 20_000_000 < page.total("celery_worker_children_resident_memory_bytes") < 2 * resident < 2_000_000_000


def test_a_lost_broker_shows_and_the_worker_is_still_alive(start: Start, redis_server: Redis) -> None:
    """Ready it is not; a restart would not help."""
    worker = start(pool="prefork")
    redis_server.kill()

    eventually(lambda: worker.readiness()[0] == 503)
    assert worker.readiness()[1]["reasons"] == [f"{worker.node}: not connected to the broker"]
    assert worker.get("/healthz")[0] == 200
    redis_server.start()
    worker.wait_until_ready(30.0)

    page = worker.wait_for(lambda page: page.value("celery_worker_consumer_restarts_total", worker=worker.node) == 1)
    assert page.value("celery_worker_up", worker=worker.node) == 1
    assert page.total("celery_worker_exits_total") == 0


def test_a_worker_that_consumes_nothing_is_not_ready(start: Start) -> None:
    """It was told to cancel its consumer."""
    worker = start(pool="prefork")

    worker.control.cancel_consumer("celery", destination=[worker.node])

    eventually(lambda: worker.readiness()[0] == 503)
    assert worker.readiness()[1]["reasons"] == [f"{worker.node}: consumes no queue"]


def test_resources_are_measured_if_asked_for(start: Start) -> None:
    """CPU seconds and the memory that the child had grown to."""
    worker = start(pool="prefork", concurrency=1, instrument={"resource": True})
    worker.send("spin", 0.5)
    worker.send("grow", 200)

    page = worker.wait_for(lambda page: outcome(page, "grow", "succeeded") == 1)

    assert 0.5 <= page.total("celery_task_cpu_seconds_sum", task="spin") < 0.8
    assert page.total("celery_task_peak_memory_bytes_sum", task="grow") > 200 * 1024 * 1024


def test_what_workers_publish_is_counted(start: Start) -> None:
    """And how long it took."""
    worker = start(pool="prefork")
    worker.send("pass_on")

    page = worker.wait_for(lambda page: outcome(page, "add", "succeeded") == 1)

    assert page.value("celery_task_published_total", task="add", queue="celery") == 1
    assert page.value("celery_task_publish_seconds_count", task="add", queue="celery") == 1


def test_eager_calls_are_not_counted(start: Start) -> None:
    """They have no message, and the worker does not count them either."""
    worker = start(pool="prefork")
    worker.send("call_eagerly")

    page = worker.wait_for(lambda page: outcome(page, "call_eagerly", "succeeded") == 1)

    assert outcome(page, "add", "succeeded") == 0
    assert page.total("celery_task_started_total") == 1


def test_the_switch_works_at_run_time(start: Start) -> None:
    """In children that exist already."""
    worker = start(pool="prefork", concurrency=2)

    def turn(switch: str) -> Any:
        return worker.control.broadcast("celery_observe", {"switch": switch}, reply=True, destination=[worker.node])

    assert turn("off") == [{worker.node: {"ok": "celery_observe is off"}}]
    task = worker.send("add", 1, 2)
    worker.wait_output(f"[{task}] succeeded")
    turn("on")
    worker.send("add", 1, 2)

    page = worker.wait_for(lambda page: page.total("celery_task_received_total", task="add") >= 1)
    page = worker.wait_for(lambda page: outcome(page, "add", "succeeded") >= 1)
    assert page.value("celery_task_received_total", task="add", queue="celery") == 1
    assert page.total("celery_task_started_total", task="add") == 1
    assert outcome(page, "add", "succeeded") == 1


def test_the_environment_turns_it_off(start: Start) -> None:
    """Nothing listens."""
    worker = start(pool="prefork", env={"CELERY_OBSERVE_DISABLED": "1"})

    task = worker.send("add", 1, 2)

    worker.wait_output(f"[{task}] succeeded")
    assert not worker.is_ready()


def test_only_what_events_cannot_tell_is_served(start: Start) -> None:
    """Where an exporter counts the life cycle already."""
    worker = start(pool="prefork", instrument={"families": "process", "resource": True})
    worker.send("add", 1, 2)

    page = worker.wait_for(lambda page: page.total("celery_task_cpu_seconds_count", task="add") == 1)

    names = {name for name, _ in page}
    assert not names & {OUTCOMES, "celery_task_started_total", "celery_worker_up", "celery_worker_processed_total"}
    assert {"celery_worker_children_total", "celery_observe_stream_up"} <= names


def test_workers_of_one_host_take_the_next_port(start: Start) -> None:
    """And say so."""
    first = start(pool="solo")
    second = start(pool="solo", instrument={"port": first.port})

    second.wait_output(f":{first.port + 1}/metrics")
    first.send("add", 1, 2)
    first.send("add", 1, 2)
    pages = [first, second]
    second.port = first.port + 1

    eventually(lambda: sum(outcome(page.metrics(), "add", "succeeded") for page in pages) == 2)
    names = [page.metrics().value("celery_worker_up", worker=page.node) for page in pages]
    assert names == [1, 1]


def test_the_import_alone_instruments(start: Start, free_port: int) -> None:
    """`imports = ["celery_observe.worker"]`, and the environment for the rest."""
    worker = start(
        app="apps.sample",
        pool="prefork",
        imports=["celery_observe.worker"],
        instrument={"port": free_port},
        env={"CELERY_OBSERVE_PORT": str(free_port)},
    )
    worker.send("add", 1, 2)

    worker.wait_for(lambda page: outcome(page, "add", "succeeded") == 1)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_workers_report_to_a_sidecar(start: Start, sidecar: tuple[Sidecar, str], pool: str) -> None:
    """Which may be restarted; what could not be told meanwhile is a number."""
    page, address = sidecar
    settings = {"sidecar": f"unix://{address}"}
    workers = [start(pool=pool, instrument=settings), start(pool=pool, instrument=settings)]
    for _ in range(10):
        workers[0].send("add", 1, 2)
    page.wait_for(lambda samples: outcome(samples, "add", "succeeded") == 10)
    page.wait_for(lambda samples: samples.total("celery_worker_up") == 2)
    assert page.metrics().total("celery_observe_reports_dropped_total") == 0

    page.kill()
    workers[0].send("add", 1, 2)
    for worker in workers:
        worker.send("fail")
    eventually(lambda: sum(worker.output.count("received") for worker in workers) == 13)
    page.start()
    page.wait_for(lambda samples: samples.total("celery_worker_up") == 2)
    time.sleep(1.0)  # each child looks for it once a second
    for _ in range(10):
        workers[0].send("add", 1, 2)

    page.wait_for(lambda samples: outcome(samples, "add", "succeeded") == 10)
    page.wait_for(lambda samples: samples.total("celery_observe_reports_dropped_total") >= 1)
    assert workers[0].terminate() == 0
    page.wait_for(lambda samples: samples.value("celery_worker_up", worker=workers[0].node) == 0)


def test_what_stopped_a_worker_is_known_to_its_sidecar(start: Start, sidecar: tuple[Sidecar, str]) -> None:
    """The signal of whoever supervises it, while it waits for its tasks; or remote control."""
    page, address = sidecar
    settings = {"sidecar": f"unix://{address}"}
    by_signal = start(pool="prefork", queues=("a",), instrument=settings)
    by_command = start(pool="threads", queues=("b",), instrument=settings)
    by_signal.send("work", 4.0, queue="a")
    page.wait_for(lambda samples: samples.total("celery_task_running", task="work") == 1)

    by_signal.send_signal(signal.SIGTERM)
    by_command.control.shutdown(destination=[by_command.node])

    stops = "celery_worker_stops_total"
    page.wait_for(lambda samples: samples.value(stops, worker=by_signal.node, reason="sigterm") == 1)
    page.wait_for(lambda samples: samples.value(stops, worker=by_command.node, reason="remote_control") == 1)
    page.wait_for(lambda samples: outcome(samples, "work", "succeeded") == 1)
    page.wait_for(lambda samples: samples.total("celery_worker_up") == 0)
    assert page.metrics().total(stops) == 2


def test_a_worker_whose_sidecar_never_comes_works(start: Start, tmp_path: Path) -> None:
    """Nothing waits for it."""
    worker = start(pool="prefork", instrument={"sidecar": f"unix://{tmp_path}/nobody"})

    task = worker.send("add", 1, 2)

    worker.wait_output(f"[{task}] succeeded")
    assert worker.terminate() == 0


def health(*arguments: str) -> tuple[int, Any, float]:
    """Run `celery-observe health`: its exit code, answer and seconds."""
    began = time.monotonic()
    done = subprocess.run([*COMMAND, "health", *arguments], capture_output=True, check=False)
    return done.returncode, json.loads(done.stdout), time.monotonic() - began


def test_the_health_command_answers_for_a_worker(start: Start, redis_server: Redis) -> None:
    """By its exit code, and at once: at its best, as a machine may be busy."""
    worker = start(pool="prefork")

    answers = [health("--port", str(worker.port), "--ready")]
    while min(seconds for _, _, seconds in answers) >= AT_ONCE and len(answers) < TRIES:
        answers.append(health("--port", str(worker.port), "--ready"))
    redis_server.kill()
    eventually(lambda: health("--port", str(worker.port), "--ready")[0] == 1)

    assert {code for code, _, _ in answers} == {0}
    assert answers[0][1] == {"status": "healthy"}
    assert min(seconds for _, _, seconds in answers) < AT_ONCE
    assert health("--port", str(worker.port), "--ready")[1] == {
        "status": "unhealthy",
        "reason": f"{worker.node}: not connected to the broker",
    }
    worker.kill()
    assert health("--port", str(worker.port))[0] == 1


def test_the_health_command_answers_for_a_cluster(start: Start, redis_server: Redis) -> None:
    """With the workers that answer, and what they execute."""
    worker = start(pool="prefork")
    worker.send("work", 5.0)
    worker.wait_for(lambda page: page.total("celery_task_running", task="work") == 1)

    assert health("--broker", redis_server.url)[:2] == (
        0,
        {"status": "healthy", "workers": [worker.node], "active_tasks": 1},
    )
    worker.kill()
    assert health("--broker", redis_server.url)[:2] == (1, {"status": "unhealthy", "reason": "No active workers"})
    redis_server.kill()
    assert health("--broker", redis_server.url)[0] == 1
