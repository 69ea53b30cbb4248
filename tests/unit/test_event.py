"""Bodies from the wire become typed events, and what cannot be read is counted by its reason."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource

from celery_observe.chronicle import Chronicle
from celery_observe.event import MAX_BODY_BYTES, Decoder, Event, Malformed, snapshot
from celery_observe.fact import DuplicateOutcome, Ended, Outcome, Traced
from celery_observe.fleet import Fleet
from celery_observe.metrics import tasks
from celery_observe.page import Page
from celery_observe.recorder import Recorder
from celery_observe.testing import EPOCH, FakeClock
from celery_observe.tracing.replay import spans_of
from celery_observe.tracing.replay_export import readable
from celery_observe.tracing.replay_sampling import Sampling
from celery_observe.tracker import Tracker
from unit.world import World

ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a slow one is no failure
GOOD: dict[str, Any] = {"type": "task-started", "timestamp": EPOCH, "hostname": "celery@host", "uuid": "a"}


def decode(body: bytes) -> tuple[list[Event], Counter[str]]:
    """The events of a body, and why others could not be read."""
    reasons: Counter[str] = Counter()
    events = Decoder(lambda reason: reasons.update([reason.value])).decode([body])
    return [event for event in events if isinstance(event, Event)], reasons


def body_of(*events: object) -> bytes:
    """A batch as workers send it."""
    return json.dumps(events).encode()


def test_a_body_is_one_event_or_a_list() -> None:
    """Prefork workers send batches."""
    one, _ = decode(json.dumps(GOOD).encode())
    several, _ = decode(body_of(GOOD, GOOD))

    assert (len(one), len(several)) == (1, 2)
    assert one[0] == several[0]


def test_what_we_have_no_use_for_is_not_kept() -> None:
    """Arguments and results are secrets of others."""
    events, _ = decode(body_of(GOOD | {"args": "('secret',)", "result": "secret", "origin": "gen1@host"}))

    assert "secret" not in repr(events)


def test_space_before_a_body_is_no_error() -> None:
    """JSON allows it."""
    assert len(decode(b" \n" + json.dumps(GOOD).encode())[0]) == 1
    assert len(decode(b" \n" + body_of(GOOD))[0]) == 1


def test_the_good_events_of_a_batch_survive_the_bad() -> None:
    """Each bad one is counted."""
    events, reasons = decode(body_of(GOOD, {"type": "task-sent"}, GOOD, 7, GOOD | {"retries": "many"}))

    assert len(events) == 2
    assert reasons == {"missing_field": 1, "wrong_type": 2}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Malformed.NOT_JSON),
        (b"hello", Malformed.NOT_JSON),
        (b"null", Malformed.WRONG_TYPE),
        (b"12", Malformed.WRONG_TYPE),
        (b"[[]]", Malformed.WRONG_TYPE),
        (json.dumps(GOOD).encode()[:-5], Malformed.NOT_JSON),
        (body_of(GOOD)[:-1], Malformed.NOT_JSON),
        (b"\x80\x04\x95pickle", Malformed.NOT_JSON),
        (json.dumps(GOOD).encode().replace(b"celery", b"\xff\xfe"), Malformed.NOT_UTF8),
        (json.dumps({"timestamp": 1.0}).encode(), Malformed.MISSING_FIELD),
        (json.dumps(GOOD | {"timestamp": "now"}).encode(), Malformed.WRONG_TYPE),
        (json.dumps(GOOD | {"timestamp": 1e300}).encode(), Malformed.WRONG_TYPE),
        (json.dumps(GOOD | {"timestamp": float("nan")}).encode(), Malformed.NOT_JSON),
        (json.dumps(GOOD | {"processed": -1}).encode(), Malformed.WRONG_TYPE),
        (json.dumps(GOOD | {"processed": 10**30}).encode(), Malformed.WRONG_TYPE),
        (json.dumps(GOOD | {"uuid": "x" * 256}).encode(), Malformed.TOO_LARGE),
        (json.dumps(GOOD | {"name": "x" * 513}).encode(), Malformed.TOO_LARGE),
        (json.dumps(GOOD | {"type": ""}).encode(), Malformed.WRONG_TYPE),
        (json.dumps(GOOD)[:-1].encode() + b', "args": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", Malformed.TOO_DEEP),
        (b"[" * 100_000, Malformed.TOO_DEEP),
        (json.dumps(GOOD | {"args": "x" * MAX_BODY_BYTES}).encode(), Malformed.TOO_LARGE),
    ],
    ids=range(21),
)
def test_what_cannot_be_read_has_its_reason(body: bytes, reason: Malformed) -> None:
    """One reason per body or event."""
    events, reasons = decode(body)

    assert not events
    assert reasons == {reason.value: 1}


@ANY_MACHINE
@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_counted(body: bytes) -> None:
    """Nothing is raised, and nothing passes in silence but an empty list."""
    events, reasons = decode(body)

    assert events or reasons or json.loads(body) == []


# -- hostile events, all the way to the page

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**63, 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e308, -1e308, 5e-324, -1, 2**53, 2**53 + 1])
    | st.text()
    | st.sampled_from(["\x00", '"\\\n', "x" * 600, "\u2028", "a@b", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
TYPES = st.sampled_from(
    [
        "task-sent",
        "task-received",
        "task-started",
        "task-succeeded",
        "task-failed",
        "task-retried",
        "task-revoked",
        "task-rejected",
        "task-cancelled",
        "worker-online",
        "worker-heartbeat",
        "worker-offline",
        "task-progress",
        "other",
    ]
)
FIELDS = {
    "uuid": st.sampled_from(["a", "b", "c"]),
    "hostname": st.sampled_from(["w1@host", "w2@host", ""]),
    "name": st.sampled_from(["t", "u"]),
    "queue": st.sampled_from(["q", "p"]),
    "retries": st.integers(0, 3),
    "pid": st.integers(1, 3),
    "eta": st.sampled_from(["2023-11-14T22:13:25+00:00", "soon"]),
    "runtime": st.none() | st.floats(-1, 1e6),
    "exception": st.sampled_from(["ValueError('no')", "NotRegistered('t')", "ExceptionWithTraceback()", "?"]),
    "requeue": st.booleans(),
    "terminated": st.booleans(),
    "expired": st.booleans(),
    "freq": st.floats(0, 60),
    "active": st.integers(0, 4),
    "processed": st.integers(0, 9),
    "loadavg": st.lists(st.floats(0, 9), max_size=3),
    "sw_ver": st.sampled_from(["5.7.0", "5.6.3", "?"]),
    "root_id": st.sampled_from(["a", "b", "c"]),
    "parent_id": st.none() | st.sampled_from(["a", "b", "c"]),
    "celery_observe_tracing": st.sampled_from(["live", "?"]),
}
VALID = st.fixed_dictionaries({"type": TYPES, "timestamp": st.floats(EPOCH - 100, EPOCH + 100)}, optional=FIELDS)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A valid event of which some fields are gone and others have a value of any kind."""
    event = draw(VALID)
    for name in draw(st.lists(st.sampled_from([*FIELDS, "type", "timestamp"]), max_size=3)):
        if draw(st.booleans()):
            event.pop(name, None)
        else:
            event[name] = draw(JSON)
    return event


class House:
    """From bodies to the page; time passes between bodies."""

    def __init__(self, max_tasks: int = 20) -> None:
        self.reasons: Counter[str] = Counter()
        self.recorder = Recorder()
        self.recorder.start_at_zero()
        self.recorder.exemplify()
        self.recorder.also(Traced, self.exported)
        chronicle = Chronicle(self.recorder.record, Sampling(0.5).trace_of, most=max_tasks)
        fleet = Fleet(self.recorder.record, 30.0)
        self.tracker = Tracker(self.recorder.record, fleet, chronicle=chronicle, max_tasks=max_tasks)
        self.clock = FakeClock()
        self.decoder = Decoder(lambda reason: self.reasons.update([reason.value]))
        self.max_tasks = max_tasks

    def take(self, body: bytes) -> int:
        """Handle a body, let a little time pass, and return how many events it had."""
        events = self.decoder.decode([body])
        for event in events:
            self.tracker.handle(event, self.clock.now)
        self.tracker.tick(self.clock.advance(0.5))
        return sum(isinstance(event, Event) for event in events)

    def exported(self, traced: Traced) -> None:
        """Spans of whatever was said can be told over OTLP."""
        spans = list(spans_of(traced, {}, waits=True))
        told = encode_spans([readable(span, Resource({})) for span in spans]).resource_spans[0].scope_spans[0].spans
        assert [len(span.attributes) for span in told] == [len(span.attributes) for span in spans]
        assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in told)

    def check(self) -> None:
        """What holds whatever was said."""
        for _ in range(2):
            self.tracker.tick(self.clock.now)
        started = sum(self.recorder[tasks.STARTED].values.values())
        assert len(self.tracker) <= self.max_tasks
        assert sum(entry.count for entry in self.tracker.running().values()) <= started
        assert Page().render([self.recorder], live=[True], openmetrics=True)


@ANY_MACHINE
@given(st.lists(st.lists(mutated(), min_size=1, max_size=4), max_size=12))
def test_mutated_events_hurt_nobody(batches: list[list[dict[str, Any]]]) -> None:
    """The good ones count, the bad ones are counted, and the page can be rendered."""
    house = House()

    for batch in batches:
        before = house.reasons.total()
        good = house.take(json.dumps(batch).encode())
        assert good + house.reasons.total() - before == len(batch)

    house.check()


@ANY_MACHINE
@given(st.lists(VALID, max_size=60))
def test_valid_events_in_any_order_keep_the_bounds(events: list[dict[str, Any]]) -> None:
    """Also those that no worker would send in this order."""
    house = House()

    for event in events:
        assert house.take(json.dumps(event).encode()) == 1

    house.check()


@ANY_MACHINE
@given(st.lists(VALID, max_size=60))
def test_an_attempt_has_at_most_one_outcome(events: list[dict[str, Any]]) -> None:
    """Each announced end is an outcome or a duplicate; what is left running ends with its worker."""
    world = World(worker_timeout=30.0)
    ends = ("succeeded", "failed", "retried", "revoked", "rejected", "cancelled")
    unannounced = {Outcome.IGNORED, Outcome.VANISHED, Outcome.RETRIED}

    for event in events:
        world.say(**({"hostname": "w1@host", "pid": 1, "type_": event["type"]} | without(event, "type"))).pass_time(1)
    world.pass_time(60)

    announced = sum(event["type"] in {f"task-{end}" for end in ends} and "uuid" in event for event in events)
    loud = sum(ended.outcome not in unannounced for ended in world.told(Ended))
    assert loud + world.count(DuplicateOutcome) <= announced <= world.count(Ended) + world.count(DuplicateOutcome)
    assert world.running == 0


def without(event: dict[str, Any], name: str) -> dict[str, Any]:
    """An event less one of its fields."""
    return {key: value for key, value in event.items() if key != name}


# -- what workers answer when asked

REQUEST = {"id": "a", "name": "t", "time_start": EPOCH, "delivery_info": {"routing_key": "q"}}


def test_a_snapshot_names_the_queue_that_the_worker_consumes() -> None:
    """The routing key is the queue's name only where there is such a queue."""
    told = snapshot("w", EPOCH, [REQUEST], [REQUEST | {"id": "b", "time_start": None}], ("q", "p"))

    assert told.queues == ("q", "p")
    assert [(task.uuid, task.queue, task.started) for task in told.active or ()] == [("a", "q", EPOCH)]
    assert [(task.uuid, task.started) for task in told.reserved] == [("b", None)]


def test_a_routing_key_that_is_no_queue_names_none() -> None:
    """A topic exchange."""
    told = snapshot("w", EPOCH, [REQUEST | {"delivery_info": {"routing_key": "a.b.c"}}], [], ("q",))

    assert [task.queue for task in told.active or ()] == [None]


def test_a_worker_that_does_not_tell_its_queues_has_unknown_ones() -> None:
    """None is not an empty list."""
    assert snapshot("w", EPOCH, [], [], None).queues is None
    assert snapshot("w", EPOCH, [], [], ()).queues == ()


def test_what_a_worker_executes_is_unknown_unless_asked() -> None:
    """Nothing must be taken to have ended."""
    assert snapshot("w", EPOCH, None, [REQUEST], ("q",)).active is None


def test_an_answer_that_celery_does_not_give_is_refused() -> None:
    """Whoever asked decides what then."""
    with pytest.raises(msgspec.ValidationError):
        snapshot("w", EPOCH, [{"id": 1}], [], None)
