"""Reports become facts, each attempt counted once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from celery_observe.fact import (
    Blocked,
    Cause,
    DuplicateExecution,
    DuplicateOutcome,
    Ended,
    Fact,
    Failed,
    InState,
    Outcome,
    PluginRan,
    Received,
    Redelivered,
    Started,
    TaskLimited,
    Unobserved,
    Used,
    WorkerExited,
    WorkerReported,
    WorkerStopped,
    WorkerUp,
)
from celery_observe.fleet import Fleet, Instant
from celery_observe.journal import Journal
from celery_observe.report import (
    AnyReport,
    Arrival,
    Beat,
    Execution,
    Labelling,
    Limit,
    Listing,
    Loss,
    Progress,
    Publication,
    Reception,
    Refusal,
    Running,
)

NODE = "w@h"


class Desk:
    """A journal and what it has told; the clock goes with the reports."""

    def __init__(self, **options: Any) -> None:
        self.facts: list[Fact] = []
        self.fleet = Fleet(self.facts.append)
        self.journal = Journal(self.facts.append, self.fleet, **options)

    def tell(self, *reports: AnyReport) -> None:
        """Hand reports in, each at its own time."""
        for report in reports:
            self.journal.handle([report], Instant(report.timestamp, report.timestamp))

    def told(self, kind: type[Fact]) -> list[Any]:
        """Return the facts of one kind."""
        return [fact for fact in self.facts if type(fact) is kind]

    @property
    def outcomes(self) -> list[str]:
        """The outcomes, in their order."""
        return [str(fact.outcome) for fact in self.told(Ended)]


def execution(at: float = 11.0, outcome: Outcome = Outcome.SUCCEEDED, **fields: Any) -> Execution:
    """Return a report of an attempt that began at 10, unless told otherwise."""
    given = {"uuid": "a", "name": "t", "queue": "q", "started": 10.0, **fields}
    return Execution(at, NODE, outcome=outcome, **given)


def beat(at: float, **fields: Any) -> Beat:
    """Return what a worker says each second."""
    return Beat(at, NODE, **{"pid": 1, "active": 0, "processed": 0, **fields})


def listing(at: float, *uuids: str, started: float = 10.0) -> Listing:
    """Return a report of what runs."""
    return Listing(at, NODE, [Running(uuid, "t", started, queue="q", published=9.0) for uuid in uuids])


@pytest.fixture
def desk() -> Desk:
    """An empty journal."""
    return Desk()


def test_one_report_tells_start_waits_end_and_total(desk: Desk) -> None:
    """Nothing has to be joined."""
    desk.tell(execution(runtime=0.9, published=7.0, first_published=4.0, received=9.5, retries=1))

    assert desk.told(Started) == [Started("t", "q", NODE, 0.5, 3.0)]
    assert desk.told(Ended) == [Ended("t", "q", NODE, Outcome.SUCCEEDED, 0.9, 7.0)]


def test_a_wait_begins_at_the_eta(desk: Desk) -> None:
    """Waiting for its time is no waiting for a worker."""
    desk.tell(execution(published=1.0, received=2.0, eta="1970-01-01T00:00:08+00:00"))

    assert (desk.told(Started)[0].worker_wait, desk.told(Started)[0].queue_wait) == (2.0, 2.0)


def test_a_failure_tells_its_class_and_cause(desk: Desk) -> None:
    """As the process that saw the exception named them."""
    desk.tell(execution(outcome=Outcome.FAILED, exception="KeyError", cause=Cause.RETRIES_EXHAUSTED))

    assert desk.told(Failed) == [Failed("t", "q", NODE, "KeyError", Cause.RETRIES_EXHAUSTED)]


def test_what_never_started_ends_without_a_start(desk: Desk) -> None:
    """A revoked task was received, no more."""
    desk.tell(execution(outcome=Outcome.REVOKED, started=None))

    assert (desk.outcomes, desk.told(Started), desk.told(Ended)[0].runtime) == (["revoked"], [], None)


def test_a_hard_limit_told_twice_is_one_failure(desk: Desk) -> None:
    """The main process announces it once for the time limit and once for the child it has lost by that."""
    desk.tell(*[execution(at, Outcome.FAILED, exception="TimeLimitExceeded") for at in (11.0, 11.2)])

    assert (desk.outcomes, len(desk.told(Failed)), len(desk.told(DuplicateOutcome))) == (["failed"], 1, 1)


def test_the_first_end_is_believed(desk: Desk) -> None:
    """A greenlet that goes on after it was revoked ends once; its own clock and the worker's differ a little."""
    desk.tell(execution(11.0, Outcome.TERMINATED), execution(12.0, started=10.02))

    assert desk.outcomes == ["terminated"]
    assert len(desk.told(Started)) == 1


def test_a_message_put_back_is_executed_anew(desk: Desk) -> None:
    """Both executions count, and neither is a duplicate."""
    desk.tell(execution(11.0, Outcome.REJECTED, requeued=True), execution(11.02, started=11.01, received=11.0))

    assert desk.outcomes == ["rejected", "succeeded"]
    assert (len(desk.told(Started)), desk.told(DuplicateExecution)) == (2, [])


def test_executing_twice_is_noticed(desk: Desk) -> None:
    """A message that was delivered again after its task had succeeded."""
    desk.tell(execution(11.0), execution(21.0, started=20.0, received=19.0))

    assert desk.told(DuplicateExecution) == [DuplicateExecution("t", "q", NODE)]
    assert len(desk.told(Started)) == 2


def test_executing_twice_at_once_has_one_outcome(desk: Desk) -> None:
    """The second execution began before the first had ended."""
    desk.tell(execution(15.0, started=10.0), execution(16.0, started=12.0, received=11.0))

    assert desk.outcomes == ["succeeded"]
    assert (len(desk.told(Started)), len(desk.told(DuplicateExecution)), len(desk.told(DuplicateOutcome))) == (2, 1, 1)


@pytest.mark.parametrize("outcome", [Outcome.REPLACED, Outcome.IGNORED])
def test_a_task_that_passes_its_id_on_hides_no_end(desk: Desk, outcome: Outcome) -> None:
    """What it replaced itself with may have started before it ended, and may even have ended."""
    first, second = execution(11.0, outcome), execution(12.0, name="u", started=10.9, received=10.8)
    other = Desk()

    desk.tell(first, second)
    other.tell(second, first)

    assert desk.outcomes == [str(outcome), "succeeded"]
    assert other.outcomes == ["succeeded", str(outcome)]
    assert not other.told(DuplicateExecution)


def test_retries_are_attempts_of_their_own(desk: Desk) -> None:
    """In whatever order they are told."""
    desk.tell(execution(12.0, retries=1, started=11.0), execution(11.1, Outcome.RETRIED))

    assert desk.outcomes == ["succeeded", "retried"]
    assert len(desk.told(Started)) == 2


def test_what_runs_is_counted_when_first_listed_and_once(desk: Desk) -> None:
    """Not only when it ends, which may take hours."""
    desk.tell(listing(11.0, "a"), beat(11.0, active=1, processed=1, listed=1))
    running = desk.journal.running()
    desk.tell(execution(12.0))

    assert [(key, entry.count, entry.oldest) for key, entry in running.items()] == [(("t", "q"), 1, 10.0)]
    assert (len(desk.told(Started)), desk.outcomes) == (1, ["succeeded"])
    assert desk.journal.running() == {}


def test_a_listing_that_its_end_has_overtaken_starts_nothing(desk: Desk) -> None:
    """Processes race for the socket."""
    desk.tell(execution(11.0), listing(11.0, "a"), beat(11.1, active=1, processed=1, listed=1))

    assert len(desk.told(Started)) == 1
    assert desk.journal.running() == {}


def test_what_is_listed_no_more_has_vanished(desk: Desk) -> None:
    """After a moment in which its end may arrive; should that come later still, it is not counted again."""
    desk.tell(listing(11.0, "a"), beat(11.0, active=1, processed=1, listed=1))
    desk.tell(beat(12.0, processed=1))
    before = desk.outcomes
    desk.tell(beat(13.0, processed=1), execution(13.5, started=10.01))

    assert (before, desk.outcomes) == ([], ["vanished"])


def test_an_incomplete_listing_says_nothing_of_what_it_leaves_out(desk: Desk) -> None:
    """One of its datagrams was dropped."""
    desk.tell(listing(11.0, "a"), beat(11.0, active=1, processed=1, listed=1))
    desk.tell(*[report for at in (12.0, 13.0, 14.0) for report in (listing(at, "b"), beat(at, processed=2, listed=2))])

    assert desk.outcomes == []


def test_a_worker_that_restarts_takes_what_it_ran_with_it(desk: Desk) -> None:
    """Its new process has another pid."""
    desk.tell(listing(11.0, "a"), beat(11.0, active=1, processed=1, listed=1), beat(12.0, pid=2))

    assert desk.outcomes == ["vanished"]
    assert [fact.kind for fact in desk.told(WorkerExited)] == ["restarted"]


def test_a_worker_says_goodbye(desk: Desk) -> None:
    """It is not waited for."""
    desk.tell(beat(11.0), beat(12.0, leaving=True))
    desk.journal.tick(Instant(30.0, 30.0))

    assert [(fact.up) for fact in desk.told(WorkerUp)] == [1, 0]
    assert [fact.kind for fact in desk.told(WorkerExited)] == ["shutdown"]


def test_what_stops_a_worker_is_counted_once_for_each_process(desk: Desk) -> None:
    """However long it takes to end, and whatever else comes."""
    desk.tell(beat(1.0), beat(2.0, stopped_by="sigterm"), beat(3.0, stopped_by="sigterm", leaving=True))
    desk.tell(beat(4.0, pid=2), beat(5.0, pid=2, stopped_by="remote_control", leaving=True))

    assert [fact.reason for fact in desk.told(WorkerStopped)] == ["sigterm", "remote_control"]


def test_a_silent_worker_is_lost_and_forgotten(desk: Desk) -> None:
    """What ran there has vanished."""
    desk.tell(listing(11.0, "a"), beat(11.0, active=1, processed=1, listed=1))
    desk.journal.tick(Instant(1000.0, 1000.0))

    assert desk.outcomes == ["vanished"]
    assert len(desk.journal) == 1


def test_a_dropped_report_is_an_unobserved_task(desk: Desk) -> None:
    """The worker accepted two tasks, and only one was told of."""
    desk.tell(beat(9.0), execution(11.0), *[beat(at, processed=2) for at in (12.0, 13.0, 14.0, 15.0)])

    assert sum(fact.count for fact in desk.told(Unobserved)) == 1


@pytest.mark.parametrize("told_first", [False, True])
def test_a_child_that_is_ahead_of_the_first_beat_loses_nothing(desk: Desk, *, told_first: bool) -> None:
    """It had started, or even told of the end, when the main process had not yet noticed that it accepted."""
    first, report = beat(10.5, slots=1), execution(10.4 if told_first else 11.0)
    desk.tell(*((report, first) if told_first else (first, report)))

    desk.tell(*[beat(at, processed=1) for at in (11.5, 12.5, 13.5, 14.5)])

    assert sum(fact.count for fact in desk.told(Unobserved)) == 0


def test_what_was_executing_before_the_first_beat_makes_up_for_no_loss(desk: Desk) -> None:
    """The beat counts what it lists: of the two tasks after it one is missing."""
    desk.tell(listing(10.5, "a"), beat(10.5, active=1, processed=1, listed=1, slots=1), execution(11.0))

    desk.tell(execution(11.2, uuid="b", started=11.1), *[beat(at, processed=3) for at in (11.5, 12.5, 13.5, 14.5)])

    assert sum(fact.count for fact in desk.told(Unobserved)) == 1


def test_a_long_task_is_not_unobserved(desk: Desk) -> None:
    """It is listed until it ends."""
    desk.tell(beat(9.0))
    for at in (11.0, 12.0, 13.0, 14.0, 15.0):
        desk.tell(listing(at, "a"), beat(at, active=1, processed=1, listed=1))

    assert sum(fact.count for fact in desk.told(Unobserved)) == 0


def test_messages_are_received_with_their_priority(desk: Desk) -> None:
    """And whether they were delivered before."""
    desk.tell(Reception(1.0, NODE, [Arrival("t", "q", 5, redelivered=True), Arrival("t", "q", count=2)]))

    assert desk.told(Received) == [Received("t", "q", NODE)] * 3
    assert desk.told(Redelivered) == [Redelivered("t", "q", NODE)]


def test_what_an_attempt_used_is_told_if_measured(desk: Desk) -> None:
    """And not otherwise."""
    desk.tell(execution(cpu=0.5, memory=1024), execution(uuid="b"))

    assert desk.told(Used) == [Used("t", "q", NODE, 0.5, 1024)]


def test_a_lifted_rate_limit_is_infinite(desk: Desk) -> None:
    """Rather than stay as it was."""
    desk.tell(beat(1.0, limits=[Limit("t", 0.5, 3)]), beat(2.0), beat(3.0))

    assert desk.told(TaskLimited) == [TaskLimited(NODE, "t", 0.5, 3), TaskLimited(NODE, "t", math.inf, 0)]


def test_the_pool_and_the_consumer_are_told(desk: Desk) -> None:
    """As the beat says."""
    pool = {"slots": 2, "spawned": 3, "memory": 9, "children_memory": 7}
    desk.tell(beat(1.0, reserved=4, prefetch=8, connected=True, restarts=1, **pool))

    assert desk.told(WorkerReported) == [WorkerReported(NODE, 4, None, 8, 2, 1, 1, 3, 9, 7)]


def progress(at: float, **fields: Any) -> Progress:
    """Return what the attempt that began at 10 tells while it runs."""
    return Progress(at, NODE, Running("a", "t", 10.0, queue="q", published=9.0), **fields)


def test_what_tells_of_itself_runs(desk: Desk) -> None:
    """Even before it was listed, and it is counted once."""
    desk.tell(progress(10.1, state="A", since=10.1, ratio=0.5))
    told = list(desk.journal.progress())
    desk.tell(listing(11.0, "a"), beat(11.0, active=1, processed=1, listed=1), execution(12.0, states={"A": 1.8}))

    assert [(task, each.state, each.ratio) for task, each in told] == [("t", "A", 0.5)]
    assert (len(desk.told(Started)), desk.outcomes) == (1, ["succeeded"])
    assert desk.told(InState) == [InState("t", "q", NODE, "A", 1.8)]
    assert list(desk.journal.progress()) == []


def test_the_time_in_states_of_a_killed_task_is_that_until_its_end(desk: Desk) -> None:
    """The main process, which tells of the end, does not know them; what the child told last does."""
    desk.tell(progress(12.0, states={"A": 2.0, "B": 1.0}, state="B", since=13.0, blocked=0.5, waiting=13.5))
    desk.tell(execution(15.0, Outcome.TERMINATED))

    assert desk.told(InState) == [InState("t", "q", NODE, "A", 2.0), InState("t", "q", NODE, "B", 3.0)]
    assert desk.told(Blocked) == [Blocked("t", "q", NODE, 2.0)]


def test_what_tells_nothing_has_no_states(desk: Desk) -> None:
    """And has not waited."""
    desk.tell(execution())

    assert desk.told(InState) == desk.told(Blocked) == []


def test_what_tells_of_itself_after_its_end_is_not_begun_again(desk: Desk) -> None:
    """Such as a greenlet that goes on after it was revoked."""
    desk.tell(execution(11.0, Outcome.TERMINATED), progress(12.0, state="A", since=12.0))

    assert list(desk.journal.progress()) == []
    assert len(desk.told(Started)) == 1


def test_what_told_of_itself_and_is_listed_no_more_has_vanished(desk: Desk) -> None:
    """Nothing of it stays."""
    desk.tell(progress(10.5, ratio=0.1), beat(11.0, processed=1), beat(12.0, processed=1))

    assert desk.outcomes == ["vanished"]
    assert list(desk.journal.progress()) == []


def test_each_end_is_divided_by_what_was_said_of_it() -> None:
    """At its end or, of one that was killed, at its start; of others nothing was."""
    said: list[tuple[str, Any]] = []
    desk = Desk(divide=lambda end, labels: said.append((str(end.outcome), labels)))
    start = Labelling(10.1, NODE, Running("a", "t", 10.0), 0.2, {"tenant": "acme"})

    desk.tell(start, execution(11.0, Outcome.FAILED))
    desk.tell(execution(11.0, uuid="b", labels={"tenant": "hooli"}), execution(11.0, uuid="c"))
    desk.tell(Labelling(20.0, NODE, Running("d", "t", 20.0), 0.1, failed=True))
    desk.tell(beat(21.0, processed=1), beat(22.0, processed=1))

    assert said == [
        ("failed", {"tenant": "acme"}),
        ("succeeded", {"tenant": "hooli"}),
        ("succeeded", None),
        ("vanished", None),
    ]
    assert desk.told(PluginRan) == [PluginRan("labels", 1, 0, 0.2), PluginRan("labels", 0, 1, 0.1)]


def test_ends_that_are_remembered_are_bounded() -> None:
    """The oldest go first."""
    desk = Desk(max_tasks=6)

    desk.tell(*[execution(uuid=str(number)) for number in range(10)])
    kept = len(desk.journal)
    desk.tell(*[execution(uuid=str(number)) for number in (7, 8, 9)])

    assert 3 <= kept <= 6
    assert len(desk.told(DuplicateOutcome)) == 3


def test_reports_are_counted_by_type(desk: Desk) -> None:
    """Whoever collects the counts clears them."""
    desk.tell(Refusal(1.0, NODE), Loss(1.0, NODE, 2, 1), Publication(1.0, NODE, "t"), Publication(1.0, NODE, "t"))

    assert desk.journal.event_counts == {"refused": 1, "lost": 1, "published": 2}


def test_a_task_is_counted_under_its_label() -> None:
    """In all that is told of it."""
    desk = Desk(label_of=str.upper)

    desk.tell(execution(), Reception(1.0, NODE, [Arrival("t")]), Publication(1.0, NODE, "t"), listing(12.0, "z"))
    desk.tell(beat(12.0, listed=1, active=1, processed=2))

    assert {fact.task for fact in desk.facts if hasattr(fact, "task")} == {"T"}
    assert list(desk.journal.running()) == [("T", "q")]
