"""Attempts as spans: what they are called, where they stand, and what they say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from celery_observe.fact import AttemptId, Cause, Outcome, Traced
from celery_observe.tracing.conventions import DISCARD, PROCESS, PUBLISH, WAIT, span_id_of, trace_id_of
from celery_observe.tracing.replay import Attributes, Event, Link, Span, spans_of
from celery_observe.tracing.replay_export import server_of

TRACED = Traced(
    task="shop.pay",
    queue="till",
    worker="celery@a",
    attempt=AttemptId("pay"),
    root="order",
    outcome=Outcome.SUCCEEDED,
    published=100.0,
    eta=None,
    received=101.0,
    started=103.0,
    ended=107.0,
    estimated=False,
    runtime=4.0,
    queue_wait=3.0,
    worker_wait=2.0,
    redelivered=False,
    first=True,
    parent=AttemptId("order", 1),
    previous=None,
    exception=None,
    cause=None,
    frames=None,
)
SERVER: Attributes = {"server.address": "redis.example.com", "server.port": 6379}


def made(*, waits: bool = False, **fields: Any) -> list[Span]:
    """The spans of an attempt."""
    return list(spans_of(msgspec.structs.replace(TRACED, **fields), SERVER, waits=waits))


def process(**fields: Any) -> Span:
    """The last of them, which tells what became of the message."""
    return made(**fields)[-1]


def test_an_attempt_is_a_message_that_was_published_and_processed() -> None:
    """With all that events tell, in the words of the conventions."""
    common: Attributes = {
        "messaging.system": "celery",
        "messaging.message.id": "pay",
        "messaging.message.conversation_id": "order",
        "messaging.destination.name": "till",
        "celery.task.name": "shop.pay",
        "celery.task.retries": 0,
        "celery.task.parent_id": "order",
        **SERVER,
    }

    assert made() == [
        Span(
            name="publish shop.pay",
            operation=PUBLISH,
            trace=trace_id_of("order"),
            id=span_id_of(PUBLISH, "pay", 0),
            parent=span_id_of(PROCESS, "order", 1),
            start=100.0,
            end=100.0,
            attributes=common | {"messaging.operation.name": "publish", "messaging.operation.type": "send"},
        ),
        Span(
            name="process shop.pay",
            operation=PROCESS,
            trace=trace_id_of("order"),
            id=span_id_of(PROCESS, "pay", 0),
            parent=span_id_of(PUBLISH, "pay", 0),
            start=103.0,
            end=107.0,
            attributes=common
            | {
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.client.id": "celery@a",
                "celery.task.outcome": "succeeded",
                "celery.task.queue_wait": 3.0,
                "celery.task.worker_wait": 2.0,
            },
        ),
    ]


def test_a_retry_stands_beside_the_attempt_before_and_its_message_below() -> None:
    """However often a task is retried, its attempts nest no deeper."""
    published, processed = made(attempt=AttemptId("pay", 3), previous=AttemptId("pay", 2))

    assert published.parent == span_id_of(PROCESS, "pay", 2)
    assert processed.parent == span_id_of(PUBLISH, "pay", 0)
    assert processed.links == (Link(span_id_of(PROCESS, "pay", 2), "previous_attempt"),)


def test_a_further_delivery_has_a_span_of_its_own() -> None:
    """All that read its events agree on its id."""
    again = AttemptId("pay", 0, 150.25)

    assert process(attempt=again).id == span_id_of(PROCESS, "pay", 0, 150.25) != process().id


def test_without_word_of_a_publish_a_task_is_below_the_attempt_that_published_it() -> None:
    """And the first task of a workflow below nothing."""
    (span,) = made(published=None, first=False, queue_wait=None)
    (root,) = made(published=None, first=False, queue_wait=None, parent=None)

    assert span.parent == span_id_of(PROCESS, "order", 1)
    assert root.parent is None
    assert "celery.task.queue_wait" not in span.attributes


@pytest.mark.parametrize("outcome", [Outcome.REVOKED, Outcome.EXPIRED, Outcome.UNREGISTERED, Outcome.REJECTED])
def test_a_message_that_was_not_executed_is_discarded(outcome: Outcome) -> None:
    """When its worker was done with it."""
    span = process(outcome=outcome, started=None, runtime=None, queue_wait=None, worker_wait=None)

    assert (span.name, span.operation, span.start, span.end) == ("discard shop.pay", DISCARD, 107.0, 107.0)
    assert span.attributes["celery.task.outcome"] == outcome.value
    assert span.failed is (outcome is Outcome.UNREGISTERED)


def test_a_failure_says_what_was_raised_and_never_its_text() -> None:
    """Status, type, cause, and the frames as an event at its end."""
    span = process(outcome=Outcome.FAILED, exception="KeyError", cause=Cause.EXCEPTION, frames='File "a.py", line 1')

    assert span.failed
    assert span.attributes["error.type"] == "KeyError"
    assert span.attributes["celery.task.cause"] == "exception"
    raised: Attributes = {"exception.type": "KeyError", "exception.stacktrace": 'File "a.py", line 1'}
    assert span.events == (Event("exception", 107.0, raised),)


def test_what_is_retried_has_raised_and_is_no_error() -> None:
    """The task may succeed yet."""
    span = process(outcome=Outcome.RETRIED, exception="KeyError", cause=Cause.EXCEPTION)

    assert not span.failed
    assert [event.attributes for event in span.events] == [{"exception.type": "KeyError"}]
    assert "error.type" not in span.attributes
    assert "celery.task.cause" not in span.attributes


def test_what_vanished_ends_with_what_is_known() -> None:
    """And says that this is no more than that."""
    span = process(outcome=Outcome.VANISHED, ended=104.5, estimated=True, runtime=None)

    assert (span.start, span.end, span.failed) == (103.0, 104.5, True)
    assert span.attributes["error.type"] == "vanished"
    assert span.attributes["celery.task.end_estimated"] is True


@pytest.mark.parametrize(
    ("fields", "start", "end"),
    [
        ({"started": None}, 103.0, 107.0),
        ({"started": None, "runtime": None}, 101.0, 107.0),
        ({"started": None, "runtime": None, "received": None}, 107.0, 107.0),
        ({"ended": 102.0}, 103.0, 103.0),
        ({"ended": None}, 103.0, 103.0),
        ({"ended": None, "started": None, "runtime": None}, 101.0, 101.0),
    ],
)
def test_a_span_is_as_long_as_is_known_and_never_negative(fields: dict[str, Any], start: float, end: float) -> None:
    """Events are lost, and clocks of hosts differ."""
    span = process(**fields)

    assert (span.start, span.end) == (start, end)


@pytest.mark.parametrize(
    ("fields", "moment"),
    [
        ({"published": 103.25}, 103.0),
        ({"published": 103.25, "started": None, "runtime": None, "received": 103.0}, 103.0),
        ({"published": 104.5}, 104.5),
        ({"published": 107.25, "started": None, "runtime": None, "outcome": Outcome.REVOKED}, 107.0),
    ],
    ids=["executed", "received", "clocks differ", "discarded"],
)
def test_what_was_begun_was_published_by_then(fields: dict[str, Any], moment: float) -> None:
    """Word of a publish is made when the message is away; hosts whose clocks differ are told as they are."""
    published, processed = made(**fields)

    assert (published.start, published.end) == (moment, moment)
    assert published.start <= processed.start or fields["published"] == moment


@pytest.mark.parametrize("time", [-1e12, -1.0, 1e12])
def test_a_time_that_cannot_be_told_is_one_that_can(time: float) -> None:
    """One liar must not spoil a whole batch."""
    published, wait, processed = made(
        waits=True, published=time, started=time, ended=time, eta=time, queue_wait=0.0, runtime=None
    )

    for span in (published, wait, processed):
        assert 0.0 <= span.start <= span.end < 2**63 / 1e9


def test_a_wait_is_a_span_if_asked_for() -> None:
    """Beside the attempt, from the publish, or the ETA if that is later, to the start."""
    _, wait, processed = made(waits=True, queue_wait=1.5, eta=101.5)

    assert (wait.name, wait.operation, wait.start, wait.end) == ("wait shop.pay", WAIT, 101.5, 103.0)
    assert (wait.id, wait.parent) == (span_id_of(WAIT, "pay", 0), processed.parent)
    assert wait.attributes["celery.task.eta"] == "1970-01-01T00:01:41.500000+00:00"
    assert len(made(waits=True, published=None, first=False, queue_wait=None)) == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:secret@cache.example.com:6379/1", {"server.address": "cache.example.com", "server.port": 6379}),
        ("amqp://user:secret@rabbit//", {"server.address": "rabbit"}),
        ("sentinel://:secret@a:26379/0;sentinel://b:26379/0", {"server.address": "a", "server.port": 26379}),
        ("redis+socket:///run/redis.sock", {}),
        ("memory://", {}),
        ("amqp://[broken", {}),
        ("redis://h:port", {}),
    ],
)
def test_of_the_broker_only_host_and_port_are_told(url: str, expected: Attributes) -> None:
    """Of the first, if there are alternates; never a user or a password."""
    assert server_of(url) == expected


def test_what_is_not_known_is_not_said() -> None:
    """A queue that nobody names, a worker that nobody knows."""
    span = process(queue="unknown", worker="", parent=None)

    assert not {"messaging.destination.name", "messaging.client.id", "celery.task.parent_id"} & span.attributes.keys()


def test_a_message_that_was_delivered_again_says_so() -> None:
    """Such as after a visibility timeout."""
    assert process(redelivered=True).attributes["celery.task.redelivered"] is True
