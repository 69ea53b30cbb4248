"""The entries that we log of tasks, and the form that all entries of a worker have."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from celery import Celery
from celery.app.log import Logging as CelerysLogging
from celery.exceptions import Retry
from celery.utils.log import get_task_logger
from opentelemetry import trace

from celery_observe.fact import Cause, Outcome
from celery_observe.report import Execution
from celery_observe.settings import load
from celery_observe.worker import context, formatter, logs
from celery_observe.worker.reporter import reporter

SECRET = "s3cret-argument"
FIELDS = {"id": "i", "task": "t", "root_id": "r", "retries": 0, "delivery_info": {"exchange": "", "routing_key": "q"}}
KNOWN = {"task_id": "i", "task": "t", "root_id": "r", "retries": 0, "queue": "q"}


@pytest.fixture(autouse=True)
def turned_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logs are asked for; afterwards they are not."""
    monkeypatch.setattr(context, "carried", context.Carried())
    monkeypatch.setattr(logs, "lines", logs.Lines())
    monkeypatch.setattr(formatter, "lines", logs.lines)
    logs.set_up(load({"logs": "json"}, {}, instrumented=True))
    yield
    structlog.contextvars.clear_contextvars()
    for name in logs._NAMESAKES:  # noqa: SLF001 - what set_up did
        logging.getLogger(name).removeFilter(logs.is_new)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """Our entries: event, level and the fields that we gave them."""
    plain = vars(logging.makeLogRecord({})).keys() | {"message"}
    entries: list[dict[str, Any]] = []

    class Handler(logging.Handler):
        """Takes entries apart."""

        def emit(self, record: logging.LogRecord) -> None:
            fields = {name: value for name, value in vars(record).items() if name not in plain}
            entries.append({"event": record.getMessage(), "level": record.levelname, **fields})

    handler = Handler()
    logs.log.addHandler(handler)
    with caplog.at_level(logging.INFO, logs.log.name):
        yield entries
    logs.log.removeHandler(handler)


def make_task(*, throws: Any = (), acks_late: bool = False, **request: Any) -> Any:
    """Return a task with a request on its stack."""
    stack = SimpleNamespace(top=SimpleNamespace(**FIELDS, **request))
    return SimpleNamespace(request_stack=stack, throws=throws, acks_late=acks_late)


def report(outcome: Outcome, **fields: Any) -> Execution:
    """Return what is reported of an attempt that ended so."""
    return Execution(timestamp=1.0, hostname="w@h", uuid="i", name="t", outcome=outcome, queue="q", **fields)


# -- our entries


def test_an_end_is_logged_as_it_is_reported(logged: list[dict[str, Any]]) -> None:
    """With its runtime, the class of the exception and its cause."""
    failed = report(Outcome.FAILED, runtime=1.5, exception="TimeLimitExceeded", cause=Cause.HARD_TIME_LIMIT)

    logs.ended(failed, dict(FIELDS))

    assert logged == [
        {
            "event": "task failed",
            "level": "ERROR",
            **KNOWN,
            "worker": "w@h",
            "outcome": "failed",
            "runtime": 1.5,
            "exception_type": "TimeLimitExceeded",
            "cause": "hard_time_limit",
        }
    ]


def test_an_end_that_is_reported_twice_is_logged_once(logged: list[dict[str, Any]]) -> None:
    """Celery tells of a hard time limit twice."""
    fields = dict(FIELDS)

    for _ in range(2):
        logs.ended(report(Outcome.FAILED, exception="TimeLimitExceeded"), fields)

    assert len(logged) == 1


@pytest.mark.parametrize("requeued", [True, False])
@pytest.mark.parametrize("acks_late", [True, False])
def test_a_rejection_is_logged_once(logged: list[dict[str, Any]], *, requeued: bool, acks_late: bool) -> None:
    """Where it was raised, or where the message went back: of those acknowledged late both are reported."""
    rejected = report(Outcome.REJECTED, requeued=requeued)

    logs.ended(rejected, dict(FIELDS), make_task(acks_late=acks_late), ValueError())
    if acks_late:
        logs.ended(rejected, dict(FIELDS))

    assert [(entry["event"], entry["level"]) for entry in logged] == [("task rejected", "WARNING")]


def test_a_retry_names_what_it_is_for(logged: list[dict[str, Any]]) -> None:
    """Not Retry."""
    logs.ended(report(Outcome.RETRIED), dict(FIELDS), make_task(), Retry("again", KeyError(SECRET)))

    assert logged[0]["exception_type"] == "KeyError"
    assert SECRET not in str(logged)


def test_a_long_chain_of_causes_is_cut(logged: list[dict[str, Any]]) -> None:
    """And one that ends in itself too."""
    first = error = ValueError(SECRET)
    for _ in range(50):
        error.__cause__ = ValueError(SECRET)
        error = error.__cause__
    error.__cause__ = first

    logs.ended(report(Outcome.FAILED), dict(FIELDS), make_task(), first)

    assert logged[0]["exception"].count("ValueError") == 5
    assert SECRET not in str(logged)


def test_a_cause_that_the_app_hides_is_hidden(logged: list[dict[str, Any]]) -> None:
    """`raise … from None`."""
    error = KeyError()
    error.__context__, error.__suppress_context__ = ValueError(), True

    logs.ended(report(Outcome.FAILED), dict(FIELDS), make_task(), error)

    assert "ValueError" not in logged[0]["exception"]


def test_a_call_is_logged_as_one(logged: list[dict[str, Any]]) -> None:
    """It has neither message nor worker of its own."""
    task = make_task(is_eager=True, hostname="h")

    logs.introduce(task)
    logs.ended_in_place(task, Outcome.FAILED, KeyError(SECRET))
    logs.ended_in_place(make_task(), Outcome.SUCCEEDED, None)
    context.restore(task)

    assert [(entry["event"], entry["eager"]) for entry in logged] == [("task started", True), ("task failed", True)]
    assert SECRET not in str(logged)


def test_names_on_the_list_do_not_hide_ours(logged: list[dict[str, Any]]) -> None:
    """Whatever the list has on it."""
    context.carried.allow(["outcome", "runtime", "exception_type", "self"])
    header = {"outcome": "forged", "runtime": "forged", "self": "forged", "exception_type": "forged"}

    logs.ended(report(Outcome.SUCCEEDED, runtime=1.0), FIELDS | {"celery_observe_context": header})

    assert (logged[0]["outcome"], logged[0]["runtime"]) == ("succeeded", 1.0)
    assert "exception_type" not in logged[0]


def test_a_publish_that_fails_is_logged(logged: list[dict[str, Any]]) -> None:
    """By the class of what it raised."""
    logs.not_published("t", "q", ConnectionError)

    assert logged == [
        {
            "event": "task not published",
            "level": "ERROR",
            "task": "t",
            "queue": "q",
            "exception_type": "ConnectionError",
        }
    ]


def test_a_message_that_is_no_task_is_logged(logged: list[dict[str, Any]]) -> None:
    """By who refused it."""
    logs.refused(SimpleNamespace(hostname="w@h"))

    assert logged == [{"event": "message refused", "level": "ERROR", "worker": "w@h"}]


def test_nothing_is_logged_unless_asked_for(logged: list[dict[str, Any]]) -> None:
    """Which is the default."""
    logs.set_up(load({}, {}, instrumented=True))

    logs.introduce(make_task())
    logs.ended(report(Outcome.FAILED), dict(FIELDS))
    logs.not_published("t", "q", ConnectionError)

    assert logged == []


# -- Celery's entries


@pytest.mark.parametrize(
    ("name", "message", "extra"),
    [
        ("celery.app.trace", f"Task t[i] succeeded in 1s: {SECRET!r}", {"data": {"args": SECRET}}),
        ("celery.worker.strategy", "Task t[i] received", {"data": {"args": SECRET}}),
        ("celery.worker.request", f"Task handler raised error: {SECRET}", {}),
        ("celery.worker.consumer.consumer", f"Received unregistered task of type 't'.\n{SECRET}", {}),
        ("celery.worker.consumer.consumer", f"Can't decode message body: {SECRET}", {}),
        ("celery.concurrency.base", f"TaskPool: Apply f (args:{SECRET})", {}),
    ],
)
def test_celerys_entries_of_tasks_are_left_out(
    name: str, message: str, extra: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own loggers, so in every handler; without ours they are there."""
    logging.getLogger(name).error(message, extra=extra)
    assert caplog.text == ""

    monkeypatch.setattr(type(reporter), "off", True)
    logging.getLogger(name).error(message, extra=extra)
    assert message in caplog.text


def test_what_only_celery_tells_is_told_without_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """A time that cannot be converted."""
    logging.getLogger("celery.worker.strategy").error("Couldn't convert ETA %r to timestamp: %r", SECRET, SECRET)
    logging.getLogger("celery.worker.request").error("Hard time limit (%ss) exceeded for %s[%s]", 1, "t", "i")

    assert [record.getMessage() for record in caplog.records] == [
        "The ETA of a task cannot be converted",
        "Hard time limit (1s) exceeded for t[i]",
    ]


# -- the form


@pytest.fixture
def celerys(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Celery's own set-up of logging, to a file; all as before afterwards."""
    names: tuple[str | None, ...] = (None, "celery", "celery.task", "celery.redirected", "multiprocessing")
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in names}
    propagates = logging.getLogger("celery.task").propagate
    monkeypatch.setattr(CelerysLogging, "_setup", False)
    for variable in ("CELERY_LOG_LEVEL", "_MP_FORK_LOGLEVEL_", "_MP_FORK_LOGFILE_", "_MP_FORK_LOGFORMAT_"):
        monkeypatch.setenv(variable, "")
    structlog.reset_defaults()
    file = tmp_path / "worker.log"
    app = Celery("t", broker="memory://", set_as_current=False)
    yield lambda: app.log.setup_logging_subsystem("INFO", str(file)), file
    for name, (handlers, level) in before.items():
        logger = logging.getLogger(name)
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
    logging.getLogger("celery.task").propagate = propagates
    structlog.reset_defaults()


def test_celerys_handlers_write_our_form(celerys: Any) -> None:
    """Entries of tasks, of libraries and of structlog, to where Celery says, masked."""
    from celery import signals  # noqa: PLC0415 - beside what is connected

    set_up, file = celerys
    signals.after_setup_logger.connect(formatter.join)
    signals.after_setup_task_logger.connect(formatter.join)
    try:
        set_up()
    finally:
        signals.after_setup_logger.disconnect(formatter.join)
        signals.after_setup_task_logger.disconnect(formatter.join)

    with structlog.contextvars.bound_contextvars(request_id="req-7"):
        logging.getLogger("lib").warning("cannot reach redis://:hunter2@h:1/0", extra={"order": 7})
        get_task_logger("shop").info("sold", extra={"data": "its own"})
        structlog.get_logger("shop.structlog").info("bought", password="hunter2", order=8)
        structlog.get_logger("shop.structlog").debug("below the level")

    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert all(entry.pop("timestamp").endswith("Z") and entry.pop("request_id") == "req-7" for entry in entries)
    assert entries == [
        {"event": "cannot reach redis://:***@h:1/0", "order": 7, "level": "warning", "logger": "lib"},
        {"event": "sold", "data": "its own", "level": "info", "logger": "shop"},
        {"event": "bought", "password": "***", "order": 8, "level": "info", "logger": "shop.structlog"},
    ]


def test_a_structlog_that_is_set_up_is_left_alone(celerys: Any) -> None:
    """So are handlers that have a form of their own."""
    processors: list[Any] = [structlog.processors.KeyValueRenderer()]
    structlog.configure(processors=processors)
    handler = logging.StreamHandler(io.StringIO())
    mine = logging.Formatter("%(message)s")
    handler.setFormatter(mine)
    logger = logging.Logger("apart")  # noqa: LOG001 - not one of the process
    logger.addHandler(handler)

    formatter.join(logger)

    assert structlog.get_config()["processors"] == processors
    assert handler.formatter is mine
    assert celerys


def test_entries_name_the_trace_that_is_active_when_they_are_logged() -> None:
    """Whoever traces tasks may begin after we have bound what they are called."""
    record = logging.LogRecord("shop", logging.INFO, "f", 1, "sold", (), None)
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 7, is_remote=False))

    with trace.use_span(span):
        entry = json.loads(formatter.formatter("json").format(record))

    assert entry["trace_id"] == f"{0xABC:032x}"


def test_what_celery_adds_to_its_entries_is_dropped() -> None:
    """The arguments, should an entry of its own get through."""
    record = logging.LogRecord("celery.app.trace", logging.INFO, "f", 1, "Task t[i] received", (), None)
    record.data = {"args": SECRET}

    assert SECRET not in formatter.formatter("json").format(record)
