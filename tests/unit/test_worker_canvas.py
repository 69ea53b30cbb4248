"""What messages say of the place of their task, as Celery writes them; nothing is sent."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.backends.base import Backend
from celery.exceptions import ChordError

from celery_observe.fact import Canvas, Outcome, Stall
from celery_observe.report import AnyReport, ChordFailure, Execution
from celery_observe.worker import canvas, publisher
from celery_observe.worker.headers import ROOT
from celery_observe.worker.reporter import Reporter

app = Celery("canvases", broker="memory://", backend="cache+memory://", set_as_current=False)


def nothing() -> None:
    """Be published."""


add: Any = app.task(nothing, name="add", shared=False)


def join(said: str) -> None:
    """Find a chord broken."""
    raise ChordError(said)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[AnyReport]:
    """The reports that are sent, instead of a socket."""
    reports: list[AnyReport] = []
    monkeypatch.setattr(Reporter, "send", lambda _self, report: reports.append(report))
    return reports


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], Any]]:
    """Headers and bodies of what is published, instead of a broker."""
    published: list[tuple[dict[str, Any], Any]] = []

    def send(_producer: Any, _name: str, message: Any, **_: Any) -> None:
        published.append((message.headers, message.body))

    monkeypatch.setattr(app.amqp, "send_task_message", send)
    return published


def places(messages: list[tuple[dict[str, Any], Any]]) -> list[Canvas | None]:
    """What the messages say."""
    return [canvas.canvas_of(headers, body[-1]) for headers, body in messages]


def test_a_task_that_is_alone_has_no_place(messages: list[Any]) -> None:
    """Its own id is that of its root."""
    add.delay()

    assert places(messages) == [None]


def test_the_first_of_a_chain_says_how_much_is_to_come(messages: list[Any]) -> None:
    """The others are in its message."""
    chain(add.si(), add.si(), add.si()).apply_async()

    (place,) = places(messages)

    assert place is not None
    assert (place.chain, place.callbacks, place.root) == (2, 0, messages[0][0]["id"])


def test_a_linked_task_is_to_come(messages: list[Any]) -> None:
    """If it succeeds."""
    add.apply_async(link=add.si())

    assert [place.callbacks for place in places(messages) if place is not None] == [1]


def test_members_of_a_group_name_it(messages: list[Any]) -> None:
    """And their place in it."""
    group(add.si(), add.si())()

    first, second = places(messages)

    assert first is not None
    assert second is not None
    assert first.group == second.group is not None
    assert [first.index, second.index] == [0, 1]


@pytest.mark.parametrize(
    "body", [add.si(), chain(add.si(), add.si()), group(add.si(), add.si()), chord([add.si(), add.si()], add.si())]
)
def test_the_parts_of_a_chord_name_what_its_body_begins_with(messages: list[Any], body: Any) -> None:
    """Whatever the body is."""
    chord([add.si(), add.si()], body)()

    found = [place.chord.body for place in places(messages) if place is not None and place.chord is not None]

    assert len(found) == 2
    assert found[0] == found[1] != []
    assert all(isinstance(uuid, str) for uuid in found[0])


def test_a_body_is_no_member_of_its_header() -> None:
    """From Celery 5.7 on it names the group, but no place in it."""
    place = canvas.canvas_of({"id": "z", "root_id": "a", "group": "g", "group_index": None})

    assert place == Canvas("a")


def test_what_is_published_within_a_task_carries_the_name_of_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its publisher carries it, or is called itself if it is the root."""
    request = SimpleNamespace(id="a", root_id="a")
    task = SimpleNamespace(name="first", request_stack=SimpleNamespace(top=request))
    monkeypatch.setattr(canvas, "get_current_worker_task", lambda: task)

    of_the_root: dict[str, Any] = {"id": "b", "root_id": "a"}
    publisher.stamp(of_the_root)
    request.id = "b"
    lost: dict[str, Any] = {"id": "c", "root_id": "a"}
    publisher.stamp(lost)
    setattr(request, ROOT, "first")
    passed_on: dict[str, Any] = {"id": "c", "root_id": "a"}
    publisher.stamp(passed_on)

    assert (of_the_root[ROOT], passed_on[ROOT]) == ("first", "first")
    assert ROOT not in lost


def complete(name: str, fields: dict[str, Any], **conf: Any) -> Execution:
    """Complete the report of an end."""
    fields = {"id": "b", "root_id": "b"} | fields
    report = Execution(1.0, "w@h", "b", name, Outcome.SUCCEEDED, canvas=canvas.canvas_of(fields))
    task = SimpleNamespace(name=name, app=SimpleNamespace(conf=conf))
    canvas.complete(report, task, fields)
    return report


def test_items_are_counted_and_not_looked_at() -> None:
    """Of a map and a starmap."""
    report = complete("celery.map", {"kwargs": {"task": {"task": "resize"}, "it": ["secret", "secret"]}})

    assert (report.mapped, report.items, report.canvas) == ("resize", 2, None)


def test_what_polls_names_the_group() -> None:
    """Its first argument."""
    report = complete("celery.chord_unlock", {"args": ("g", {"task": "body"})})

    assert report.canvas == Canvas("b", polls="g")


@pytest.mark.parametrize(
    ("conf", "seconds"),
    [
        ({"result_expires": timedelta(days=1)}, 86_400.0),
        ({"result_expires": 60, "result_chord_expires": 30}, 30.0),
        ({"result_expires": None}, None),
        ({"result_expires": 0}, None),
    ],
)
def test_a_chord_expires_with_its_results(conf: dict[str, Any], seconds: float | None) -> None:
    """Unless it has a time of its own."""
    fields = {"group": "g", "group_index": 0, "chord": {"options": {"task_id": "z"}}}

    place = complete("t", fields, **conf).canvas

    assert place is not None
    assert place.chord is not None
    assert place.chord.expires == seconds


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Dependency a raised ValueError('secret')", Stall.HEADER_FAILED),
        ("GroupResult g no longer exists", Stall.RESULT_EXPIRED),
        ("Callback error: OperationalError()", Stall.BODY_NOT_SENT),
        ("chord_unlock could not be retried: MaxRetriesExceededError()", Stall.UNLOCK_SPINNING),
        ("Join error: TimeoutError()", Stall.BACKEND),
    ],
)
def test_a_chord_that_fails_is_told_and_fails_as_before(sent: list[AnyReport], said: str, reason: Stall) -> None:
    """By a word of ours, not by the text of the error."""
    canvas.watch_chords()
    canvas.watch_chords()
    body = add.si().set(task_id="z")

    try:
        join(said)
    except ChordError as error:
        app.backend.chord_error_from_stack(body, error)

    (report,) = sent
    assert isinstance(report, ChordFailure)
    assert (report.reason, report.body) == (reason, ["z"])
    assert str(app.AsyncResult("z").result) == said
    assert not hasattr(Backend.chord_error_from_stack.__wrapped__, "__wrapped__")
