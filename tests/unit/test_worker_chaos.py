"""Whatever line of our code fails while a task is published, executed or refused, the task never knows.

Celery's own tracer and requests are run, with a trace function that raises at one line of ours after the other.
"""

from __future__ import annotations

import linecache
import logging
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path
from types import FrameType
from typing import Any, Self

import gevent
import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded, WorkerLostError
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.exceptions import Ignore, Reject
from celery.result import AsyncResult, ResultSet
from celery.utils.dispatch import Signal
from celery.worker import request as worker_request
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.exceptions import EncodeError
from opentelemetry.context import Context, attach, detach

import celery_observe
from celery_observe import instrument
from celery_observe.fact import Outcome
from celery_observe.report import AnyReport, Execution, Loss, Success, decode
from celery_observe.streams.local import pair
from celery_observe.tracing.provider import provider
from celery_observe.worker import consumer, creation, instrumentation, logs, progress, spans
from celery_observe.worker.arrivals import arrivals
from celery_observe.worker.guard import harmless, receiving
from celery_observe.worker.queues import queue_names
from celery_observe.worker.reporter import reporter
from celery_observe.worker.tracer import observed
from celery_observe.worker.tracing import tracing

PACKAGE = Path(celery_observe.__file__).parent
OURS = (str(PACKAGE / "worker"), str(PACKAGE / "tracing"), str(PACKAGE / "report.py"))
EXCEPTIONS = (RuntimeError, MemoryError)

app = Celery("chaos", broker="memory://", backend="cache+memory://", set_as_current=False)
app.conf.task_default_queue = f"chaos-{uuid.uuid4()}"
task: Callable[..., Callable[[Callable[..., Any]], Any]] = partial(app.task, shared=False)
"""Celery's, with a type, and for this app alone: by default every app of the process gets a task."""


@task(name="succeed")
def succeed() -> int:
    """Return something."""
    return 7


@task(name="fail")
def fail() -> None:
    """Raise something."""
    raise KeyError("k")


@task(name="retry", bind=True)
def retry(self: Any) -> None:
    """Ask to be run again, which publishes."""
    raise self.retry(countdown=60)


@task(name="ignore")
def ignore() -> None:
    """End without an outcome."""
    raise Ignore


@task(name="reject")
def reject() -> None:
    """Hand the message back."""
    raise Reject("no", requeue=False)


@task(name="publish")
def publish() -> str:
    """Publish another task."""
    return type(succeed.delay()).__name__


@task(name="publish_in_vain")
def publish_in_vain() -> str:
    """See what a publish that fails raises."""
    try:
        fail.delay(object())
    except EncodeError as error:
        return type(error).__name__
    return "published"


@task(name="tell", bind=True)
def tell(self: Any) -> str:
    """Say how far it is, and fail to say it once."""
    self.update_state(state="VALIDATING", meta={"step": 1, "total": 2})
    self.update_state(state="CHARGING", meta={"step": 2, "total": 2})
    try:
        self.update_state(state="CHARGING", meta=object())
    except EncodeError as error:
        return type(error).__name__
    return "told"


@task(name="wait")
def wait() -> object:
    """Wait for a task that has succeeded, and for a group with one that has failed."""
    app.backend.store_result("good", 7, "SUCCESS")
    app.backend.store_result("bad", KeyError("k"), "FAILURE")
    good, bad = AsyncResult("good", app=app), AsyncResult("bad", app=app)
    answer = good.get(disable_sync_subtasks=False)
    try:
        ResultSet([good, bad], app=app).join(disable_sync_subtasks=False)
    except KeyError as error:
        return answer, type(error).__name__
    return answer


@task(name="late", acks_late=True)
def late() -> None:
    """Be acknowledged late."""


PASS_ON = {"create_watched", "pass_on", "freeze_noticed", "is_new", "trace_task", "go_on"}
"""Functions of ours that Celery calls in place of its own: all they do is call that, and what is guarded."""


def is_spared(frame: FrameType) -> bool:
    """Whether nothing can be raised at a line, or what is would be Celery's."""
    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return text == "try:" or frame.f_code.co_name in PASS_ON


class Strike:
    """Raises at one line of ours; without an exception it only notes which are run."""

    def __init__(self, line: tuple[str, int] | None = None, exception: type[BaseException] | None = None) -> None:
        self.lines: dict[tuple[str, int], None] = {}
        self.count = 0
        self._line = line
        self._exception = exception

    def __enter__(self) -> Self:
        """Begin."""
        queue_names.clear()  # else it would run less than the first time
        provider._pid = 0  # noqa: SLF001 - likewise
        attach(Context())  # likewise, after what left a span current when it failed
        creation._publishing.set(None)  # noqa: SLF001 - likewise
        self._before = sys.gettrace()
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        sys.settrace(self._before)

    def _called(self, frame: FrameType, _event: str, _argument: object) -> Any:
        return self._traced if frame.f_code.co_filename.startswith(OURS) else None

    def _traced(self, frame: FrameType, event: str, _argument: object) -> Any:
        here = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and not is_spared(frame):
            self.lines[here] = None
            if here == self._line and self._exception is not None:
                self.count += 1
                raise self._exception
        return self._traced


def execute(named: Any) -> Callable[[], object]:
    """Return what executes a task as a pool child does, and what comes of it."""
    return play_of(named, build_tracer(named.name, named, app=app))


def execute_surrounded(named: Any) -> Callable[[], object]:
    """Return what executes a task as a pool child does that only measures."""
    play = play_of(named, observed(named, build_tracer(named.name, named, app=app)))

    def play_alone() -> object:
        apart = [(signal, receive) for signal, receive in HANDLERS if signal in BEFORE_AND_AFTER]
        connected = [(signal, receive) for signal, receive in apart if signal.disconnect(receive)]
        told_by, form, tracing.spans, logs.lines.form = tracing.spans, logs.lines.form, None, "off"
        try:
            return play()
        finally:
            tracing.spans, logs.lines.form = told_by, form
            for signal, receive in connected:
                signal.connect(receive, weak=False)

    return play_alone


def play_of(named: Any, trace: Callable[..., Any]) -> Callable[[], object]:
    """Return what executes a task by its tracer."""

    def play() -> object:
        delivery = {"exchange": "", "routing_key": "q"}
        request = {"id": str(uuid.uuid4()), "task": named.name, "delivery_info": delivery, "hostname": "w@h"}
        try:
            result, info, _, text = trace(request["id"], (), {}, request)
        except Reject as rejection:
            return repr(rejection)
        return type(result).__name__, getattr(info, "state", "SUCCESS"), repr(getattr(info, "retval", None)), text

    return play


def take_in(named: Any, then: Callable[[Any], object]) -> Callable[[], object]:
    """Return what takes a message for a task in as a worker's main process does, and what it says to the broker."""

    def play() -> object:
        said: list[object] = []
        arrivals.clear()
        with app.connection_for_read() as connection, connection.SimpleQueue(app.conf.task_default_queue) as queue:
            queue.clear()
            named.delay()
            message = queue.get(timeout=1)
            request = Request(
                message,
                app=app,
                task=named,
                hostname="w@h",
                on_ack=lambda *_: said.append("ack"),
                on_reject=lambda _log, _errors, requeue=False: said.append(("reject", requeue)),
            )
            signals.task_received.send(sender=Taker(), request=request)
            said.append(repr(then(request)))
        return said

    return play


class Taker:
    """As much of a consumer as is looked at."""

    hostname = "w@h"

    def on_task_request(self, request: Any) -> None:
        """Forget what has been handed to the pool."""
        state.task_ready(request)


def lose_child(request: Any) -> object:
    """Fail as if the child that executes it were gone."""
    error = WorkerLostError("gone")
    try:
        raise error
    except WorkerLostError:
        return request.on_failure(ExceptionInfo())


def revoke(request: Any) -> object:
    """Tell that it was revoked, as the request does."""
    return request._announce_revoked("revoked", True, 15, False)  # noqa: SLF001 - else a pool would be needed


def let_go(request: Any) -> object:
    """Have a rate limit let it go on."""
    return Consumer._limit_move_to_pool(Taker(), request)  # noqa: SLF001 - else time would have to pass


def is_unknown(request: Any) -> object:
    """Tell of it as of a task that is not there."""
    named = {"message": request.message, "exc": KeyError("t"), "name": "t", "id": "id"}
    return send(signals.task_unknown, sender=request, **named)()


def send(signal: Any, sender: Any = None, **named: Any) -> Callable[[], object]:
    """Return what sends a signal to our handler, as Celery does, and says what that raised."""
    return lambda: [answer for _, answer in signal.send(sender=sender, **named) if answer is not None]


EXECUTED = (succeed, fail, retry, ignore, reject, publish, publish_in_vain, tell, wait)
PLAYS: dict[str, Callable[[], object]] = {
    **{each.name: execute(each) for each in EXECUTED},
    **{f"{each.name}, surrounded": execute_surrounded(each) for each in EXECUTED},
    "received": take_in(succeed, lambda _: None),
    "rejected": take_in(late, lambda request: request.reject(requeue=True)),
    "child lost": take_in(succeed, lose_child),
    "timed out": take_in(succeed, lambda request: request.on_timeout(soft=False, timeout=1)),
    "revoked": take_in(succeed, revoke),
    "let go": take_in(succeed, let_go),
    "unknown": take_in(succeed, is_unknown),
    "refused": send(signals.task_rejected, sender=Taker(), message=None, exc=None),
    "child to come": send(signals.worker_before_create_process),
    "child to go": send(signals.worker_process_shutdown, pid=1, exitcode=0),
    "worker told to go": send(signals.worker_shutting_down, sig="SIGTERM", how="Warm", exitcode=0),
    "worker to go": send(signals.worker_shutdown),
}
"""Everything that happens to a task and runs our code, by what happens."""

WATCHED: tuple[tuple[Any, str], ...] = (
    (signals.task_received, "send"),
    (worker_request, "task_ready"),
    *((Request, name) for name in ("on_failure", "reject")),
    (Consumer, "_limit_move_to_pool"),
)
"""What is watched besides signals."""

BEFORE_AND_AFTER = {signals.task_prerun, signals.task_postrun}

HANDLERS: tuple[tuple[Any, Any], ...] = (
    *(instrumentation._RECEIVERS + instrumentation._LOGGING),  # noqa: SLF001 - all that is connected
    *(creation.FIRST + spans.FIRST + spans.LAST + creation.LAST),
)
BY_NAME = {f"{receive.__module__}.{receive.__name__}": receive for _, receive in HANDLERS}

ELSEWHERE = {"_format", "_prepare", "_be_beat", "_be_embedded_beat"}
"""Handlers that run once, at the start of a process, and change it: real workers run them."""


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[socket.socket]:
    """Where this process reports to. It logs too, and makes spans."""
    monkeypatch.setattr(instrumentation, "_given", {})
    for name in ("spans", "creation", "first", "last"):
        monkeypatch.setattr(tracing, name, getattr(tracing, name))
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    provider.settle(apart=True, green=False)
    before = attach(Context())  # what fails may leave a span current
    instrument(app, logs="json", tracing=True)
    caplog.set_level(logging.INFO, "celery_observe.tasks")
    progress.watch()
    for owner, name in WATCHED:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    consumer.watch.cache_clear()
    consumer.watch()
    reading, writing = pair()
    monkeypatch.setattr(reporter, "hostname", "w@h")
    reporter.write_to(writing)
    with reading:
        yield reading
    reporter.close()
    reporter.errors = reporter.dropped = 0
    instrument(app, logs="off", tracing=False)
    for signal, receive in tracing.first + tracing.last:
        signal.disconnect(receive)
    detach(before)


def bare(play: Callable[[], object]) -> object:
    """What comes of a play without us."""
    for signal, receive in HANDLERS:
        signal.disconnect(receive)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in WATCHED:
                patch.setattr(owner, name, getattr(owner, name).__wrapped__)
            return play()
    finally:
        instrument(app)


def errors_told(heard: socket.socket) -> int:
    """How many failures were told, or will be with the next report."""
    before, reporter.errors, reporter.dropped = reporter.errors, 0, 0
    return before + sum(report.errors for report in told(heard) if isinstance(report, Loss))


@pytest.mark.parametrize("what", PLAYS)
def test_a_failure_at_any_line_of_ours_changes_nothing(
    what: str, heard: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """And is counted, once."""
    play = PLAYS[what]
    expected = bare(play)
    with Strike() as watched:
        assert play() == expected
    assert (errors_told(heard), len(watched.lines) > 0) == (0, True)

    for line in watched.lines:
        for exception in EXCEPTIONS:
            with Strike(line, exception) as strike:
                outcome = play()

            assert (outcome, errors_told(heard)) == (expected, strike.count), f"{exception} in {line}"
            assert strike.count, line
    assert "Signal handler" not in caplog.text  # what Celery logs of a receiver that raises


def told(heard: socket.socket) -> Iterator[AnyReport]:
    """What has been reported."""
    with suppress(BlockingIOError):
        while True:
            yield from decode(heard.recv(1 << 20), print)


@pytest.mark.parametrize("requeue", [True, False])
def test_a_message_that_goes_back_unacknowledged_is_told_of(heard: socket.socket, requeue: bool) -> None:
    """Though its task is not acknowledged late: such as one whose ETA cannot be read."""
    take_in(succeed, lambda request: request.reject(requeue=requeue))()

    ends = [report for report in told(heard) if isinstance(report, Execution)]

    assert [(end.name, end.outcome, end.requeued) for end in ends] == [("succeed", Outcome.REJECTED, requeue)]


def test_a_message_that_was_acknowledged_cannot_go_back(heard: socket.socket) -> None:
    """Celery does nothing then, and nothing is told."""
    take_in(succeed, lambda request: (request.acknowledge(), request.reject(requeue=True)))()

    assert not [report for report in told(heard) if isinstance(report, Success | Execution)]


@pytest.mark.usefixtures("heard")
def test_every_handler_is_played() -> None:
    """One that is added needs a play above."""
    played = {code for play in PLAYS.values() for code in codes_run_by(play)}
    handlers = {consumer.received, *(receive.__wrapped__ for _, receive in HANDLERS)}

    assert {handler.__name__ for handler in handlers if handler.__code__ not in played} == ELSEWHERE


def codes_run_by(play: Callable[[], object]) -> set[object]:
    """Return the code objects of ours that a play runs."""
    instrument(app)
    found: set[object] = set()

    def called(frame: FrameType, _event: str, _argument: object) -> None:
        found.add(frame.f_code)

    before = sys.gettrace()
    sys.settrace(called)
    try:
        play()
    finally:
        sys.settrace(before)
    return found


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("name", BY_NAME)
def test_nonsense_does_not_raise(name: str) -> None:
    """Such as what a Celery to come might send."""
    BY_NAME[name](sender=object(), signal=None)


@pytest.mark.usefixtures("heard")
def test_nonsense_that_is_received_does_not_raise() -> None:
    """It goes on to the receivers of others."""
    told: list[object] = []
    signals.task_received.connect(tell_of := lambda **named: told.append(named["request"]))

    signals.task_received.send(sender=object(), request=None)
    signals.task_received.disconnect(tell_of)

    assert (told, reporter.errors) == ([None], 0)  # since it was told of


@pytest.mark.parametrize(
    "exception", [SystemExit, KeyboardInterrupt, GeneratorExit, gevent.Timeout, gevent.GreenletExit]
)
def test_what_is_not_ours_passes(exception: type[BaseException], heard: socket.socket) -> None:
    """Who ends a process from within a handler of ours ends it."""
    with Strike() as watched:
        PLAYS["succeed"]()

    for line in watched.lines:
        with pytest.raises(exception), Strike(line, exception):
            PLAYS["succeed"]()
        assert errors_told(heard) == 0


def test_a_soft_limit_passes_where_the_task_is_who_calls() -> None:
    """As any exception that is meant for it."""

    def be_interrupted() -> None:
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        harmless(be_interrupted)()


@pytest.mark.parametrize("foreign", [False, True])
def test_task_received_is_sent_where_it_is_received(monkeypatch: pytest.MonkeyPatch, foreign: bool) -> None:
    """By Celery only if somebody has connected, as it would find out itself; by others' code always."""
    signal = Signal(name="task_received")
    sent: list[dict[str, Any]] = []
    ours: list[Any] = []

    def theirs(**named: Any) -> list[str]:
        sent.append(named)
        return ["theirs"]

    if foreign:
        monkeypatch.setattr(signal, "send", theirs)
    send = receiving(signal, ours.append)

    before = send(sender="w", request="first")
    signal.connect(theirs, weak=False)
    send(sender="w", request="second")

    assert before == (["theirs"] if foreign else [])
    assert ours == ["first", "second"]
    assert [each["request"] for each in sent] == (["first", "second"] if foreign else ["second"])


def test_what_others_have_wrapped_is_watched_all_the_same_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands around Celery's is no sign that we have been there."""
    for owner, name in WATCHED:
        monkeypatch.setattr(owner, name, wraps(getattr(owner, name))(lambda *_, **__: []))
    ours: list[Any] = []
    monkeypatch.setattr(consumer, "received", ours.append)
    consumer.watch.cache_clear()

    for _ in range(2):
        consumer.watch()
    signals.task_received.send(sender="w", request="it")

    assert ours == ["it"]
