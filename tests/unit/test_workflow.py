"""What belongs together becomes a workflow, which ends, takes time, waits and fails; written as literals."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from celery_observe.fact import (
    Canvas,
    Chord,
    ChordBroken,
    ChordFailed,
    Ending,
    Fact,
    Outcome,
    Polled,
    Step,
    WorkflowBegan,
    WorkflowEnded,
    WorkflowEvicted,
    WorkflowReopened,
    WorkflowRetried,
    WorkflowSpent,
)
from celery_observe.testing import EPOCH
from celery_observe.workflow import MOST_OF_ONE, REMEMBERED, Workflows

F = TypeVar("F", bound=Fact)
OK: dict[str, Any] = {"outcome": Outcome.SUCCEEDED, "open": False}
FAILED: dict[str, Any] = {"outcome": Outcome.FAILED, "open": False}


def step(uuid: str, parent: str | None = None, *, root: str = "a", **fields: Any) -> Step:
    """What is known of a task; times are seconds since the beginning, a task is called by its id in capitals."""
    times = ("published", "eta", "received", "released", "started", "ended")
    given = {name: EPOCH + value if name in times else value for name, value in fields.items()}
    task = given.pop("task", uuid.upper())
    return Step(task, "q", "w@h", uuid, root, parent, **given)


class Book:
    """Workflows, and what they have told."""

    def __init__(self, **options: Any) -> None:
        self.facts: list[Fact] = []
        self.known = Workflows(self.facts.append, **options)
        self.known.tick(EPOCH)
        self.now = EPOCH

    def follow(self, *steps: Step) -> Book:
        """Hand over steps."""
        for each in steps:
            self.known.follow(each)
        return self

    def wait(self, seconds: float) -> Book:
        """Let time pass, a second a tick."""
        for _ in range(int(seconds)):
            self.now += 1.0
            self.known.tick(self.now)
        return self

    def told(self, kind: type[F]) -> list[F]:
        """The facts of one kind."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def endings(self) -> list[tuple[str, str]]:
        """Root and outcome of what has ended."""
        return [(fact.root, str(fact.outcome)) for fact in self.told(WorkflowEnded)]

    @property
    def spent(self) -> dict[str, float]:
        """Seconds by stage."""
        return {str(fact.stage): round(fact.seconds, 3) for fact in self.told(WorkflowSpent)}


@pytest.fixture
def book() -> Book:
    """One with the defaults."""
    return Book()


def chain(*, failing: bool = False) -> list[Step]:
    """A chain of two: a publishes b as it ends."""
    return [
        step("a", published=0, received=1, started=3, ended=7, **OK),
        step("b", "a", published=6.5, received=8, started=8.5, ended=10, **(FAILED if failing else OK)),
    ]


def test_a_chain_ends_once_it_is_quiet(book: Book) -> None:
    """Its duration is from the first publish to the last end, however much later that is told."""
    book.follow(*chain()).wait(9)
    assert book.endings == []
    assert book.known.active() == {"A": 1}

    book.wait(1)

    assert book.endings == [("A", "succeeded")]
    ended = book.told(WorkflowEnded)[0]
    assert (ended.duration, ended.tasks, ended.path) == (10.0, 2, 2)
    assert book.known.active() == {}


def test_the_stages_of_the_critical_path_add_up_to_the_duration(book: Book) -> None:
    """What a task did after it had published the next one is on no path."""
    book.follow(*chain()).wait(10)

    assert book.spent == {"queue": 1.0 + 1.5, "worker": 2.0 + 0.5, "run": 3.5 + 1.5}
    assert sum(book.spent.values()) == book.told(WorkflowEnded)[0].duration


def test_an_eta_and_a_rate_limit_are_stages_of_their_own(book: Book) -> None:
    """The time before the ETA is scheduled, wherever the message is."""
    book.follow(
        step("a", published=0, received=0, started=0, ended=1, **OK),
        step("b", "a", published=1, received=2, eta=5, released=8, started=9, ended=10, **OK),
    ).wait(10)

    assert book.spent == {"run": 2.0, "scheduled": 4.0, "rate_limit": 3.0, "worker": 1.0}


def test_the_slower_branch_is_the_critical_one(book: Book) -> None:
    """Of tasks that run side by side."""
    book.follow(
        step("a", published=0, received=0, started=0, ended=1, **OK),
        step("b", "a", published=1, received=1, started=1, ended=9, **OK),
        step("c", "a", published=1, received=1, started=5, ended=8, **OK),
    ).wait(10)

    assert book.spent == {"run": 9.0}
    tree = book.known.tree("a")
    assert tree is not None
    assert {twig.uuid for twig in tree.twigs if twig.critical} == {"a", "b"}


def test_a_retry_in_the_middle_is_on_the_path(book: Book) -> None:
    """The pause before it is scheduled, both attempts ran."""
    book.follow(
        step("a", published=0, received=0, started=0, ended=1, **OK),
        step("b", "a", published=1, received=1, started=1, ended=3, outcome=Outcome.RETRIED),
        step("b", "a", turn=1, retries=1, published=3, eta=7),
        step("b", "a", turn=1, retries=1, published=3, eta=7, received=4, started=8, ended=10, **OK),
    ).wait(10)

    assert book.spent == {"run": 1.0 + 2.0 + 2.0, "scheduled": 4.0, "worker": 1.0}
    assert [(fact.root, fact.count) for fact in book.told(WorkflowRetried)] == [("A", 1)]
    assert book.told(WorkflowEnded)[0].tasks == 2


def test_a_task_that_replaces_another_under_its_id_is_another_task(book: Book) -> None:
    """A chain that replaces a task has a first step of its own, and a last one that has the id of what it replaced."""
    book.follow(
        step("a", task="X", published=0, received=0, started=0),
        step("b", "a", published=1, received=1, started=2, ended=4, **OK),
        step("a", "b", turn=1, task="Y", published=4),
        step("a", task="X", published=0, received=0, started=0, ended=1.5, outcome=Outcome.IGNORED, open=False),
        step("a", "b", turn=1, task="Y", published=4, received=5, started=5, ended=7, **OK),
    ).wait(10)

    ended = book.told(WorkflowEnded)[0]
    assert (ended.root, ended.tasks, ended.path, ended.duration) == ("X", 3, 3, 7.0)
    assert book.spent == {"run": 1.0 + 2.0 + 2.0, "worker": 1.0, "queue": 1.0}


def test_where_nobody_tells_of_publishes_the_end_of_the_parent_stands_for_them(book: Book) -> None:
    """Or the receipt, if that is earlier."""
    book.follow(
        step("a", received=0, started=1, ended=4, **OK),
        step("b", "a", received=6, started=6, ended=7, **OK),
    ).wait(10)

    assert book.spent == {"worker": 1.0, "run": 3.0 + 1.0, "queue": 2.0}
    assert book.told(WorkflowEnded)[0].duration == 7.0


def test_a_path_whose_beginning_is_missing_is_unknown_up_to_there(book: Book) -> None:
    """The parent's events were lost."""
    book.follow(
        step("a", published=0, received=0, started=0, ended=1, **OK),
        step("c", "b", published=5, received=5, started=5, ended=6, **OK),
    ).wait(10)

    assert book.spent == {"unknown": 5.0, "run": 1.0}


def test_parents_in_a_circle_are_survived(book: Book) -> None:
    """No Celery sends them."""
    book.follow(step("b", "c", published=0, ended=1, **OK), step("c", "b", published=0, ended=2, **OK)).wait(10)

    assert len(book.told(WorkflowEnded)) == 1


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        (Outcome.FAILED, Ending.FAILED),
        (Outcome.VANISHED, Ending.FAILED),
        (Outcome.REVOKED, Ending.REVOKED),
        (Outcome.TERMINATED, Ending.REVOKED),
        (Outcome.IGNORED, Ending.SUCCEEDED),
    ],
)
def test_a_workflow_ends_as_its_tasks_do(book: Book, outcome: Outcome, ending: Ending) -> None:
    """Failure counts most."""
    first, second = chain()
    second.outcome = outcome

    book.follow(first, second).wait(10)

    assert book.endings == [("A", ending)]


def test_a_task_that_is_delivered_again_may_still_succeed(book: Book) -> None:
    """What it ended as before does not count."""
    first, _ = chain()
    book.follow(
        first,
        step("b", "a", published=7, received=7, started=7, ended=8, outcome=Outcome.VANISHED, open=False),
        step("b", "a", turn=1, received=9),
        step("b", "a", turn=1, received=9, started=9, ended=10, **OK),
    ).wait(10)

    assert book.endings == [("A", "succeeded")]


def test_late_word_of_a_task_does_not_open_it_again(book: Book) -> None:
    """Processes race with their reports; one that was received after the end is of another delivery."""
    book.follow(*chain(), step("b", "a", published=6.5, received=8)).wait(10)
    assert book.endings == [("A", "succeeded")]

    book.follow(step("b", "a", received=11))

    assert book.known.open_tasks() == {"A": 1}


def test_an_open_task_keeps_its_workflow_active(book: Book) -> None:
    """However long it runs, up to the timeout."""
    book.follow(chain()[0], step("b", "a", published=1, received=1, started=1)).wait(60)

    assert book.endings == []
    assert book.known.open_tasks() == {"A": 1}


def test_a_workflow_that_never_ends_is_abandoned() -> None:
    """Once, and counted."""
    book = Book(timeout=60.0)

    book.follow(chain()[0], step("b", "a", published=1, received=1, started=1)).wait(200)

    assert book.endings == [("A", "abandoned")]
    assert book.told(WorkflowEnded)[0].duration is None
    assert book.known.active() == {}


def test_what_goes_on_after_its_end_was_told_is_counted_as_that(book: Book) -> None:
    """Its end is not told twice."""
    book.follow(*chain()).wait(10)

    book.follow(step("c", "b", published=30, received=30, started=30, ended=31, **OK)).wait(10)

    assert book.endings == [("A", "succeeded")]
    assert len(book.told(WorkflowReopened)) == 1
    assert book.known.active() == {}


def test_time_in_which_nothing_was_read_does_not_count(book: Book) -> None:
    """What was sent then may have told of more."""
    book.follow(*chain())

    book.known.tick(EPOCH + 3600.0)

    assert book.endings == []


def test_a_root_that_was_never_seen_is_unknown_and_so_is_what_it_took(book: Book) -> None:
    """We may have been started in the middle."""
    _, second = chain()

    book.follow(second, step("c", "b", published=10, received=10, started=10, ended=11, **OK)).wait(10)

    assert book.endings == [("unknown", "succeeded")]
    assert book.told(WorkflowEnded)[0].duration is None
    assert book.told(WorkflowBegan) == []


def test_a_publisher_may_know_what_the_root_is_called(book: Book) -> None:
    """If it is instrumented."""
    _, second = chain()
    second.canvas = Canvas("a", "a", root_task="A")

    book.follow(second)

    assert [fact.root for fact in book.told(WorkflowBegan)] == ["A"]


# -- groups and chords, of which only instrumented processes tell


def part(uuid: str, index: int, *, chord: bool = True, **fields: Any) -> Step:
    """A task of a header that a client published: each is its own root."""
    body = Chord(["z"], expires=3600.0) if chord else None
    canvas = Canvas(uuid, group="g", index=index, chord=body)
    given: dict[str, Any] = {"canvas": canvas, "published": 0, "received": 0, "started": 0} | fields
    return step(uuid, root=uuid, **given)


def body(**fields: Any) -> Step:
    """The body, which the last part of the header published."""
    return step("z", "y", root="y", **{"published": 5, "received": 5, "started": 5} | fields)


def test_a_chord_that_a_client_published_is_one_workflow(book: Book) -> None:
    """It is called after the first of its header."""
    book.follow(part("y", 1, ended=5, **OK), part("x", 0, ended=3, **OK), body(ended=7, **OK)).wait(10)

    assert book.endings == [("X", "succeeded")]
    assert book.told(WorkflowEnded)[0].tasks == 3
    assert book.spent == {"run": 7.0}


def test_a_group_shows_how_far_it_is(book: Book) -> None:
    """While it is not finished."""
    book.follow(part("x", 0, chord=False), part("y", 1, chord=False, ended=2, **OK))

    members, ended = book.known.groups()

    assert (members, ended) == ({"X": 2}, {"X": 1})
    book.follow(part("x", 0, chord=False, ended=3, **OK))
    assert book.known.groups() == ({}, {})


def test_a_chain_in_a_group_joins_two_workflows(book: Book) -> None:
    """Its first step is in no group, its last one is."""
    book.follow(
        step("c", root="c", published=0, received=0, started=0, ended=1, canvas=Canvas("c", group="g", index=1), **OK),
        step("a", published=0, received=0, started=0, ended=1, canvas=Canvas("a", chain=1), **OK),
        step("b", "a", published=1, received=1, started=1, ended=2, canvas=Canvas("a", "a", group="g", index=0), **OK),
    ).wait(10)

    assert [fact.tasks for fact in book.told(WorkflowEnded)] == [3]


def test_a_chord_waits_for_its_header(book: Book) -> None:
    """And not any more once its body is published."""
    book.follow(part("x", 0, ended=1, **OK), part("y", 1))
    assert book.known.chords() == ({"X": 1}, {})

    book.follow(part("y", 1, ended=5, **OK), body())

    assert book.known.chords() == ({}, {})


def test_a_body_follows_the_part_that_ended_last(book: Book) -> None:
    """Whoever is said to have published it: before Celery 5.7 that is the task that published the chord."""
    header = Canvas("a", "a", group="g", index=0, chord=Chord(["z"]))
    book.follow(
        step("a", published=0, received=0, started=0, ended=1, **OK),
        step("x", "a", published=1, received=1, started=1, ended=5, canvas=header, **OK),
        step("z", "a", published=5, received=6, started=6, ended=7, **OK),
    ).wait(10)

    assert book.spent == {"run": 1.0 + 4.0 + 1.0, "queue": 1.0}


def test_a_body_may_be_known_before_its_chord(book: Book) -> None:
    """The part that published it reports its own end later."""
    book.follow(part("x", 0, chord=False, ended=1, **OK), part("y", 1, chord=False), body())

    book.follow(part("y", 1, ended=5, **OK)).wait(30)

    assert book.known.chords() == ({}, {})


def test_a_failed_header_stalls_its_chord_until_the_rest_has_ended(book: Book) -> None:
    """Then the workflow has failed."""
    book.follow(part("x", 0, ended=1, **FAILED), part("y", 1))
    assert book.known.chords() == ({}, {("X", "header_failed"): 1})

    book.follow(part("y", 1, ended=5, **OK)).wait(10)

    assert book.endings == [("X", "failed")]
    assert book.known.chords() == ({}, {})


def test_a_body_that_is_not_sent_stalls_its_chord() -> None:
    """For as long as the workflow is kept."""
    book = Book(timeout=120.0)
    book.follow(part("x", 0, ended=1, **OK), part("y", 1, ended=2, **OK))

    book.wait(30)

    assert book.known.chords() == ({}, {("X", "body_not_sent"): 1})
    book.wait(120)
    assert book.endings == [("X", "abandoned")]


def test_a_header_that_took_longer_than_results_are_kept_has_expired(book: Book) -> None:
    """The backend forgot the first return before the second came."""
    book.follow(part("x", 0, ended=1, **OK), part("y", 1, ended=3700, **OK)).wait(30)

    assert book.known.chords() == ({}, {("X", "result_expired"): 1})


def test_a_complete_header_that_is_polled_for_is_spinning(book: Book) -> None:
    """The backend does not find what it should."""
    book.follow(part("x", 0, ended=1, **OK), part("y", 1, ended=2, **OK))

    book.known.poll(Polled("u", "u", "g", 40))
    book.wait(30)

    assert book.known.chords() == ({}, {("X", "unlock_spinning"): 1})


def test_a_broken_chord_is_counted_once_and_fails_its_workflow(book: Book) -> None:
    """A backend may say so once for each part."""
    book.follow(part("x", 0, ended=1, **OK), part("y", 1, ended=2, **OK))

    for _ in range(2):
        book.known.breaks(ChordBroken("backend", "y", "g", ["z"]))
    book.wait(10)

    assert [(fact.root, fact.reason) for fact in book.told(ChordFailed)] == [("X", "backend")]
    assert book.endings == [("X", "failed")]


def test_a_step_of_a_chain_that_was_never_published_is_awaited() -> None:
    """The message of the one before says that it must come."""
    book = Book(timeout=60.0)
    first = step("a", published=0, received=0, started=0, ended=1, canvas=Canvas("a", chain=2), **OK)

    book.follow(first).wait(30)
    assert book.known.active() == {"A": 1}

    book.wait(60)
    assert book.endings == [("A", "abandoned")]


def test_a_step_that_is_known_before_the_one_that_published_it_is_not_awaited(book: Book) -> None:
    """Processes race with their reports."""
    first, second = chain()
    first.canvas = Canvas("a", chain=1)

    book.follow(second, first).wait(10)

    assert book.endings == [("A", "succeeded")]


def test_a_chain_whose_first_step_fails_is_a_workflow_of_one_task(book: Book) -> None:
    """Its message says that it is a chain, and that nothing follows now."""
    book.follow(step("a", published=0, received=0, started=0, ended=1, canvas=Canvas("a", chain=2), **FAILED)).wait(10)

    assert book.endings == [("A", "failed")]


# -- polling, as events tell of it


def test_polling_shows_that_a_chord_waits(book: Book) -> None:
    """It is all that events say of one that a client published; how long it may take is not known."""
    book.known.poll(Polled("u", "u", None, 1))
    assert book.known.chords()[0] == {"unknown": 1}

    book.wait(301)

    assert book.known.chords()[1] == {("unknown", "unlock_spinning"): 1}
    book.follow(step("u", root="u", **OK))
    assert sum(book.known.chords()[0].values()) == 0
    assert len(book.known) == 0


def test_polling_is_in_vain_when_nothing_else_of_the_workflow_is_open(book: Book) -> None:
    """Three polls are given to it."""
    book.follow(chain()[0], step("u", "a", published=1), step("b", "a", published=1))
    book.known.poll(Polled("u", "a", None, 5))
    book.wait(60)
    waiting, stalled = book.known.chords()
    assert (waiting["A"], sum(stalled.values())) == (1, 0)

    book.follow(step("b", "a", published=1, started=1, ended=60, **OK))
    for retries in range(6, 12):
        book.known.poll(Polled("u", "a", None, retries))
        book.wait(3)

    assert book.known.chords()[1] == {("A", "unlock_spinning"): 1}


# -- bounds


def test_a_hundred_thousand_workflows_are_kept_within_bounds_and_counted() -> None:
    """Those of which nothing was heard for longest go first."""
    book = Book(max_tasks=10_000)

    for number in range(100_000):
        root = f"r{number}"
        book.follow(step(root, root=root, task="R", published=0), step(f"c{number}", root, root=root, published=0))

    assert len(book.known) <= 10_000
    assert book.known.active() == {"R": 5_000}
    assert len(book.told(WorkflowEvicted)) == 95_000
    assert book.known.tree("r99999") is not None
    assert book.known.tree("r0") is None


def test_a_hundred_thousand_workflows_are_all_followed_where_there_is_room() -> None:
    """And all end."""
    book = Book(max_tasks=200_000)
    for number in range(100_000):
        root = f"r{number}"
        book.follow(
            step(root, root=root, task="R", published=0, started=0, ended=1, **OK),
            step(f"c{number}", root, root=root, published=1, started=1, ended=2, **OK),
        )
    assert book.known.active() == {"R": 100_000}

    book.wait(10)

    assert book.known.active() == {}
    assert len(book.endings) == 100_000
    assert len(book.known) == 2 * REMEMBERED


def test_a_chain_of_a_hundred_thousand_tasks_is_followed_in_little_room(book: Book) -> None:
    """Its critical path is known to the end."""
    book.follow(step("t0", root="t0", task="T", published=0, started=0, ended=1, **OK))
    for number in range(1, 100_000):
        times: dict[str, Any] = {"published": number, "started": number, "ended": number + 1}
        book.follow(step(f"t{number}", f"t{number - 1}", root="t0", **times, **OK))
    assert len(book.known) <= MOST_OF_ONE

    book.wait(10)

    ended = book.told(WorkflowEnded)[0]
    assert (ended.tasks, ended.path, ended.duration) == (100_000, 100_000, 100_000.0)
    assert book.spent == {"run": 100_000.0}


def test_a_hundred_thousand_open_tasks_of_one_workflow_are_counted_when_they_end() -> None:
    """Those for which there is no room."""
    book = Book(max_tasks=10_000)
    book.follow(step("a", published=0, started=0))
    for number in range(100_000):
        book.follow(step(f"t{number}", "a", published=1))
    assert len(book.known) <= 10_000

    for number in range(100_000):
        book.follow(step(f"t{number}", "a", published=1, started=1, ended=2, **OK))
    book.follow(step("a", published=0, started=0, ended=3, **OK)).wait(10)

    assert book.endings == [("A", "succeeded")]
    assert book.told(WorkflowEnded)[0].tasks == 100_001
