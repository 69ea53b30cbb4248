"""What only instrumented workers tell, told by real ones: of the tasks that execute, and beside an exporter."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from celery_observe import instrument
from services.exporter import COMMAND, Exporter, Samples
from services.instrumented import Instrumented, Sidecar
from services.redis import Redis

OUTCOMES = "celery_task_outcomes_total"
LABELLED = "celery_task_labelled_outcomes_total"
SLACK = 0.1
"""Seconds by which times of different clocks may differ."""
Start = Callable[..., Instrumented]

on_processes_and_threads = pytest.mark.parametrize("pool", ["prefork", "threads"])


@pytest.fixture(autouse=True)
def stamping() -> None:
    """This process publishes, so it is instrumented too."""
    instrument()


@pytest.fixture
def start(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Start:
    """Start an instrumented worker on the Redis of this test, which also keeps results."""

    def start(*arguments: str, **options: Any) -> Instrumented:
        results = {"result_backend": redis_server.url, "task_ignore_result": False}
        return processes.enter_context(Instrumented(tmp_path, redis_server.url, *arguments, **{**results, **options}))

    return start


def outcome(page: Samples, task: str, outcome: str) -> float:
    """How many attempts of a task ended so."""
    return page.total(OUTCOMES, task=task, outcome=outcome)


def runtime(page: Samples, task: str) -> float:
    """For how many seconds attempts of a task ran, all together."""
    return page.total("celery_task_runtime_seconds_sum", task=task)


# -- states and progress


@on_processes_and_threads
def test_states_and_progress_show_while_the_task_runs_and_their_time_when_it_has_ended(start: Start, pool: str) -> None:
    """A task says what it does by `update_state`; of its meta only step and total are looked at."""
    worker = start(pool=pool)
    worker.send("charge", 3.0)

    during = worker.wait_for(lambda page: page.value("celery_task_in_state", task="charge", state="CHARGING") == 1)
    after = worker.wait_for(lambda page: outcome(page, "charge", "succeeded") == 1)
    idle = worker.wait_for(lambda page: page.value("celery_task_in_state", task="charge", state="CHARGING") == 0)

    assert during.value("celery_task_progress_ratio", task="charge") == 0.75
    assert during.total("celery_task_progress_age_seconds", task="charge") < 10.0
    spent = {state: after.total("celery_task_state_seconds_sum", state=state) for state in ("VALIDATING", "CHARGING")}
    assert spent["VALIDATING"] > 0.1
    assert spent["CHARGING"] > 2.6
    assert sum(spent.values()) <= runtime(after, "charge")
    assert after.total("celery_task_state_seconds_count", task="charge", queue="celery") == 2
    assert idle.value("celery_task_progress_ratio", task="charge") is None
    assert "4111 1111" not in worker.get("/metrics")[1]


def test_the_time_in_a_state_is_known_of_a_task_that_was_killed_in_it(start: Start) -> None:
    """Its child can tell no more; it has told when it went over."""
    worker = start(pool="prefork")
    doomed = worker.send("charge", 60.0)
    worker.wait_for(lambda page: page.value("celery_task_in_state", task="charge", state="CHARGING") == 1)

    worker.control.revoke(doomed, terminate=True)
    page = worker.wait_for(lambda page: outcome(page, "charge", "terminated") == 1)

    assert page.total("celery_task_state_seconds_count", state="VALIDATING") == 1
    assert 0.0 < page.total("celery_task_state_seconds_sum", state="CHARGING") < 10.0


# -- waiting for other tasks


@on_processes_and_threads
def test_tasks_that_block_on_others_show_and_so_does_their_time(start: Start, pool: str) -> None:
    """What can bring a worker to a stop when all its slots do so."""
    worker = start(pool=pool, concurrency=2)
    worker.send("ask", 3.0)

    worker.wait_for(lambda page: page.value("celery_task_blocked", task="ask") == 1)
    page = worker.wait_for(lambda page: outcome(page, "ask", "succeeded") == 1)

    assert page.value("celery_task_blocked_seconds_count", task="ask", queue="celery") == 1
    assert 2.8 < page.total("celery_task_blocked_seconds_sum", task="ask") <= runtime(page, "ask")
    worker.wait_for(lambda page: page.value("celery_task_blocked", task="ask") == 0)
    assert page.total("celery_task_blocked_seconds_count", task="work") == 0


def test_waiting_for_a_group_is_one_wait(start: Start) -> None:
    """And waiting where Celery forbids it fails as it does without us."""
    worker = start(pool="prefork", concurrency=3)
    worker.send("ask_many", 1.0)
    worker.send("ask_wrongly")

    page = worker.wait_for(
        lambda page: outcome(page, "ask_many", "succeeded") == outcome(page, "ask_wrongly", "failed") == 1
    )

    assert page.total("celery_task_blocked_seconds_count", task="ask_many") == 1
    assert 0.9 < page.total("celery_task_blocked_seconds_sum", task="ask_many") <= runtime(page, "ask_many")
    assert page.value("celery_task_failures_total", task="ask_wrongly", exception="RuntimeError") == 1


# -- users' labels


@on_processes_and_threads
def test_users_label_tasks_within_bounds(start: Start, pool: str) -> None:
    """By a callable: what it raises, and values too many, are counted and still add up to all attempts."""
    worker = start(pool=pool, instrument={"label_names": ["tenant"], "label_values": 2})
    for tenant in ("acme", "acme", "umbrella", "initech", "hooli"):
        worker.send("serve", kwargs={"tenant": tenant})
        worker.wait_for(lambda page: page.total(LABELLED) == page.total(OUTCOMES) > 0)
    worker.send("add", 1, 2)  # of which the callable raises a KeyError

    page = worker.wait_for(lambda page: page.total(LABELLED) == page.total(OUTCOMES) == 6)

    served = {
        dict(pairs)["tenant"]: page[name, pairs]
        for name, pairs in page
        if name == LABELLED and ("task", "serve") in pairs
    }
    assert served == {"acme": 2, "umbrella": 1, "__other__": 2}
    assert page.value(LABELLED, task="add", tenant="unknown", outcome="succeeded") == 1
    assert page.value("celery_observe_label_overflow_total", label="tenant") == 2
    assert page.total("celery_task_labelled_runtime_seconds_count", tenant="acme") == 2
    assert page.value("celery_observe_plugin_errors_total", plugin="labels") == 1
    assert page.value("celery_observe_plugin_duration_seconds_count", plugin="labels") == 6
    assert page.total("celery_observe_handler_errors_total") == 0
    assert "nobody asked" not in worker.get("/metrics")[1]


def test_a_sidecar_tells_users_labels_too_of_killed_tasks_as_well(
    start: Start, processes: ExitStack, tmp_path: Path
) -> None:
    """Whose tasks kill workers is what one wants to know most."""
    address = str(tmp_path / "s")
    sidecar = processes.enter_context(Sidecar(tmp_path, COMMAND, address, "--label-names", "tenant"))
    worker = start(pool="prefork", instrument={"sidecar": f"unix://{address}", "label_names": ["tenant"]})
    worker.send("serve", kwargs={"tenant": "acme"})
    worker.send("serve", kwargs={"tenant": "umbrella", "die": True})

    sidecar.wait_for(lambda page: page.value(LABELLED, tenant="acme", outcome="succeeded") == 1)
    sidecar.wait_for(lambda page: page.value(LABELLED, tenant="umbrella", outcome="failed") == 1)


# -- attempts


def test_a_retry_waits_from_its_own_publish(start: Start) -> None:
    """The stamp of the attempt before it is overwritten, and the first is kept for the whole."""
    worker = start(pool="prefork")
    worker.send("persist", 2.0)

    page = worker.wait_for(
        lambda page: outcome(page, "persist", "retried") == outcome(page, "persist", "succeeded") == 1
    )

    assert page.value("celery_task_queue_wait_seconds_count", task="persist") == 2
    waited = page.total("celery_task_queue_wait_seconds_sum", task="persist")
    assert runtime(page, "persist") >= 2.0
    assert waited + runtime(page, "persist") <= page.total("celery_task_total_seconds_sum", task="persist") + SLACK


def test_a_task_that_is_executed_twice_is_counted_as_such(start: Start) -> None:
    """Redis delivers again what was not acknowledged within the visibility timeout."""
    again = {"visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    worker = start(pool="prefork", concurrency=2, broker_transport_options=again)
    worker.send("linger", 4.0)

    page = worker.wait_for(
        lambda page: page.total("celery_task_duplicate_executions_total", task="linger", queue="celery") >= 1, 40.0
    )

    assert page.total("celery_task_started_total", task="linger") >= 2
    assert page.total("celery_task_redeliveries_total", task="linger") >= 1
    assert outcome(page, "linger", "succeeded") == 1


def test_resources_are_those_of_the_thread_where_threads_execute(start: Start) -> None:
    """Two tasks at once share a process; each has its own CPU time."""
    worker = start(pool="threads", concurrency=2, instrument={"resource": True})
    worker.send("spin", 0.5)
    worker.send("work", 1.0)

    page = worker.wait_for(lambda page: outcome(page, "spin", "succeeded") == outcome(page, "work", "succeeded") == 1)

    assert 0.5 <= page.total("celery_task_cpu_seconds_sum", task="spin") < 0.8
    assert page.total("celery_task_cpu_seconds_sum", task="work") < 0.1
    assert page.total("celery_task_peak_memory_bytes_count") == 2


def test_children_are_counted_when_they_come_and_by_why_they_go(start: Start) -> None:
    """Replaced, dead by themselves, killed, and let go by an autoscaler, which terminates them: that is no crash."""
    worker = start("--autoscale=3,1", "--max-tasks-per-child=2", pool="prefork", env={"AUTOSCALE_KEEPALIVE": "1"})

    def gone(page: Samples, *reasons: str) -> list[float]:
        return [page.total("celery_worker_child_exits_total", reason=reason) for reason in reasons]

    for task in ("exit_process", "kill_self"):
        worker.send(task)

    def all_are_gone(page: Samples) -> bool:
        worker.send("ignore")  # of which one child must have two: which child takes a task is chance
        return all(gone(page, "recycled", "failed", "sigkill"))

    worker.wait_for(all_are_gone, 30.0)
    for _ in range(3):
        worker.send("work", 2.0)

    def is_settled(page: Samples) -> bool:
        each = gone(page, "recycled", "failed", "sigkill", "shrunk")
        return all(each) and page.total("celery_worker_children_total") == sum(each) + 1

    page = worker.wait_for(is_settled, 30.0)

    # One at least: what a child dies of before Celery has read that it began, another is given to execute again.
    for reason, words in (("failed", "exitcode 3"), ("sigkill", "signal 9 (SIGKILL)")):
        ended = worker.output.count(f"exited with '{words}'")
        assert page.total("celery_worker_child_exits_total", reason=reason) == ended >= 1


# -- never both


def test_an_exporter_and_a_worker_beside_it_tell_each_thing_once(
    start: Start, exporter: Callable[..., Exporter], redis_server: Redis
) -> None:
    """`families="process"` is for workers whose events an exporter counts."""
    counting = exporter(redis_server.url)
    worker = start(pool="prefork", events=True, instrument={"families": "process", "resource": True})
    counting.wait_until_ready()
    for _ in range(10):
        worker.send("add", 1, 2)
    worker.send("charge", 0.5)

    outside = counting.wait_for(lambda page: outcome(page, "charge", "succeeded") == 1)
    inside = worker.wait_for(lambda page: page.total("celery_task_state_seconds_count", task="charge") == 2)

    assert outcome(outside, "add", "succeeded") + outcome(inside, "add", "succeeded") == 10
    assert inside.total("celery_task_cpu_seconds_count") == 11
    assert inside.total("celery_worker_children_total") >= 2
    shared = {name for name, _ in outside} & {name for name, _ in inside}
    assert {name for name in shared if name.startswith("celery_") and not name.startswith("celery_observe_")} == set()
