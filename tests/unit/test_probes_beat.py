"""Of a beat that is not instrumented, successes of its tasks are noted when their counts rise."""

from __future__ import annotations

from typing import Any

import pytest

from celery_observe.broker import BrokerSettings
from celery_observe.metrics import beat, tasks
from celery_observe.probes import probes_for
from celery_observe.probes.beat import EntriesProbe
from celery_observe.series import Labels
from celery_observe.settings import Settings
from celery_observe.testing import EPOCH, FakeClock
from services.probed import Heard

BROKER = BrokerSettings(url="redis://h", entries={"shop.count": "nightly"})


class Looking:
    """The probe, and the counts that it looks at."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.heard = Heard()
        self.probe = EntriesProbe(BROKER, Settings(**settings), self.heard, clock=lambda: self.clock.now.wall)

    def look(self, counts: dict[Labels, float]) -> dict[str, float]:
        """A second later: the last success of each entry."""
        self.clock.advance(1.0)
        self.heard.samples = {tasks.OUTCOMES.name: counts}
        return {entry: at for family, (entry,), at in self.probe.ask() if family is beat.LAST_SUCCESS}


def test_a_success_is_noted_when_it_is_counted() -> None:
    """Whatever queue it went through; a failure is none, nor is another task's."""
    looking = Looking()
    once: dict[Labels, float] = {("shop.count", "a", "succeeded"): 1}
    other: dict[Labels, float] = {("x", "a", "succeeded"): 1}

    assert looking.look({}) == {}
    assert looking.look(once) == {"nightly": EPOCH + 2}
    assert looking.look({**once, **other, ("shop.count", "a", "failed"): 1}) == {"nightly": EPOCH + 2}
    assert looking.look({**once, ("shop.count", "b", "succeeded"): 1}) == {"nightly": EPOCH + 4}


def test_what_had_succeeded_before_the_first_look_has_no_time() -> None:
    """It may be long ago."""
    assert Looking().look({("shop.count", "a", "succeeded"): 9}) == {}


def test_tasks_are_known_by_the_name_that_they_count_under() -> None:
    """By the rules for labels, and with the worker's label."""
    looking = Looking(task_rename={"shop.*": "shop"}, worker_label=True)
    looking.look({})

    assert looking.look({("shop", "a", "succeeded", "w@h"): 1}) == {"nightly": EPOCH + 2}


@pytest.mark.parametrize(
    ("broker", "settings", "names"),
    [
        (BROKER, {}, {"beat.ping", "beat.entries"}),
        (BrokerSettings(url="redis://h"), {}, {"beat.ping"}),
        (BROKER, {"remote_control": False}, {"beat.entries"}),
    ],
)
def test_only_what_can_be_known_is_asked(broker: BrokerSettings, settings: dict[str, Any], names: set[str]) -> None:
    """Entries of an app, and remote control if it is wanted."""
    probes = probes_for(broker, Settings(**settings), Heard())

    assert {probe.name for probe in probes if probe.name.startswith("beat.")} == names
