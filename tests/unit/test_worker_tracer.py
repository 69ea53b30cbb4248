"""What is reported of an attempt from around its tracer: as from Celery's signals, and no more than once."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject

from celery_observe.cause import Failure
from celery_observe.fact import Cause, Outcome
from celery_observe.report import AnyReport, Execution, Progress, Success, whole
from celery_observe.worker import consumer, executions, instrumentation, progress, tracer
from celery_observe.worker.executions import surrounded
from celery_observe.worker.headers import ENTRY, FIRST_PUBLISHED, PUBLISHED, RECEIVED
from celery_observe.worker.interruption import interruption
from celery_observe.worker.reporter import Reporter, reporter
from celery_observe.worker.tracer import observed, surround


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[AnyReport]:
    """The reports that are sent, instead of a socket."""
    reports: list[AnyReport] = []
    monkeypatch.setattr(Reporter, "send", lambda _self, report: reports.append(report))
    monkeypatch.setattr(reporter, "errors", 0)
    return reports


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app whose failures are noted, as by a worker."""
    from celery import signals  # noqa: PLC0415 - beside what is undone below

    def failed(sender: Any, **named: Any) -> None:
        consumer.failed(sender=sender, **named)

    signals.task_failure.connect(failed)
    yield Celery("surrounded", broker="memory://", backend="cache+memory://", set_as_current=False)
    signals.task_failure.disconnect(failed)


ALONE = {
    **dict.fromkeys(("shadow", "eta", "group_index", "chain", "callbacks"), None),
    "replaced_task_nesting": 0,
    "retries": 0,
    PUBLISHED: 1_000_000,
    RECEIVED: 2.0,
}
"""What Celery's messages, and we, say of a task that belongs to no workflow."""


def execute(app: Celery, call: Any, *args: Any, said: Any = ALONE, **options: Any) -> tuple[str, Any]:
    """Execute a task as a child does; return its id and what the tracer has returned."""
    task = app.task(call, name=call.__name__, bind=True, shared=False, **options)
    trace = observed(task, build_tracer(task.name, task, app=app))
    own = str(uuid.uuid4())
    delivery = {"exchange": "", "routing_key": "q"}
    request = {"id": own, "task": task.name, "delivery_info": delivery, "hostname": "w@h", "is_eager": False}
    return own, trace(own, args, {}, {**request, "root_id": own, **said})


def succeed(_task: Any) -> int:
    """Return something."""
    return 7


def fail(_task: Any) -> None:
    """Raise something."""
    raise KeyError("k")


def retry(task: Any) -> None:
    """Ask to be run again."""
    raise task.retry(countdown=60)


def ignore(_task: Any) -> None:
    """End without an outcome."""
    raise Ignore


def refuse(_task: Any) -> None:
    """Hand the message back."""
    raise Reject("no", requeue=True)


def leave(_task: Any) -> None:
    """End the process."""
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("call", "outcome", "cause", "requeued"),
    [
        (succeed, Outcome.SUCCEEDED, None, False),
        (fail, Outcome.FAILED, Cause.EXCEPTION, False),
        (retry, Outcome.RETRIED, None, False),
        (ignore, Outcome.IGNORED, None, False),
        (refuse, Outcome.REJECTED, None, True),
    ],
)
def test_each_end_is_reported(
    app: Celery, sent: list[AnyReport], call: Any, outcome: Outcome, cause: Cause | None, *, requeued: bool
) -> None:
    """With all that the message and the signals tell of it."""
    own, _ = execute(app, call)

    (report,) = [whole(each) for each in sent if isinstance(each, Success | Execution)]
    assert (report.uuid, report.name, report.queue, report.hostname) == (own, call.__name__, "q", "w@h")
    assert (report.outcome, report.cause, report.requeued) == (outcome, cause, requeued)
    assert (report.published, report.received) == (1.0, 2.0)
    assert report.started is not None
    assert 0 <= (report.runtime or -1) < 10
    assert reporter.errors == 0
    assert surrounded.note is None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, None),
        ({"shadow": "other", PUBLISHED: "yesterday"}, None),
        ({"retries": 1, FIRST_PUBLISHED: 500_000}, "first_published"),
        ({"eta": "2030-01-01T00:00:00"}, "eta"),
        ({"group": "g", "group_index": 0}, "canvas"),
        ({"root_id": "r"}, "canvas"),
        ({ENTRY: "nightly"}, "entry"),
    ],
    ids=["alone", "renamed", "retry", "eta", "group", "tree", "entry"],
)
def test_a_success_is_told_in_brief_if_only_its_times_are_to_be_told(
    app: Celery, sent: list[AnyReport], said: dict[str, Any], told: str | None
) -> None:
    """Whatever else there is to tell is told at length."""
    execute(app, succeed, said={**ALONE, **said})

    (report,) = [each for each in sent if isinstance(each, Success | Execution)]
    assert report.name == said.get("shadow", "succeed")
    assert isinstance(report, Success) == (told is None)
    assert told is None or getattr(report, told) is not None


def test_an_older_message_is_told_of_too(app: Celery, sent: list[AnyReport]) -> None:
    """Though it has few of the fields."""
    execute(app, succeed, said={})

    assert [whole(each).outcome for each in sent if isinstance(each, Success | Execution)] == [Outcome.SUCCEEDED]


def test_nothing_of_ours_goes_along_with_a_retry(app: Celery) -> None:
    """What is noted is no header: Celery sends along all that it does not know."""
    execute(app, retry)

    with app.connection_for_read() as connection, connection.SimpleQueue("q") as queue:
        message = queue.get(timeout=1)
    assert not [name for name in message.headers if name.startswith("_celery_observe")]


def test_a_process_that_is_left_is_for_the_main_process_to_tell_of(app: Celery, sent: list[AnyReport]) -> None:
    """It notices, and knows why."""
    with pytest.raises(SystemExit):
        execute(app, leave)

    assert sent == []
    assert surrounded.note is None


def test_a_result_that_cannot_be_stored_is_a_failure(
    app: Celery, sent: list[AnyReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the task has returned; the worker says so too."""

    def break_down(*_: Any, **__: Any) -> None:
        raise ConnectionError("redis://:hunter2@h")

    monkeypatch.setattr(type(app.backend), "mark_as_done", break_down)
    with pytest.warns(RuntimeWarning, match="outside body"):
        execute(app, succeed)

    (report,) = sent
    assert isinstance(report, Execution)
    assert report.outcome is Outcome.FAILED
    assert (report.exception, report.cause) == Failure("ConnectionError", Cause.EXCEPTION)
    assert "hunter2" not in str(report)


def test_what_is_not_executed_again_is_not_reported(
    app: Celery, sent: list[AnyReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`worker_deduplicate_successful_tasks`: Celery finds the result, and lets it be."""
    task = app.task(succeed, name="succeed", bind=True, shared=False, acks_late=True)
    own = str(uuid.uuid4())
    app.conf.worker_deduplicate_successful_tasks = True
    monkeypatch.setattr(type(app.backend), "persistent", True)
    app.backend.store_result(own, 7, "SUCCESS")
    trace = observed(task, build_tracer(task.name, task, app=app))

    trace(own, (), {}, {"id": own, "delivery_info": {"redelivered": True}})

    assert sent == []
    assert reporter.errors == 0


def test_what_a_task_says_of_itself_is_told(app: Celery, sent: list[AnyReport]) -> None:
    """While it goes on, and with its end."""
    progress.watch()

    def report_progress(task: Any) -> None:
        task.update_state(state="VALIDATING", meta={"step": 1, "total": 2})

    execute(app, report_progress)

    told, report = sent
    assert isinstance(told, Progress)
    assert (told.state, told.ratio) == ("VALIDATING", 0.5)
    assert isinstance(report, Execution)
    assert (report.states or {}).keys() == {"VALIDATING"}


def test_a_task_that_is_called_in_place_is_part_of_its_caller(app: Celery, sent: list[AnyReport]) -> None:
    """Even if it has the same id, and however it ends."""

    def call(task: Any) -> None:
        inner = app.task(fail, name="inner", bind=True, shared=False)
        inner.apply(task_id=task.request.id)
        assert executions.is_executing(task)
        assert not executions.is_executing(inner)

    execute(app, call)

    (report,) = [whole(each) for each in sent if isinstance(each, Success | Execution)]
    assert (report.name, report.outcome, report.cause) == ("call", Outcome.SUCCEEDED, None)


def test_turned_off_nothing_is_noted(app: Celery, sent: list[AnyReport]) -> None:
    """And the task runs as ever."""
    reporter.turn(off=True)
    try:
        _, traced = execute(app, succeed)
    finally:
        reporter.turn(off=False)

    assert traced[0] == 7
    assert sent == []


def test_a_soft_limit_that_strikes_while_the_end_is_reported_is_swallowed(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task has ended; it is counted as an error of ours."""

    def strike(*_: Any, **__: Any) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(tracer, "executed", strike)
    monkeypatch.setattr(reporter, "errors", 0)

    _, traced = execute(app, succeed)

    assert (traced[0], reporter.errors) == (7, 1)
    assert interruption.timer is None


def test_all_tasks_of_a_child_are_surrounded(app: Celery, sent: list[AnyReport]) -> None:
    """Those that have a tracer: others are never executed there."""
    task = app.task(succeed, name="succeed", bind=True, shared=False)
    app.finalize()
    task.__trace__ = build_tracer(task.name, task, app=app)

    surround(app)

    task.__trace__("id", (), {}, {"id": "id", "delivery_info": {}})
    assert [each.uuid for each in sent if isinstance(each, Execution)] == ["id"]


def test_a_worker_with_more_to_do_amid_a_task_keeps_the_signals(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of celery-batches has no tracer; the span of others, whose trace exemplars name, is over by then."""
    monkeypatch.delitem(sys.modules, "opentelemetry.instrumentation.celery", raising=False)
    app.task(succeed, name="succeed", bind=True, shared=False)
    assert instrumentation._only_measures(app)  # noqa: SLF001 - what a worker asks when it starts

    with monkeypatch.context() as imported:
        imported.setitem(sys.modules, "opentelemetry.instrumentation.celery", sys)
        assert not instrumentation._only_measures(app)  # noqa: SLF001 - likewise

    app.task(ignore, name="ignore", bind=True, shared=False, Strategy=lambda *_: None)
    assert not instrumentation._only_measures(app)  # noqa: SLF001 - likewise
