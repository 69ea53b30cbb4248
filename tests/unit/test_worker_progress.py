"""What tasks say of themselves is noticed, bounded, and changes nothing for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from celery.result import AsyncResult, ResultSet

from celery_observe import instrument
from celery_observe.fact import Outcome
from celery_observe.report import AnyReport, Execution, Labelling, Progress, Running, decode, encode
from celery_observe.worker import course as courses
from celery_observe.worker import progress
from celery_observe.worker.course import FREELY, LONGEST, MOST_STATES, OTHER, Course
from celery_observe.worker.labels import Labeller, labeller
from celery_observe.worker.progress import ratio_of
from celery_observe.worker.reporter import Reporter, reporter

app = Celery("progress", broker="memory://", backend="cache+memory://", set_as_current=False)
task: Callable[..., Callable[[Callable[..., Any]], Any]] = app.task  # Celery's, with a type


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[AnyReport]:
    """The reports that are sent, instead of a socket."""
    reports: list[AnyReport] = []
    monkeypatch.setattr(Reporter, "send", lambda _self, report: reports.append(report))
    instrument(app)
    progress.watch()
    return reports


class Clock:
    """Stands until told."""

    now = 100.0

    def __call__(self) -> float:
        """Return its time, in seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of courses."""
    standing = Clock()
    monkeypatch.setattr(courses, "_clock", standing)
    monkeypatch.setattr("celery_observe.worker.course.time.time", standing)
    return standing


@pytest.fixture
def course(clock: Clock) -> Course:
    """That of an attempt which has told nothing yet."""
    return Course("w@h", Running("a", "t", clock.now))


def ended(course: Course) -> Execution:
    """What is reported at the end."""
    report = Execution(0.0, "w@h", "a", "t", Outcome.SUCCEEDED)
    course.end(report)
    return report


# -- courses


def test_the_time_in_each_state_is_summed(course: Course, clock: Clock) -> None:
    """Of a task that goes back and forth, and that ends in one."""
    for state, seconds in (("A", 1.0), ("B", 2.0), ("A", 4.0)):
        course.enter(state, None)
        clock.now += seconds

    assert ended(course).states == {"A": 5.0, "B": 2.0}


def test_a_state_of_celerys_own_ends_a_users(course: Course, clock: Clock) -> None:
    """Such as FAILURE, which tasks set before they raise Ignore."""
    course.enter("A", None)
    clock.now += 1.0
    course.enter(None, None)
    clock.now += 1.0

    assert ended(course).states == {"A": 1.0}


def test_what_is_told_on_the_way_says_since_when(course: Course, clock: Clock, sent: list[AnyReport]) -> None:
    """So that the main process can go on counting if the child is killed."""
    course.enter("A", 0.25)
    clock.now += 3.0
    course.enter("B", None)
    clock.now += 1.0
    course.advance(0.5)

    told = [report for report in sent if isinstance(report, Progress)]
    assert [(report.state, report.since, report.ratio, report.states) for report in told] == [
        ("A", 100.0, 0.25, None),
        ("B", 103.0, None, {"A": 3.0}),
        ("B", 103.0, 0.5, {"A": 3.0}),
    ]


def test_progress_is_told_freely_and_then_once_a_second(course: Course, clock: Clock, sent: list[AnyReport]) -> None:
    """A task may say it for each of a million rows."""
    for _ in range(FREELY + 1000):
        course.advance(0.5)
    before = len(sent)
    clock.now += 1.0
    course.advance(0.6)
    course.advance(0.7)

    assert (before, len(sent)) == (FREELY, FREELY + 1)


def test_states_of_an_attempt_are_bounded(course: Course, clock: Clock, sent: list[AnyReport]) -> None:
    """Some put a number into each; no text is too long or unfit for the wire."""
    for number in range(100):
        course.enter(f"ROW {number} " + "\udc80" * 200, None)
        clock.now += 1.0

    report = ended(course)
    states = report.states or {}
    assert (len(states), sum(states.values()), states[OTHER]) == (MOST_STATES + 1, 100.0, 80.0)
    assert max(map(len, states)) == LONGEST
    assert decode(encode([report, *sent]), print) == [report, *sent]


def test_waits_within_waits_are_one(course: Course, clock: Clock, sent: list[AnyReport]) -> None:
    """A group waits for each of its members; two waits one after the other are added."""
    for _ in range(2):
        course.wait()
        course.wait()
        clock.now += 2.0
        course.go_on()
        course.go_on()
        clock.now += 5.0

    assert ended(course).blocked == 4.0
    told = [(report.waiting, report.blocked) for report in sent if isinstance(report, Progress)]
    assert told == [(100.0, None), (None, 2.0), (107.0, 2.0), (None, 4.0)]


def test_the_end_of_a_wait_is_told_if_its_beginning_was(course: Course, sent: list[AnyReport]) -> None:
    """However much was told in between."""
    for _ in range(FREELY - 1):
        course.advance(0.5)

    course.wait()
    course.go_on()
    course.wait()
    course.go_on()

    assert len(sent) == FREELY + 1


# -- meta


@pytest.mark.parametrize(
    ("meta", "ratio"),
    [
        ({"step": 1, "total": 4}, 0.25),
        ({"current": 3, "total": 4, "percent": 10}, 0.75),
        ({"done": 0, "total": 4.0}, 0.0),
        ({"percent": 40}, 0.4),
        ({"percentage": 100.0, "total": None}, 1.0),
        ({"step": 5, "total": 4}, None),
        ({"step": 1, "total": 0}, None),
        ({"step": -1, "total": 4}, None),
        ({"step": True, "total": 4}, None),
        ({"step": "1", "total": "4"}, None),
        ({"step": float("nan"), "total": 4}, None),
        ({"step": 1, "total": 10**400}, None),
        ({"progress": 50}, None),  # of a hundred, or of one?
        ({}, None),
        (None, None),
        ([1, 4], None),
    ],
)
def test_how_much_is_done_is_read_where_it_is_plain(meta: Any, ratio: float | None) -> None:
    """By the names that are common for it, and never guessed."""
    assert ratio_of(meta) == ratio


# -- tasks


def execute(named: Any, **kwargs: Any) -> Any:
    """Execute a task as a pool child does; what it returned."""
    request = {"id": "a", "task": named.name, "delivery_info": {"exchange": "", "routing_key": "q"}, "hostname": "w@h"}
    trace = build_tracer(named.name, named, app=app)
    return trace("a", (), kwargs, {**request, "kwargs": kwargs}).retval


def of_kind(sent: list[AnyReport], kind: type[Any]) -> list[Any]:
    """The reports of one kind."""
    return [report for report in sent if isinstance(report, kind)]


@task(name="tell", bind=True)
def tell(self: Any) -> None:
    """Say things of itself, of another task, and nothing new."""
    self.update_state(state="VALIDATING", meta={"step": 1, "total": 4, "card": "4111"})
    self.update_state("other-id", "ELSEWHERE")
    self.update_state(meta={"step": 2, "total": 4})


def test_what_a_task_says_is_stored_and_told(sent: list[AnyReport]) -> None:
    """Celery does what it did; the rest of the meta stays with it."""
    execute(tell)

    told = of_kind(sent, Progress)
    assert [(report.state, report.ratio, report.attempt.queue) for report in told] == [
        ("VALIDATING", 0.25, "q"),
        ("VALIDATING", 0.5, "q"),
    ]
    assert list(of_kind(sent, Execution)[0].states) == ["VALIDATING"]
    assert AsyncResult("other-id", app=app).state == "ELSEWHERE"
    assert b"4111" not in encode(sent)


@task(name="ask")
def ask() -> list[object]:
    """Wait for what is there already, in every way."""
    app.backend.store_result("good", 7, "SUCCESS")
    app.backend.store_result("fine", 8, "SUCCESS")
    good, fine = AsyncResult("good", app=app), AsyncResult("fine", app=app)
    group = ResultSet([good, fine], app=app)
    return [good.get(disable_sync_subtasks=False), group.join(), group.get()]


def test_a_task_that_waits_gets_what_it_waits_for(sent: list[AnyReport]) -> None:
    """And it is told that it did."""
    answers = execute(ask)

    assert answers == [7, [7, 8], [7, 8]]
    assert of_kind(sent, Execution)[0].blocked > 0.0


@task(name="be_quiet")
def be_quiet() -> int:
    """Say nothing."""
    return 7


def test_a_task_that_says_nothing_costs_nothing(sent: list[AnyReport]) -> None:
    """One report, as before."""
    execute(be_quiet)

    (report,) = sent
    assert isinstance(report, Execution)
    assert (report.states, report.blocked, report.labels) == (None, None, None)


def test_outside_of_tasks_nothing_is_told(sent: list[AnyReport]) -> None:
    """A script that waits for its results, or an eager call, is no attempt."""
    ask()
    tell.apply()

    assert sent == []


def test_turned_off_nothing_is_told(sent: list[AnyReport]) -> None:
    """As everywhere."""
    reporter.turn(off=True)
    try:
        execute(tell)
    finally:
        reporter.turn(off=False)

    assert sent == []


# -- labels


@pytest.fixture
def label() -> Iterator[Callable[[Callable[[Any], Any]], None]]:
    """Have tasks labelled by a callable."""

    def label(call: Callable[[Any], Any]) -> None:
        labeller.given = call
        labeller.settle(("tenant", "plan"))

    yield label
    labeller.given = None
    labeller.settle(())


@task(name="serve")
def serve(tenant: object) -> str:
    """Serve somebody."""
    return str(tenant)


def test_a_callable_labels_tasks(sent: list[AnyReport], label: Callable[..., None]) -> None:
    """At their start and their end, by the names that are declared, as text."""
    label(lambda task: {"tenant": task.request.kwargs["tenant"], "plan": None, "card": "4111"})

    execute(serve, tenant=42)

    first, last = sent
    assert isinstance(first, Labelling)
    assert isinstance(last, Execution)
    assert (first.labels, first.failed, last.labels) == ({"tenant": "42"}, False, {"tenant": "42"})
    assert 0.0 <= first.seconds < 1.0


def fail(_task: Any) -> None:
    """Raise, as callables may."""
    raise KeyError("k")


@pytest.mark.parametrize("call", [fail, lambda _task: ["no", "mapping"], lambda _: 7], ids=["raises", "list", "int"])
def test_a_callable_that_fails_is_counted(
    sent: list[AnyReport], label: Callable[..., None], call: Callable[[Any], Any]
) -> None:
    """As itself, not as us; the task goes on."""
    label(call)
    before = reporter.errors

    assert execute(serve, tenant="acme") == "acme"

    first, last = sent
    assert isinstance(first, Labelling)
    assert isinstance(last, Execution)
    assert (first.failed, last.outcome, last.labels) == (True, Outcome.SUCCEEDED, None)
    assert reporter.errors == before


@pytest.mark.parametrize(("given", "names"), [(fail, ()), ("no callable", ("tenant",))])
def test_labels_that_cannot_be_told_are_said_so(
    caplog: pytest.LogCaptureFixture, given: Any, names: tuple[str, ...]
) -> None:
    """In the log, when the worker starts."""
    unused = Labeller()
    unused.given = given

    unused.settle(names)

    assert "no task is labelled" in caplog.text
    assert not unused.is_wanted
