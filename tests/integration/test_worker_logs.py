"""What real workers log when they are asked for logs: one entry for each point, and which task each entry is of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog

from apps.logged import PLAIN
from celery_observe import instrument
from celery_observe.worker.headers import CONTEXT
from services.instrumented import Instrumented
from services.redis import Redis
from services.waiting import eventually

pytestmark = pytest.mark.usefixtures("publishing")

POOLS = ("prefork", "threads", "solo", "gevent", "eventlet")
SECRET = "s3cret-argument"
IN_ONE_TASK = {
    "task received": 1,
    "task started": 1,
    "from structlog": 1,
    "from logging": 1,
    "from Celery's logger": 1,
    "printed": 1,
    "from async code": 1,
    "from a task of the loop": 1,
    "at last": 1,
    "task succeeded": 1,
}

Entry = dict[str, Any]


class Logging(Instrumented):
    """A worker that logs, and what it has logged."""

    @property
    def entries(self) -> list[Entry]:
        """All that it has logged as JSON."""
        lines = self.output.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    def find(self, event: str, **fields: Any) -> list[Entry]:
        """The entries with this event and these fields."""
        return [entry for entry in self.entries if {**entry, "event": event, **fields} == entry]

    def wait_entry(self, event: str, count: int = 1, **fields: Any) -> list[Entry]:
        """Wait for as many entries, and return them."""
        eventually(lambda: len(self.find(event, **fields)) >= count, 30.0, what=f"{count} of {event} {fields}")
        return self.find(event, **fields)


Start = Callable[..., Logging]


@pytest.fixture
def publishing() -> Iterator[None]:
    """This process publishes, on behalf of a request."""
    instrument()
    with structlog.contextvars.bound_contextvars(request_id="req-7", tenant="acme"):
        yield


@pytest.fixture
def start(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Start:
    """Start a worker that logs as JSON, unless other settings are given."""

    def begin(*arguments: str, instrument: dict[str, Any] | None = None, **options: Any) -> Logging:
        settings = {"logs": "json", **(instrument or {})}
        return processes.enter_context(
            Logging(tmp_path, redis_server.url, *arguments, app="apps.logged", instrument=settings, **options)
        )

    return begin


@pytest.mark.parametrize("pool", POOLS)
def test_each_entry_says_which_task_it_is_of(start: Start, pool: str) -> None:
    """Whatever it was logged with, by however many tasks at once, in async code, and in tasks called in place."""
    worker = start(pool=pool, concurrency=4)
    ids = [worker.send("speak", SECRET, priority=3) for _ in range(6)]

    for task in ("speak", "speak_next"):  # either may end last
        worker.wait_entry("task succeeded", 6, task=task)

    entries = worker.entries
    assert all(entry["of"] == entry["task_id"] for entry in entries if "of" in entry)
    for task_id in ids:
        own = [entry for entry in entries if entry.get("task_id") == task_id]
        assert Counter(entry["event"].split(" " + task_id)[0] for entry in own) == IN_ONE_TASK
        for entry in own:
            known = {"task": "speak", "root_id": task_id, "queue": "celery", "worker": worker.node, "retries": 0}
            assert {**entry, **known, "request_id": "req-7"} == entry
            assert "parent_id" not in entry
    assert SECRET not in worker.output
    assert "acme" not in worker.output


@pytest.mark.parametrize("pool", POOLS)
def test_tasks_of_tasks_belong_to_the_same_request(start: Start, pool: str) -> None:
    """Whether they are published or called in place, and what a task has bound itself ends with it."""
    worker = start(pool=pool)
    task_id = worker.send("speak", SECRET)

    for task in ("speak", "speak_next"):
        worker.wait_entry("task succeeded", task=task)
    (following,) = worker.find("next")
    (in_place,) = worker.find("in place")

    for entry in (following, in_place):
        assert {**entry, "parent_id": task_id, "root_id": task_id, "request_id": "req-7"} == entry
    assert (in_place["task"], "queue" in in_place) == ("speak_in_place", False)
    assert (following["task"], following["queue"]) == ("speak_next", "celery")
    (last,) = worker.find("at last")
    assert (last["own"], last["tenant"]) == (task_id, "its own")
    (published,) = worker.find("task published")
    assert (published["task"], published["parent_id"], published["seconds"] < 5) == ("speak_next", task_id, True)
    assert [entry["event"] for entry in worker.entries if entry.get("task") == "speak_in_place"] == [
        "task started",
        "in place",
        "task succeeded",
    ]
    assert "own" not in following
    assert "own" not in worker.find("task started", task="speak_next")[0]


@pytest.mark.parametrize("pool", POOLS)
def test_each_attempt_ends_in_one_entry(start: Start, pool: str) -> None:
    """Also those that Celery has no event for; Celery's own entries for them are gone."""
    worker = start(pool=pool)
    for task in ("add", "retry", "give_up", "ignore", "replace", "reject", "reject_once"):
        worker.send(task, *((1, 2) if task == "add" else ()))
    worker.send("fail_because", SECRET)
    worker.send("fail_expectedly", SECRET)
    worker.send("gone", SECRET)
    worker.send("add", 1, 2, expires=-10)
    expected = {
        ("add", "succeeded", "info"): 2,
        ("add", "expired", "info"): 1,
        ("retry", "retried", "info"): 1,
        ("retry", "succeeded", "info"): 1,
        ("give_up", "retried", "info"): 1,
        ("give_up", "failed", "error"): 1,
        ("ignore", "ignored", "info"): 1,
        ("replace", "replaced", "info"): 1,
        ("reject", "rejected", "warning"): 1,
        ("reject_once", "rejected", "warning"): 1,
        ("reject_once", "succeeded", "info"): 1,
        ("fail_because", "failed", "error"): 1,
        ("fail_expectedly", "failed", "info"): 1,
        ("gone", "unregistered", "error"): 1,
    }

    def ends() -> Counter[tuple[str, str, str]]:
        return Counter(
            (entry["task"], entry["outcome"], entry["level"]) for entry in worker.entries if "outcome" in entry
        )

    eventually(lambda: ends().total() >= sum(expected.values()), 30.0)
    assert ends() == expected
    assert all(entry["event"] == f"task {entry['outcome']}" for entry in worker.entries if "outcome" in entry)
    assert not [entry for entry in worker.entries if entry["logger"] in {"celery.app.trace", "celery.worker.strategy"}]
    assert {entry["exception_type"] for entry in worker.find("task retried")} == {"KeyError"}
    assert SECRET not in worker.output


def test_a_failure_is_logged_with_where_and_not_what(start: Start) -> None:
    """The frames, the classes of the exception and of its cause, the runtime; no texts."""
    worker = start(pool="prefork")
    worker.send("fail_because", SECRET)

    (entry,) = worker.wait_entry("task failed")

    assert (entry["exception_type"], entry["cause"]) == ("LookupError", "exception")
    assert 0 <= entry["runtime"] < 5
    lines = entry["exception"].splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "Traceback (most recent call last):",
        "ValueError",
        "Traceback (most recent call last):",
        "LookupError",
    ]
    assert any(line.endswith("in fail_because") for line in lines)


def test_texts_of_exceptions_are_logged_if_asked_for(start: Start) -> None:
    """Less what looks like a password."""
    worker = start(pool="prefork", instrument={"log_exception_text": True})
    worker.send("fail_because", "hunter2")

    (entry,) = worker.wait_entry("task failed")

    assert "invalid literal for int() with base 10: 'hunter2'" in entry["exception"]
    assert "LookupError: password=*** is no number" in entry["exception"]


def test_what_the_main_process_ends_it_logs(start: Start) -> None:
    """A time limit, a lost child, a revoke: with all that is known of the task."""
    worker = start(pool="prefork", concurrency=4)
    for task in ("hard_limit", "kill_self", "kill_self_once"):
        worker.send(task)
    doomed = worker.send("work", 60.0)
    worker.wait_entry("task started", task="work")
    worker.revoke(doomed, terminate=True)

    (terminated,) = worker.wait_entry("task terminated")
    (timed_out,) = worker.wait_entry("task failed", task="hard_limit")
    (lost,) = worker.wait_entry("task failed", task="kill_self")
    (requeued,) = worker.wait_entry("task rejected", task="kill_self_once")
    worker.wait_entry("task succeeded", task="kill_self_once")

    for entry in (terminated, timed_out, lost, requeued):
        assert {**entry, "worker": worker.node, "queue": "celery", "request_id": "req-7"} == entry
        assert entry["root_id"] == entry["task_id"]
    assert (timed_out["cause"], timed_out["exception_type"]) == ("hard_time_limit", "TimeLimitExceeded")
    assert (lost["cause"], lost["exception_type"]) == ("oom_or_signal", "WorkerLostError")
    assert requeued["requeued"] is True
    assert len(worker.find("task received", redelivered=True)) == 1


@pytest.mark.parametrize(
    "header",
    [
        "text",
        ["request_id"],
        {"request_id": "x" * 10_000},
        {"request_id": "x\nevent=forged"},
        {"request_id": {"deep": ["er"]}},
        {"request_id": 2**70},
        {"request_id": None, "tenant": "acme", "task_id": "forged", "event": "forged"},
    ],
)
def test_a_hostile_header_is_ignored(start: Start, header: Any) -> None:
    """Only short texts and numbers of that name are taken, and nothing that means something else."""
    worker = start(pool="solo")
    structlog.contextvars.unbind_contextvars("request_id")

    task_id = worker.send("add", 1, 2, headers={CONTEXT: header})

    (entry,) = worker.wait_entry("task succeeded")
    assert entry["task_id"] == task_id
    assert all("request_id" not in entry for entry in worker.entries)
    assert "forged" not in worker.output
    assert "acme" not in worker.output


def test_only_what_the_list_names_is_taken(start: Start) -> None:
    """The worker's list, whatever the publisher sends."""
    worker = start(pool="solo", instrument={"log_context": ["tenant", "worker", "event"]})

    header = {"request_id": "req-8", "tenant": "acme", "worker": "forged", "event": "forged"}
    structlog.contextvars.unbind_contextvars("request_id")
    worker.send("add", 1, 2, headers={CONTEXT: header})

    (entry,) = worker.wait_entry("task succeeded")
    assert (entry["tenant"], entry["worker"]) == ("acme", worker.node)
    assert "req-8" not in worker.output


def test_the_trace_of_the_publisher_is_named(start: Start) -> None:
    """By the header of W3C's Trace Context, if it is well-formed."""
    worker = start(pool="solo")
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"

    traced = worker.send("add", 1, 2, headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
    untraced = worker.send("add", 1, 2, headers={"traceparent": "forged"})

    worker.wait_entry("task succeeded", 2)
    assert {entry.get("trace_id") for entry in worker.entries if entry.get("task_id") == traced} == {trace_id}
    assert {entry.get("trace_id") for entry in worker.entries if entry.get("task_id") == untraced} == {None}


def test_lines_for_people(start: Start) -> None:
    """The same, to be read."""
    worker = start(pool="prefork", instrument={"logs": "console"})
    task_id = worker.send("speak", SECRET)

    worker.wait_output("task=speak_next")

    line = next(line for line in worker.output.splitlines() if "from structlog" in line)
    assert f"task_id={task_id}" in line
    assert "request_id=req-7" in line
    assert SECRET not in worker.output


def test_whoever_sets_logging_up_can_use_the_formatter(start: Start) -> None:
    """With `setup_logging`, where Celery makes no handlers and we change none."""
    worker = start(pool="prefork", env={"SAMPLE_LOGGING": "setup_logging"})
    task_id = worker.send("speak", SECRET)

    worker.wait_entry("task succeeded", task="speak")

    for event in ("from logging", "from Celery's logger", "task received", "task started", "task succeeded"):
        (entry,) = worker.find(event, task_id=task_id)
        assert entry["request_id"] == "req-7"
    assert SECRET not in worker.output


def test_handlers_that_are_not_to_be_hijacked_are_left_alone(start: Start) -> None:
    """`worker_hijack_root_logger = False`."""
    worker = start(pool="prefork", env={"SAMPLE_LOGGING": "handlers"}, worker_hijack_root_logger=False)
    worker.send("speak", SECRET)

    worker.wait_output("task succeeded")

    prefix = PLAIN.partition(" ")[0]
    assert f"{prefix} INFO task succeeded" in worker.output
    assert f"{prefix} INFO from logging" in worker.output
    assert SECRET not in worker.output


def test_turned_off_the_log_is_celerys(start: Start) -> None:
    """No entries of ours, nothing bound, and Celery's own entries are back; on again, as before."""
    worker = start(pool="prefork", concurrency=1)
    switch = {"destination": [worker.node], "reply": True}
    worker.control.broadcast("celery_observe", {"switch": "off"}, **switch)

    task_id = worker.send("add", 1, 2)
    worker.wait_output(f"add[{task_id}] succeeded")
    assert not [entry for entry in worker.entries if "task_id" in entry]
    worker.control.broadcast("celery_observe", {"switch": "on"}, **switch)
    worker.send("add", 1, 2)

    worker.wait_entry("task succeeded")
    assert worker.output.count("] succeeded in") == 1


def test_without_logs_the_context_is_bound_for_those_who_look(start: Start) -> None:
    """The app imports structlog; its log, and Celery's, look as ever."""
    worker = start(pool="prefork", instrument={"logs": "off"})
    task_id = worker.send("speak", SECRET)

    worker.wait_output(f"speak[{task_id}] succeeded in")

    line = next(line for line in worker.output.splitlines() if "from structlog" in line)
    assert f"task_id={task_id}" in line.replace("\x1b[0m", "").replace("\x1b[36m", "").replace("\x1b[35m", "")
    assert "task started" not in worker.output
