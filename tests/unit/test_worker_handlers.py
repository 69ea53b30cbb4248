"""What our handlers make of what Celery's signals tell, without a worker."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery import Celery
from celery.exceptions import Ignore, Reject
from kombu import Exchange, Queue
from kombu.exceptions import EncodeError

from celery_observe import instrument
from celery_observe.cause import Failure
from celery_observe.fact import Cause, Outcome
from celery_observe.report import AnyReport, Arrival, Execution, Publication
from celery_observe.worker import census, commands, consumer, executions, publisher
from celery_observe.worker.arrivals import Arrivals, arrivals
from celery_observe.worker.children import Children
from celery_observe.worker.ending import Ending
from celery_observe.worker.guard import handler, harmless
from celery_observe.worker.headers import FIRST_PUBLISHED, PUBLISHED, RECEIVED, seconds_of, stamped_now
from celery_observe.worker.memory import resident_memory, resident_memory_of_all
from celery_observe.worker.pulse import CHILDLESS_AFTER, STUCK_AFTER, Pulse
from celery_observe.worker.queues import QueueNames
from celery_observe.worker.reporter import Reporter, reporter


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[AnyReport]:
    """The reports that are sent, instead of a socket."""
    reports: list[AnyReport] = []
    monkeypatch.setattr(Reporter, "send", lambda _self, report: reports.append(report))
    monkeypatch.setattr(Reporter, "has_listener", property(lambda _self: True))
    return reports


# -- queues


@pytest.fixture
def names() -> QueueNames:
    """Of an app with queues of every kind of exchange."""
    topic, fanout = Exchange("events", type="topic"), Exchange("all", type="fanout")
    known = QueueNames()
    known.declare(
        [
            Queue("mail", Exchange("mail", type="direct"), routing_key="mail.key"),
            Queue("orders", topic, routing_key="order.#"),
            Queue("paid", topic, routing_key="*.paid"),
            Queue("news", fanout),
        ]
    )
    return known


@pytest.mark.parametrize(
    ("exchange", "routing_key", "queue"),
    [
        ("", "celery", "celery"),
        (None, "celery", "celery"),
        ("", "", None),
        ("mail", "mail.key", "mail"),
        ("mail", "other", None),
        ("events", "order.new.now", "orders"),
        ("events", "order", "orders"),
        ("events", "bill.paid", "paid"),
        ("events", "order.paid", None),
        ("all", "whatever", "news"),
        ("unknown", "celery", None),
    ],
)
def test_a_queue_is_named_if_only_one_takes_the_message(
    names: QueueNames, exchange: str | None, routing_key: str, queue: str | None
) -> None:
    """As AMQP routes: by name, key, pattern, or to all."""
    assert names.of({"exchange": exchange, "routing_key": routing_key}) == queue


def test_names_that_are_remembered_are_bounded(names: QueueNames) -> None:
    """Routing keys may be anything."""
    for number in range(25_000):
        assert names.of({"exchange": "events", "routing_key": f"order.{number}"}) == "orders"

    assert len(names) <= 10_000


def test_a_message_without_delivery_info_has_no_queue(names: QueueNames) -> None:
    """Such as that of an eager task."""
    assert names.of(None) is None


# -- receiving


def receive(*priorities: Any, redelivered: bool = False) -> None:
    """Hand over messages of these priorities."""
    for priority in priorities:
        info = {"exchange": "", "routing_key": "q", "priority": priority, "redelivered": redelivered}
        fields = {"id": "a", "task": "t", "delivery_info": info}
        consumer.received(SimpleNamespace(id="a", name="t", _request_dict=fields))


def test_messages_that_have_all_in_common_are_told_of_together(sent: list[AnyReport]) -> None:
    """Once, and not before they are asked for."""
    arrivals.take()

    receive(0, 0, 3, 256, "high")
    receive(0, redelivered=True)

    assert arrivals.take() == [
        Arrival("t", "q", 0, count=2),
        Arrival("t", "q", 3),
        Arrival("t", "q"),
        Arrival("t", "q"),
        Arrival("t", "q", 0, redelivered=True),
    ]
    assert not arrivals.take()
    assert not sent


def test_more_messages_than_one_report_may_tell_of_are_told_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long nobody has asked for them."""
    arrivals.take()
    monkeypatch.setattr("celery_observe.worker.arrivals.MOST_ARRIVALS", 3)

    receive(*[0] * 7)

    assert [each.count for each in arrivals.take()] == [3, 3, 1]


def test_messages_that_celery_did_not_make_are_counted() -> None:
    """As far as they say anything."""
    arrivals.take()

    arrivals.add("t", {"routing_key": "q"})
    arrivals.add("t", {"exchange": "", "routing_key": "q", "priority": [1], "redelivered": {}})
    arrivals.add("t", {"exchange": ["e"], "routing_key": None, "priority": None, "redelivered": None})

    assert arrivals.take() == [Arrival("t", "q"), Arrival("t", "q"), Arrival("t")]


def test_kinds_of_messages_are_bounded_and_make_room_once_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routing keys may be anything. What came twice as many kinds ago, untold, is kept; then it is counted as lost."""
    monkeypatch.setattr("celery_observe.worker.arrivals._MOST_KINDS", 2)
    monkeypatch.setattr(reporter, "dropped", 0)
    few, info = Arrivals(), {"exchange": "", "priority": None, "redelivered": False}

    for key in "abcade":
        few.add("t", {**info, "routing_key": key})
    told = few.take()
    for key in "fgg":
        few.add("t", {**info, "routing_key": key})

    assert told == [Arrival("t", "a"), Arrival("t", "b"), Arrival("t", "c"), Arrival("t", "a")]
    assert few.take() == [Arrival("t", "f"), Arrival("t", "g", count=2)]
    assert reporter.dropped == 2


def test_messages_are_counted_while_another_thread_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, also where kinds make room for others meanwhile."""
    monkeypatch.setattr("celery_observe.worker.arrivals._MOST_KINDS", 3)
    monkeypatch.setattr(reporter, "dropped", 0)
    before = sys.getswitchinterval()
    few, told, done = Arrivals(), Counter[str | None](), threading.Event()

    def tell() -> None:
        while not done.is_set():
            for each in few.take():
                told[each.queue] += each.count

    telling = threading.Thread(target=tell)
    sys.setswitchinterval(1e-6)
    try:
        telling.start()
        for number in range(20_000):
            few.add("t", {"exchange": "", "routing_key": f"q{number % 7}", "priority": None, "redelivered": False})
    finally:
        done.set()
        telling.join()
        sys.setswitchinterval(before)
    rest = sum(each.count for each in few.take())

    assert told.total() + rest + reporter.dropped == 20_000


# -- publishing


@pytest.mark.parametrize("stamp", [None, "1", 1.5, True, -1, 2**62, 2**2000, [1]])
def test_what_is_no_stamp_tells_no_time(stamp: Any) -> None:
    """Anybody may write headers."""
    assert seconds_of(stamp) is None


def test_a_stamp_is_this_moment() -> None:
    """In microseconds, so that its digits are few."""
    assert seconds_of(stamped_now()) == pytest.approx(time.time(), abs=5.0)


def test_the_stamp_is_overwritten_and_the_first_is_kept() -> None:
    """A retry carries the headers of the attempt before."""
    first: dict[str, Any] = {"retries": 0, PUBLISHED: 1, FIRST_PUBLISHED: 1}
    publisher.stamp(first)
    again = {**first, "retries": 1, RECEIVED: 3.0}
    publisher.stamp(again)
    third = {**again, "retries": 2}

    publisher.stamp(third)

    assert 1 < first[PUBLISHED] == again[FIRST_PUBLISHED] == third[FIRST_PUBLISHED]
    assert first[PUBLISHED] < again[PUBLISHED] < third[PUBLISHED]
    assert FIRST_PUBLISHED not in first
    assert RECEIVED not in again


def test_a_first_publish_that_was_not_stamped_stays_unknown() -> None:
    """The time of a retry is not taken for it."""
    first: dict[str, Any] = {"retries": 1}
    publisher.stamp(first)
    again = {**first, "retries": 2}

    publisher.stamp(again)

    assert again[FIRST_PUBLISHED] is None


def test_a_publish_is_reported_with_the_time_it_took(sent: list[AnyReport]) -> None:
    """From the stamp on."""
    headers: dict[str, Any] = {}
    publisher.stamp(headers)

    publisher.published("t", headers, "", "q")

    assert isinstance(sent[0], Publication)
    assert (sent[0].name, sent[0].queue) == ("t", "q")
    assert 0.0 <= (sent[0].seconds or -1.0) < 1.0


def test_a_publish_that_fails_is_reported_and_raises(sent: list[AnyReport]) -> None:
    """What the caller sees is what it would see without us."""
    app = Celery("t", broker="memory://", set_as_current=False)
    instrument(app)

    with pytest.raises(EncodeError):
        app.send_task("t", args=[object()], queue="q")

    told = [report for report in sent if isinstance(report, Publication)]
    assert [(report.name, report.queue, report.exception) for report in told] == [("t", "q", "EncodeError")]


# -- executing


def fail_with(exception: BaseException) -> tuple[BaseException, ExceptionInfo]:
    """Raise it, as a task would."""
    try:
        raise exception
    except type(exception) as error:
        return error, ExceptionInfo()


class CardDeclinedError(Exception):
    """An exception of an application's own, whose text is nobody's business."""

    def __str__(self) -> str:
        raise AssertionError("its text was looked at")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("exception", "failure"),
    [
        (KeyError("k"), Failure("KeyError", Cause.EXCEPTION)),
        (
            WorkerLostError("Worker exited prematurely: signal 9 (SIGKILL) Job: 0."),
            Failure("WorkerLostError", Cause.OOM_OR_SIGNAL),
        ),
        (
            WorkerLostError("Worker exited prematurely: exitcode 3 Job: 0."),
            Failure("WorkerLostError", Cause.WORKER_LOST),
        ),
        (SystemExit(3), Failure("SystemExit", Cause.WORKER_LOST)),
    ],
)
def test_a_failure_is_named(exception: BaseException, failure: Failure) -> None:
    """By its class and what that means."""
    assert executions.explain(*fail_with(exception)) == failure


def test_a_failure_is_named_without_its_text() -> None:
    """Which may hold arguments, or fail itself."""
    assert executions.explain(CardDeclinedError(), None).exception == "CardDeclinedError"


def test_a_wrapped_failure_is_named_by_what_is_in_the_wrapper() -> None:
    """A pool wraps what it could not send otherwise."""
    wrapped = ExceptionWithTraceback(KeyError("k"), None)

    assert executions.explain(wrapped, None).exception == "KeyError"


def make_task(**request: Any) -> Any:
    """Return a task with a request on its stack."""
    fields = {
        "is_eager": False,
        "hostname": "w@h",
        "shadow": None,
        "delivery_info": {"exchange": "", "routing_key": "q"},
        "retries": 0,
        "eta": None,
        **request,
    }
    return SimpleNamespace(name="t", request_stack=SimpleNamespace(top=SimpleNamespace(**fields)))


@pytest.mark.parametrize(
    ("state", "retval", "outcome", "requeued"),
    [
        ("SUCCESS", 1, Outcome.SUCCEEDED, False),
        ("FAILURE", KeyError(), Outcome.FAILED, False),
        ("RETRY", None, Outcome.RETRIED, False),
        ("IGNORED", Ignore(), Outcome.IGNORED, False),
        ("IGNORED", Ignore("Replaced by new task"), Outcome.REPLACED, False),
        ("REJECTED", Reject("no", requeue=False), Outcome.REJECTED, False),
        ("REJECTED", Reject("no", requeue=True), Outcome.REJECTED, True),
    ],
)
def test_an_end_is_reported(
    sent: list[AnyReport], state: str, retval: Any, outcome: Outcome, *, requeued: bool
) -> None:
    """By what Celery calls the state, and what the task raised."""
    task = make_task(**{PUBLISHED: 1_000_000, RECEIVED: 2.0})

    executions.begin(task)
    executions.end(task, "id", state, retval)

    (report,) = sent
    assert isinstance(report, Execution)
    assert (report.uuid, report.name, report.queue, report.outcome) == ("id", "t", "q", outcome)
    assert (report.requeued, report.published, report.received) == (requeued, 1.0, 2.0)
    assert report.started is not None


def test_eager_tasks_are_calls(sent: list[AnyReport]) -> None:
    """They have no message and no queue, and the worker does not count them either."""
    task = make_task(is_eager=True)

    executions.begin(task)
    executions.end(task, "id", "SUCCESS", 1)

    assert sent == []


def half(number: float) -> float:
    """A task."""
    return number / 2


def test_calling_a_task_in_place_changes_nothing(sent: list[AnyReport]) -> None:
    """`task_always_eager`, as in the tests of an app."""
    app = Celery("t", broker="memory://", set_as_current=False)
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    instrument(app)
    halve = app.task(half, name="half")

    assert halve.delay(84).get() == 42
    with pytest.raises(TypeError):
        halve.delay("x")
    assert sent == []


def test_an_interrupted_attempt_is_left_to_the_main_process(sent: list[AnyReport]) -> None:
    """Which interrupted it, and knows why."""
    task = make_task()

    executions.begin(task)
    executions.end(task, "id", None, None)

    assert sent == []


# -- the guest


def test_whatever_a_handler_raises_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes nowhere else."""
    monkeypatch.setattr(reporter, "errors", 0)

    def fail(**_: Any) -> None:
        raise MemoryError

    handler(fail)(sender=None)
    harmless(fail)()

    assert reporter.errors == 2


def test_handlers_rest_while_turned_off() -> None:
    """And work again afterwards."""
    calls: list[str] = []
    handle = handler(lambda **_: calls.append("called"))

    commands.celery_observe(None, "off")
    handle()
    commands.celery_observe(None, "on")
    handle()

    assert calls == ["called"]
    assert "error" in commands.celery_observe(None, "maybe")


@pytest.mark.parametrize(
    ("code", "reason"),
    [(0, "exited"), (155, "recycled"), (1, "failed"), (-9, "sigkill"), (-11, "sigsegv"), (-63, "signal")],
)
def test_children_are_counted_by_how_they_went(code: int, reason: str) -> None:
    """Once, and only when billiard has found it out."""
    children = Children()
    process = SimpleNamespace(returncode=None)
    child = SimpleNamespace(_popen=process, pid=77)
    children._meet(SimpleNamespace(_pool=[child]))  # noqa: SLF001 - otherwise the hub of a worker calls it

    assert (children.exits(), children.extinct, children.pids) == ({}, False, [77])
    process.returncode = code
    assert (children.extinct, children.pids) == (True, [])
    assert children.exits() == children.exits() == {reason: 1}


def test_a_child_that_billiard_has_not_yet_put_away_counts_once() -> None:
    """It may have been reaped, and told of, while it still stands in the pool as the next one is made."""
    children, pool = Children(), SimpleNamespace(_pool=[SimpleNamespace(_popen=SimpleNamespace(returncode=-9))])
    for _ in range(3):
        children._meet(pool)  # noqa: SLF001 - otherwise the hub of a worker calls it
        assert children.exits() == {"sigkill": 1}
        pool._pool.append(SimpleNamespace(_popen=SimpleNamespace(returncode=None)))  # noqa: SLF001 - billiard's name

    assert not children.extinct


@pytest.mark.parametrize(("ended_with_its_job", "reason"), [(False, "shrunk"), (True, "sigterm")])
def test_a_child_of_a_pool_that_was_made_smaller_was_not_killed(ended_with_its_job: bool, reason: str) -> None:
    """Billiard terminates both it and the child of a task that is revoked."""
    children = Children()
    child = SimpleNamespace(_popen=SimpleNamespace(returncode=-15), pid=77, _controlled_termination=True)
    child._job_terminated = ended_with_its_job  # noqa: SLF001 - billiard's name
    children._meet(SimpleNamespace(_pool=[child]))  # noqa: SLF001 - otherwise the hub of a worker calls it

    assert children.exits() == {reason: 1}


@pytest.mark.parametrize(
    ("signals", "exitcode", "reason"),
    [
        (["SIGTERM"], 0, "sigterm"),
        (["SIGINT", "SIGQUIT"], 1, "sigint"),
        ([], 0, "remote_control"),
        ([], None, "remote_control"),
        ([], 1, "error"),
    ],
)
def test_what_has_stopped_a_worker_is_known_when_it_leaves(
    signals: list[str], exitcode: int | None, reason: str
) -> None:
    """A signal before that. The first of several counts."""
    ending, controller = Ending(), SimpleNamespace(exitcode=exitcode)
    assert ending.reason(controller, leaving=False) == ""
    for name in signals:
        ending.take(sig=name, how="Warm", exitcode=0)

    assert ending.reason(controller, leaving=False) == (reason if signals else "")
    assert ending.reason(controller, leaving=True) == reason


def test_memory_is_told_of_processes_that_there_are() -> None:
    """More than Python needs, and nothing of what is gone."""
    gone = subprocess.Popen(["true"])
    gone.wait()
    own = resident_memory(os.getpid()) or 0

    assert 10_000_000 < own < 4_000_000_000
    assert own * 0.9 < (resident_memory_of_all([os.getpid(), gone.pid]) or 0) < own * 1.1
    assert resident_memory(gone.pid) is None
    assert resident_memory_of_all([gone.pid]) is None


def worker(*, queues: tuple[str, ...] = ("q",), pool: str = "celery.concurrency.prefork") -> Any:
    """Return as much of a worker as its pulse needs."""
    consumed = SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(consume_from=queues)))
    return SimpleNamespace(app=consumed, pool=type("TaskPool", (), {"__module__": pool})())


class Garbage:
    """A request that only the garbage collector gets rid of."""

    def __init__(self) -> None:
        self.itself = self


def test_requests_are_read_whenever_garbage_is_collected() -> None:
    """Those that are garbage are gone from Celery's set at that moment."""
    thresholds = gc.get_threshold()
    for allocations in range(10):
        requests: WeakSet[Garbage] = WeakSet()
        gc.collect()
        gc.disable()
        for _ in range(50):
            requests.add(Garbage())
        gc.set_threshold(gc.get_count()[0] + allocations)
        gc.enable()
        try:
            census._members(requests)  # noqa: SLF001 - all else of a census allocates before
        finally:
            gc.set_threshold(*thresholds)


def test_a_worker_that_consumes_is_well() -> None:
    """Its loop ticks."""
    pulse = Pulse(worker(), Children())

    assert pulse.troubles() == ["not connected to the broker"]
    pulse.begin()
    assert (pulse.ailments(), pulse.troubles(), pulse.is_consuming) == ([], [], True)
    pulse.end()
    assert (pulse.ailments(), pulse.is_consuming) == ([], False)


def test_a_loop_that_stands_still_is_an_ailment(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not while there is no broker: then it is Celery's reconnecting that keeps it."""
    now = 100.0
    monkeypatch.setattr("celery_observe.worker.pulse.time.monotonic", lambda: now)
    pulse = Pulse(worker(), Children())
    pulse.begin()

    now += STUCK_AFTER + 1.0

    assert pulse.ailments() == ["its loop is stuck"]
    pulse.end()
    assert pulse.ailments() == []


def test_a_pool_without_children_is_an_ailment_when_it_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two children there is none, and an autoscaler may want none."""
    now = 100.0
    monkeypatch.setattr("celery_observe.worker.pulse.time.monotonic", lambda: now)
    children, process, observed = Children(), SimpleNamespace(returncode=None), worker()
    pulse = Pulse(observed, children)
    children._meet(SimpleNamespace(_pool=[SimpleNamespace(_popen=process)]))  # noqa: SLF001 - otherwise the hub of a worker calls it

    process.returncode = -9
    children.exits()
    found = [pulse.ailments()]
    now += CHILDLESS_AFTER + 1.0
    found.append(pulse.ailments())
    observed.pool.num_processes = 0
    found.append(pulse.ailments())

    assert found == [[], ["no child of the pool lives"], []]


def test_a_worker_told_to_consume_nothing_is_not_ready() -> None:
    """`control.cancel_consumer` does that; it lives, though."""
    pulse = Pulse(worker(queues=()), Children())
    pulse.begin()

    assert (pulse.ailments(), pulse.troubles()) == ([], ["consumes no queue"])


# -- what a process imports


def imported(code: str) -> set[str]:
    """The modules that this code imports."""
    command = [sys.executable, "-P", "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())


def test_celerys_command_line_leaves_structlog_to_the_user() -> None:
    """It imports our command, and a worker binds the context of each task where structlog is imported."""
    assert "structlog" not in imported("import celery_observe.cli")


def test_importing_the_package_costs_nothing() -> None:
    """Not even Celery."""
    assert not imported("import celery_observe") & {"celery", "kombu", "msgspec"}


def test_a_publisher_imports_no_server() -> None:
    """Nothing of what serves metrics, nor what logs."""
    heavy = {"tornado", "prometheus_client", "structlog", "hiredis", "asyncio", "celery_observe.pipeline"}

    assert not imported("from celery_observe import instrument\ninstrument()") & heavy


def test_the_off_switch_connects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """CELERY_OBSERVE_DISABLED=1."""
    monkeypatch.setenv("CELERY_OBSERVE_DISABLED", "1")

    code = "from celery_observe import instrument\ninstrument()\nfrom celery import signals"
    modules = imported(f"{code}\nassert not signals.task_prerun.receivers")

    assert "celery" in modules


@pytest.mark.parametrize("settings", [{"port": "no"}, {"colour": "red"}, {"sidecar": "/run/s"}])
def test_a_wrong_setting_is_logged_and_nothing_raises(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    """A typo must not keep the user's app from starting."""
    monkeypatch.setattr("celery_observe.worker.instrumentation._given", {})

    instrument(None, **settings)

    assert "nothing is measured" in caplog.text
