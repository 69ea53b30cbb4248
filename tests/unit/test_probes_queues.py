"""What the queue probes compute of what brokers answer."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest

from celery_observe.broker import BrokerSettings
from celery_observe.probes.queues.age import oldest_age
from celery_observe.probes.queues.bindings import Bindings
from celery_observe.probes.queues.delayed import Binding, Delays, scheduled
from celery_observe.probes.queues.keyspace import Keyspace
from celery_observe.probes.queues.messages import STAMP, delivery_of, headers_of
from celery_observe.probes.queues.names import QueueNames, delay_prefix
from celery_observe.probes.queues.unacked import Unacked
from celery_observe.settings import Settings
from house.source import ROOT

NOW = 1_000_000.0


def names(queues: tuple[str, ...] = (), **settings: Any) -> QueueNames:
    """The rules of these settings, for an app with these queues."""
    return QueueNames(BrokerSettings(url="redis://h", queues=queues), Settings(**settings))


# -- names


def test_queues_of_the_settings_and_of_the_app_are_asked_about_unfound() -> None:
    """A name without wildcards is a declaration."""
    rules = names(("celery",), queue=("high", "c*"), dead_letter=("dead",))

    assert rules.select(["celery", "cold", "other"]) == ["celery", "dead", "high", "cold"]


def test_denied_goes_before_allowed() -> None:
    """For declared queues too."""
    rules = names(("celery", "tmp"), queue_deny=("t*",))

    assert rules.select(["tmp.1", "mail"]) == ["celery", "mail"]


@pytest.mark.parametrize(
    "name",
    [
        "celeryev.0c2a",
        "a@h.celery.pidbox",
        "0c2a.reply.celery.pidbox",
        "celery_delayed_27",
        "shop_celery_delayed_0",
        "bcast.3f2b1c1e-8a55-4bb5-9f0e-2f6f6f7a9d11",
        "amq.gen-x",
        "",
    ],
)
def test_queues_of_celerys_own_are_none_of_the_users(name: str) -> None:
    """Events, remote control, broadcasts and delays."""
    assert names().select([name]) == []


def test_a_thousandfold_of_queues_is_not_asked_about() -> None:
    """Those declared come first."""
    chosen = names(queue=("zebra", "*")).select(f"q{number:06}" for number in range(20_000))

    assert len(chosen) == 5000
    assert chosen[0] == "zebra"


def test_dead_letter_queues_are_told_by_name() -> None:
    """The default patterns are the usual names."""
    dead = [name for name in ("orders.dlq", "dead-letter", "dead_letters.a", "celery") if names().is_dead_letter(name)]

    assert dead == ["orders.dlq", "dead-letter", "dead_letters.a"]


def test_a_delayed_queue_tells_its_prefix() -> None:
    """Kombu 5.7 allows one."""
    assert [delay_prefix(name) for name in ("celery_delayed_3", "eu_shop_celery_delayed_27", "delayed")] == [
        "",
        "eu_shop",
        None,
    ]


# -- age


@pytest.mark.parametrize(
    ("ages", "depth", "expected"),
    [
        ([], 0, 0.0),
        ([9.0], 0, 0.0),
        ([50.0, 40.0, 30.0], 3, 50.0),
        ([500.0, 40.0, 30.0], 2, 40.0),
        ([40.0], 2, None),
        ([], 1, None),
        ([float(age) for age in range(1, 20)], 20, 19.0),
        ([-60.0], 1, 0.0),
        ([-60.0, 40.0], 1, 40.0),
        ([-60.0, 40.0], 2, 40.0),
    ],
    ids=[
        "empty",
        "empty though a receipt was missed",
        "all known",
        "the receipt of the oldest was missed",
        "an older one is not known",
        "nothing known",
        "the event of one just published is on its way",
        "due later",
        "one due later in another queue",
        "one due later in the same queue",
    ],
)
def test_the_age_of_the_oldest_is_known_if_events_tell_of_all(
    ages: list[float], depth: int, expected: float | None
) -> None:
    """What is said is true, or nothing is said."""
    assert oldest_age([NOW - age for age in ages], depth, NOW) == expected


# -- messages


def test_a_message_tells_its_eta_and_its_stamp() -> None:
    """Whatever else is in it; the later of the two counts."""
    headers = {"eta": "2026-01-01T00:00:00+00:00", "celery_observe_published": 5_500_000, "id": "x", "stamps": {}}
    message = headers_of(json.dumps({"body": "W10=", "headers": headers, "properties": {}}).encode())

    assert message.due == 1767225600.0
    assert message.waits_since == 1767225600.0
    assert headers_of(b'{"headers": {"celery_observe_published": 5500000}}').waits_since == 5.5


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"[]", b"{}", b'{"headers": {"eta": 3}}', b'{"headers": 1}', b"[" * 9999]
)
def test_what_is_no_message_of_celerys_tells_nothing(raw: bytes) -> None:
    """Anyone may push to a list."""
    assert headers_of(raw).waits_since is None
    assert delivery_of(raw, 0.0) is None


def test_the_stamp_is_the_header_that_publishers_set() -> None:
    """Written in one process, read in another."""
    headers = runpy.run_path(str(ROOT / "celery_observe" / "worker" / "headers.py"))  # to import it instruments us

    assert headers["PUBLISHED"] == STAMP


# -- bindings


def test_a_binding_takes_its_key_or_its_pattern() -> None:
    """As `kombu/transport/virtual/exchange.py` looks up a table."""
    bindings = Bindings("|")
    bindings.update("topic", [b"a.*|^a\\.[^.]+$|all-a", b"a.b|^a\\.b$|only-ab", b"broken|member", b"(|(|bad-pattern"])
    bindings.update("direct", [b"key||mail"])

    assert bindings.queues_of("topic", "a.b") == {"all-a", "only-ab"}
    assert bindings.queues_of("topic", "a.c") == {"all-a"}
    assert bindings.queues_of("direct", "key") == {"mail"}
    assert bindings.queues_of("", "celery") == {"celery"}
    assert bindings.queues() == {"all-a", "only-ab", "bad-pattern", "mail"}
    bindings.forget("topic")
    assert bindings.queues() == {"mail"}


# -- keyspace


def test_a_walk_finds_tables_dead_letters_and_orphans() -> None:
    """And forgets, at the end of the next walk, what is not found again."""
    keys = Keyspace(names(), "p[1]:")
    assert keys.pattern == "p\\[1\\]:*"

    end = keys.take(7, [b"p[1]:_kombu.binding.mail", b"p[1]:_kombu.binding.celeryev", b"p[1]:x.dlq"])
    assert (end, keys.cursor, keys.orphans) == (False, 7, None)
    assert keys.take(0, [b"p[1]:0c.reply.celery.pidbox", b"p[1]:_kombu.binding_permanent.mail", b"p[1]:celery"])

    assert (keys.exchanges(), keys.lists(), keys.orphans) == (["mail"], {"x.dlq"}, 1)
    keys.take(0, [])
    assert (keys.exchanges(), keys.lists(), keys.orphans) == ([], set(), 0)


def test_the_list_of_a_priority_is_no_queue_of_its_own() -> None:
    """A dead letter with a priority belongs to the dead-letter queue."""
    keys = Keyspace(names(), "p:", ["", ":1", ":9"])

    keys.take(0, [b"p:x.dlq", b"p:x.dlq:9", b"p:y.dlq:1", b"p:z.dlq:2"])

    assert keys.lists() == {"x.dlq", "y.dlq", "z.dlq:2"}


# -- unacked


def entry(routing_key: str, eta: str | None = None) -> bytes:
    """One entry of `unacked`."""
    return json.dumps([{"headers": {"eta": eta}}, "", routing_key]).encode()


def test_what_is_held_is_in_flight_scheduled_or_late() -> None:
    """By the ETA, the time of delivery and the visibility timeout."""
    unacked = Unacked(3600.0, lambda _exchange, routing_key: {routing_key})
    due = "1970-01-12T13:46:41"  # NOW and a second
    later = "1970-01-12T15:00:00"
    tags = {b"1": NOW, b"2": NOW, b"3": NOW, b"4": NOW - 10, b"5": NOW, b"gone": NOW}
    assert unacked.unread(tags) == list(tags)
    values = (entry("a"), entry("a", due), entry("a", later), entry("b", "1970-01-01T00:00:00"), b"{}", None)
    unacked.read(zip(tags, tags.values(), values, strict=True))

    held = unacked.held(NOW)

    assert (held.in_flight, held.scheduled, held.late) == ({"b": 1, "a": 1}, {"a": 2}, {"a": 1, "b": 0})
    assert held.unattributed == 1
    assert unacked.held(NOW + 2).in_flight == {"a": 2, "b": 1}
    assert unacked.unread({b"1": NOW, b"gone": NOW}) == [b"gone"]
    assert unacked.held(NOW).scheduled == {}


def test_a_message_that_may_be_of_two_queues_makes_both_doubtful() -> None:
    """Neither is guessed."""
    unacked = Unacked(3600.0, lambda _exchange, _routing_key: {"a", "b"})
    unacked.read([(b"1", NOW, entry("x"))])

    held = unacked.held(NOW)

    assert (held.unattributed, held.doubtful, held.in_flight) == (1, {"a", "b"}, {})


# -- delayed


def test_delayed_messages_lead_to_queues_by_two_bindings() -> None:
    """From the exchange of delivery to the user's, from there to the queue, both for any delay."""
    delays = Delays(
        [
            Binding("eu_celery_delayed_delivery", "tasks", "exchange", "#.orders"),
            Binding("tasks", "orders", "queue", "#.orders"),
            Binding("tasks", "plain", "queue", "plain"),
            Binding("other", "mails", "queue", "#.mails"),
        ]
    )

    assert delays.targets("eu") == {"orders"}
    assert delays.targets("") == set()


@pytest.mark.parametrize(
    ("total", "targets", "later", "expected"),
    [
        (5, {"a"}, {}, {"a": 5}),
        (0, {"a", "b"}, {}, {"a": 0, "b": 0}),
        (5, {"a", "b"}, {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        (5, {"a", "b"}, {"a": 2}, None),
        (20, {"a", "b"}, {"a": 12, "b": 7}, {"a": 12, "b": 7}),
        (5, set(), {}, None),
    ],
)
def test_delayed_messages_are_shared_out_only_for_certain(
    total: int, targets: set[str], later: dict[str, int], expected: dict[str, int] | None
) -> None:
    """By the bindings if one queue can be meant, by events if they tell of all."""
    waiting = {queue: [NOW + 60.0] * count + [NOW - 5.0] for queue, count in later.items()}

    assert scheduled(total, targets, waiting, NOW) == expected
