"""Probes are asked on time, believed while they work, and absent when they do not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from celery_observe.broker import BrokerSettings
from celery_observe.errors import ProbeError
from celery_observe.guard import Guard
from celery_observe.metrics import Family, Kind, observer
from celery_observe.probes import Prober, Sample, probes_for
from celery_observe.recorder import Recorder
from celery_observe.settings import Settings
from services.probed import Heard

DEPTH = Family(name="depth", kind=Kind.GAUGE, help="Depth.", labels=("queue",))
AGE = Family(name="age", kind=Kind.GAUGE, help="Age.", labels=("queue",))
CATALOGUE = (
    DEPTH,
    AGE,
    observer.PLUGIN_UP,
    observer.PLUGIN_ERRORS,
    observer.PLUGIN_DURATION,
    observer.PROBE_LAST_SUCCESS,
)


class Gauge:
    """A probe that tells what the test says, or fails, and counts how often it is asked."""

    def __init__(self, name: str = "gauge", interval: float = 10.0, families: tuple[Family, ...] = (DEPTH,)) -> None:
        self.name = name
        self.interval = interval
        self.families = families
        self.asked = 0
        self.answer: Callable[[], Iterable[Sample]] = list
        self.closed = threading.Event()

    def tells(self, **depths: float) -> Gauge:
        """Let it answer with these depths."""
        self.answer = lambda: [Sample(DEPTH, (queue,), depth) for queue, depth in depths.items()]
        return self

    def fails(self, error: Exception) -> None:
        """Let it raise."""

        def fail() -> list[Sample]:
            raise error

        self.answer = fail

    def ask(self) -> Iterable[Sample]:
        """Answer."""
        self.asked += 1
        return self.answer()

    def close(self) -> None:
        """Note it."""
        self.closed.set()


class Probing:
    """A prober with its own clock, and what it has recorded."""

    def __init__(self, *probes: Gauge) -> None:
        self.now = 0.0
        self.recorder = Recorder(catalogue=CATALOGUE, max_series=5)
        self.prober = Prober(
            "test",
            probes,
            self.recorder,
            Guard(self.recorder.record),
            clock=lambda: self.now,
            wall=lambda: 1000.0 + self.now,
            uniform=lambda _low, high: high,
        )

    def at(self, now: float) -> Probing:
        """Let the prober take its turn at this time."""
        self.now = now
        self.prober.turn()
        return self

    def values(self, family: Family) -> dict[tuple[str, ...], float]:
        """The samples of a family."""
        return self.recorder[family].values


def test_what_a_probe_tells_replaces_what_it_told_before() -> None:
    """A queue that is gone disappears."""
    gauge = Gauge().tells(a=1, b=2)
    probing = Probing(gauge).at(0)
    assert probing.values(DEPTH) == {("a",): 1, ("b",): 2}

    gauge.tells(b=3)

    assert probing.at(11).values(DEPTH) == {("b",): 3}


def test_a_probe_is_asked_at_its_interval_give_or_take_a_tenth() -> None:
    """And the prober sleeps for exactly as long as nothing is due."""
    often, seldom = Gauge("often", interval=10), Gauge("seldom", interval=30)
    probing = Probing(often, seldom).at(0)

    pause = probing.prober.turn()
    probing.at(10.9)
    assert (pause, often.asked, seldom.asked) == (11.0, 1, 1)
    probing.at(11)
    assert (often.asked, seldom.asked) == (2, 1)
    probing.at(33)
    assert (often.asked, seldom.asked) == (3, 2)


@pytest.mark.parametrize("error", [ProbeError("no answer"), ZeroDivisionError()], ids=["expected", "unexpected"])
def test_a_failure_makes_its_families_absent_and_shows(error: Exception) -> None:
    """Absent is not zero; the time of the last success remains."""
    gauge = Gauge().tells(a=1)
    probing = Probing(gauge).at(0)

    gauge.fails(error)
    probing.at(11)

    assert probing.values(DEPTH) == {}
    assert gauge.closed.is_set()
    assert probing.values(observer.PLUGIN_UP) == {("gauge",): 0}
    assert probing.values(observer.PROBE_LAST_SUCCESS) == {("gauge",): 1000.0}
    gauge.tells(a=2)
    assert probing.at(22).values(DEPTH) == {("a",): 2}
    assert probing.values(observer.PLUGIN_UP) == {("gauge",): 1}


def test_one_failure_does_not_keep_others_from_being_asked() -> None:
    """Each probe is under the guard by itself."""
    broken, sound = Gauge("broken", families=(AGE,)), Gauge("sound").tells(a=1)
    broken.fails(ProbeError("no answer"))

    assert Probing(broken, sound).at(0).values(DEPTH) == {("a",): 1}


def test_of_two_probes_of_one_family_the_first_that_works_is_believed() -> None:
    """And never a mixture of both."""
    better, plain = Gauge("better").tells(a=10), Gauge("plain").tells(a=1, b=2)
    probing = Probing(better, plain).at(0)
    assert probing.values(DEPTH) == {("a",): 10}

    better.fails(ProbeError("no answer"))

    assert probing.at(11).values(DEPTH) == {("a",): 1, ("b",): 2}


def test_what_was_told_three_intervals_ago_is_dropped_on_the_next_scrape() -> None:
    """A probe that hangs does not go on telling; its failure is counted once."""
    probing = Probing(Gauge().tells(a=1)).at(0)
    probing.now = 30.0
    probing.prober.expire()
    assert probing.values(DEPTH) == {("a",): 1}

    probing.now = 30.1
    probing.prober.expire()
    probing.prober.expire()

    assert probing.values(DEPTH) == {}
    assert probing.values(observer.PLUGIN_UP) == {("gauge",): 0}
    assert probing.values(observer.PLUGIN_ERRORS) == {("gauge",): 1}


def test_a_family_holds_no_more_than_its_cap_and_counts_the_rest() -> None:
    """A thousand queues are no thousand series."""
    probing = Probing(Gauge().tells(**{f"q{number}": 1 for number in range(7)})).at(0)

    assert len(probing.values(DEPTH)) == 5
    assert probing.recorder[DEPTH].overflowed == 2


def test_a_prober_asks_at_once_and_closes_its_probes_when_stopped() -> None:
    """As a thread, with the real clock."""
    gauge = Gauge()
    asked = threading.Event()

    def answer() -> list[Sample]:
        asked.set()
        return []

    gauge.answer = answer
    recorder = Recorder(catalogue=CATALOGUE)
    prober = Prober("test", [gauge], recorder, Guard(recorder.record))

    prober.start()
    assert asked.wait(10)
    prober.stopping.set()
    prober.join(10)

    assert gauge.closed.is_set()


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("redis://h", ["queues.redis"]),
        ("sentinel://h", ["queues.redis"]),
        ("amqps://h", ["queues.amqp"]),
        ("memory://", ["queues.kombu"]),
    ],
)
def test_the_probes_of_queues_are_chosen_by_the_scheme_of_the_url(url: str, names: list[str]) -> None:
    """One file per kind of broker."""
    options: dict[str, Any] = {"master_name": "m"} if url.startswith("sentinel") else {}
    probes = probes_for(BrokerSettings(url=url, transport_options=options), Settings(), Heard())

    assert [probe.name for probe in probes if probe.name.startswith("queues.")] == names


def test_the_management_api_goes_before_amqp_where_it_is_known() -> None:
    """Its URL is that of the broker's name."""
    settings = Settings(management_url=("one=http://h:15672",))

    one, two = (
        [probe.name for probe in probes_for(BrokerSettings(name=name, url="amqp://h"), settings, Heard())]
        for name in ("one", "two")
    )

    assert one.index("queues.management") < one.index("queues.amqp")
    assert "queues.management" not in two


@pytest.mark.parametrize("url", ["redis://h", "amqp://h", "memory://"])
def test_queues_are_not_asked_about_if_so_set(url: str) -> None:
    """For brokers whose user may not."""
    probes = probes_for(BrokerSettings(url=url), Settings(queue_probe=False), Heard())

    assert [probe.name for probe in probes if probe.name.startswith("queues.")] == []


# -- leading


class Replica(Probing):
    """A prober that leads as long as the test says."""

    def __init__(self, *probes: Gauge) -> None:
        super().__init__()
        self.leads = True
        self.prober = Prober(
            "test",
            probes,
            self.recorder,
            Guard(self.recorder.record),
            clock=lambda: self.now,
            uniform=lambda _low, high: high,
            leads=lambda: self.leads,
        )


def test_who_does_not_lead_asks_nobody() -> None:
    """And begins as soon as it leads."""
    gauge = Gauge().tells(a=1)
    replica = Replica(gauge)
    replica.leads = False
    replica.at(0)
    assert (gauge.asked, replica.values(DEPTH)) == (0, {})

    replica.leads = True

    assert replica.at(1).values(DEPTH) == {("a",): 1}


def test_who_led_tells_nothing_any_more() -> None:
    """At its next turn, and at a scrape before it."""
    replica = Replica(Gauge().tells(a=1)).at(0)
    assert isinstance(replica, Replica)
    replica.leads = False

    replica.prober.expire()

    assert replica.values(DEPTH) == {}


def test_the_answer_to_a_question_asked_as_leader_is_dropped_when_the_lead_is_lost() -> None:
    """Another replica has asked meanwhile."""
    gauge = Gauge()
    replica = Replica(gauge)

    def lose_the_lead() -> list[Sample]:
        replica.leads = False
        return [Sample(DEPTH, ("a",), 1)]

    gauge.answer = lose_the_lead

    assert replica.at(0).values(DEPTH) == {}


def test_a_probe_that_looks_at_others_comes_last_and_stays_as_long() -> None:
    """Capacity is looked at often, and is no older than what it looks at."""
    names = [probe.name for probe in probes_for(BrokerSettings(url="redis://h"), Settings(), Heard())]
    assert names.index("capacity") == len(names) - 1
    often, seldom = Gauge("often", interval=2, families=(AGE,)), Gauge("seldom", interval=10).tells(a=1)
    often.answer = lambda: [Sample(AGE, ("a",), 1)]
    probing = Probing(seldom, often).at(0)

    probing.now = 29
    probing.prober.expire()
    assert probing.values(AGE) == {("a",): 1}
    probing.now = 31
    probing.prober.expire()
    assert probing.values(AGE) == probing.values(DEPTH) == {}
