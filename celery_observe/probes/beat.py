"""What can be known of a beat that is not instrumented: how many answer, and which of its tasks succeed.

From Celery 5.7 on beat answers ``ping`` with ``beat_enable_remote_control``, as long as it ticks
(``celery/beat.py: BeatPidbox``). What it sent, events do not tell: they carry no headers. So successes are those of the
tasks that the app's ``beat_schedule`` names, whoever sent them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from celery_observe.broker import BrokerSettings
from celery_observe.fact import Outcome
from celery_observe.metrics import Family, beat, tasks
from celery_observe.names import label_rules
from celery_observe.probes import Observed, Probe, Sample, asks
from celery_observe.probes.control import Question, RemoteControl
from celery_observe.probes.rota import ROUND
from celery_observe.settings import Settings

BEATS = "celerybeat@*"
"""Unless it is given a ``--hostname`` (``celery/beat.py: beat_nodename``)."""
_LOOK_INTERVAL = 2.0
"""Seconds between two looks at what has succeeded; they cost no message."""


@asks("beat")
def beats(broker: BrokerSettings, settings: Settings, observed: Observed) -> list[Probe]:
    """Return the probes of beat that can tell anything."""
    asking: list[Probe] = [BeatsProbe(broker, settings)] if settings.remote_control else []
    return [*asking, EntriesProbe(broker, settings, observed)] if broker.entries else asking


class BeatsProbe:
    """Counts the beats that answer, once one has: before 5.7, or without remote control, none ever does."""

    name = "beat.ping"
    families: tuple[Family, ...] = (beat.INSTANCES,)

    def __init__(self, broker: BrokerSettings, settings: Settings) -> None:
        self.interval = ROUND * settings.inspect_interval
        self._control = RemoteControl(broker, settings.inspect_timeout)
        self._met = False

    def ask(self) -> list[Sample]:
        """Ask, and wait for the whole timeout: who there is beside those that are known? Raises ProbeError."""
        count = self._control.count(Question("ping", pattern=BEATS))
        self._met |= count > 0
        return [Sample(beat.INSTANCES, (), count)] if self._met else []

    def close(self) -> None:
        """Do nothing: each question has a connection of its own."""


class EntriesProbe:
    """Notes when the counts of successes rise of tasks that one entry alone names."""

    name = "beat.entries"
    families: tuple[Family, ...] = (beat.LAST_SUCCESS,)

    def __init__(
        self, broker: BrokerSettings, settings: Settings, observed: Observed, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.interval = _LOOK_INTERVAL
        label_of = label_rules(settings.task_allow, settings.task_deny, settings.task_rename)
        self._entries = {label_of(task): entry for task, entry in broker.entries.items()}
        self._observed = observed
        self._clock = clock
        self._counts: Counter[str] | None = None
        self._succeeded: dict[str, float] = {}

    def ask(self) -> list[Sample]:
        """Look at the counts."""
        counts: Counter[str] = Counter()
        for (task, _queue, outcome, *_), value in self._observed.told(tasks.OUTCOMES).items():
            if outcome == Outcome.SUCCEEDED and task in self._entries:
                counts[task] += int(value)
        before = counts if self._counts is None else self._counts
        self._succeeded |= dict.fromkeys((task for task in counts if counts[task] > before[task]), self._clock())
        self._counts = counts
        return [Sample(beat.LAST_SUCCESS, (self._entries[task],), at) for task, at in self._succeeded.items()]

    def close(self) -> None:
        """Do nothing: nothing is open."""
