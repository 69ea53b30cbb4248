"""What is asked of brokers and workers: on timers, on connections of their own, never on a scrape.

A probe is a plug-in: it owns metric families and tells all their samples each time it is asked. What it tells replaces
what it told before, so that what is gone disappears; when it fails, or hangs, its families are absent, never 0, and
``celery_observe_plugin_up`` is 0. One file per thing to ask, which registers itself with `asks`.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from celery_observe.errors import ProbeError
from celery_observe.guard import Guard
from celery_observe.metrics import Family, observer
from celery_observe.recorder import Recorder
from celery_observe.series import Labels
from celery_observe.settings import BrokerSettings, Settings

ANY_SCHEME = ""
"""Registers the probes for brokers that have none of their own for a subject."""
STALE_AFTER = 3
"""Intervals, the longest of a prober's, after which what a probe told is not told any more."""
FOLLOW = 0.25
"""Seconds between two looks at whether to ask, while another replica does."""


class Sample(NamedTuple):
    """One value that a probe read."""

    family: Family
    labels: Labels
    value: float


class Probe(Protocol):
    """Questions to one broker, asked by one thread."""

    name: str
    """The label ``plugin``: subject and file, such as ``queues.redis``."""
    interval: float
    """Seconds between two rounds."""
    families: tuple[Family, ...]
    """All families whose samples it tells."""

    def ask(self) -> Iterable[Sample]:
        """Connect if need be, and return all samples that there are now.

        Raises CeleryObserveError, which says what failed and what to do, within seconds.
        """

    def close(self) -> None:
        """Disconnect, if connected: at the end, and after a failure."""


class Observed(Protocol):
    """What the events and the workers of a broker tell; to be asked from any thread."""

    def queues_heard(self) -> set[str]:
        """Return the queues that events have named."""

    def consumers(self) -> Mapping[str, int] | None:
        """Return how many live workers consume each queue; None while that is not known of all of them."""

    def waiting(self) -> Mapping[str, Sequence[float]]:
        """Return for each queue the times since which tasks wait that were published but not received yet.

        Unix seconds; the ETA where that is later, so it may lie in the future. Empty while events are not read.
        """

    def up(self) -> set[str]:
        """Return the workers whose heartbeats are fresh."""

    def told(self, family: Family) -> Mapping[Labels, float]:
        """Return the samples of a family as they would be served now."""

    def runtimes(self) -> Mapping[str, tuple[float, float]]:
        """Return for each queue the sum in seconds and the number of all runtimes so far."""


ProbeFactory = Callable[[BrokerSettings, Settings, Observed], list[Probe]]
"""Makes the probes of one subject for a broker. Of two that tell one family, the first that works is believed."""
_Factory = TypeVar("_Factory", bound=ProbeFactory)
_factories: dict[str, dict[str, ProbeFactory]] = {}
_last: set[str] = set()


def asks(subject: str, *schemes: str, last: bool = False) -> Callable[[_Factory], _Factory]:
    """Register the decorated factory for a subject, such as ``queues``, and brokers with these URL `schemes`.

    Those that look at what others tell come `last`.
    """

    def register(factory: _Factory) -> _Factory:
        _factories.setdefault(subject, {}).update(dict.fromkeys(schemes or (ANY_SCHEME,), factory))
        _last.update([subject] if last else [])
        return factory

    return register


def probes_for(broker: BrokerSettings, settings: Settings, observed: Observed) -> list[Probe]:
    """Return the probes of all subjects for a broker. Raises SettingsError when they cannot be made."""
    for module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
    subjects = (_factories[subject] for subject in sorted(_factories, key=_last.__contains__))
    chosen = (by_scheme.get(broker.transport) or by_scheme.get(ANY_SCHEME) for by_scheme in subjects)
    return [probe for factory in chosen if factory for probe in factory(broker, settings, observed)]


Told = dict[str, dict[Labels, float]]
"""The samples of each family, by its name."""


class _Turn:
    """One probe, when it is to be asked, and what it told when."""

    def __init__(self, probe: Probe, due: float) -> None:
        self.probe = probe
        self.due = due
        self.at = due
        self.told: Told | None = None


class Prober(threading.Thread):
    """Asks the probes of one broker, each at its interval give or take a tenth, until told to stop."""

    def __init__(  # noqa: PLR0913  the clocks and the dice are a test's own
        self,
        name: str,
        probes: Sequence[Probe],
        recorder: Recorder,
        guard: Guard,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__(name=f"prober-{name}", daemon=True)
        self.stopping = threading.Event()
        self._recorder = recorder
        self._guard = guard
        self._clock = clock
        self._wall = wall
        self._uniform = uniform
        self._leads = leads
        self._lock = threading.Lock()
        self._turns = [_Turn(probe, clock()) for probe in probes]

    def run(self) -> None:
        """Ask, wait, and again."""
        while not self.stopping.is_set():
            self.stopping.wait(self.turn())
        for turn in self._turns:
            turn.probe.close()

    def turn(self) -> float:
        """Ask the probes that are due, unless another replica leads; return the seconds until the next turn."""
        if not self._leads():
            self._fall_silent()
            return FOLLOW
        for turn in self._turns:
            if turn.due <= self._clock() and not self.stopping.is_set():
                self._ask(turn)
        return max(0.0, min((turn.due for turn in self._turns), default=self._clock() + 1.0) - self._clock())

    def delay(self, seconds: float) -> None:
        """Ask all probes that long from now; for the thread itself, or before it starts."""
        for turn in self._turns:
            turn.due = self._clock() + seconds

    def expire(self) -> None:
        """Drop what a probe told too long ago, because it hangs, or was told by a leader that is none any more.

        From any thread, before a scrape.
        """
        if not self._leads():
            self._fall_silent()
        patience = self._patience()
        for turn in self._turns:
            age = self._clock() - turn.at
            if turn.told is not None and age > patience:
                self._tell(turn, None)
                self._guard.run(turn.probe.name, partial(_complain, turn.probe, age))

    def _patience(self) -> float:
        """Return after how many seconds without an answer a probe counts as hanging: they wait for each other."""
        return STALE_AFTER * max((turn.probe.interval for turn in self._turns), default=0.0)

    def _ask(self, turn: _Turn) -> None:
        told = self._guard.run(turn.probe.name, lambda: answer_of(turn.probe))
        turn.at = self._clock()
        turn.due = turn.at + turn.probe.interval * self._uniform(0.9, 1.1)
        if told is not None:
            self._recorder[observer.PROBE_LAST_SUCCESS].set((turn.probe.name,), self._wall())
        self._tell(turn, told if self._leads() else None)

    def _fall_silent(self) -> None:
        for turn in self._turns:
            if turn.told is not None:
                self._tell(turn, None)

    def _tell(self, turn: _Turn, told: Told | None) -> None:
        """Keep what a probe told, None if nothing, and bring its families up to date."""
        with self._lock:
            turn.told = told
            for family in turn.probe.families:
                self._recorder[family].replace(self._believed(family))

    def _believed(self, family: Family) -> dict[Labels, float]:
        """Return what the first probe says that tells of this family and works."""
        told = (turn.told for turn in self._turns if turn.told is not None)
        return next((families[family.name] for families in told if family.name in families), {})


def answer_of(probe: Probe) -> Told:
    """Ask a probe, and return its samples, of every family that it owns. If it fails it is closed, to connect anew."""
    told: Told = {family.name: {} for family in probe.families}
    with ExitStack() as on_failure:
        on_failure.callback(probe.close)
        for family, labels, value in probe.ask():
            told[family.name][labels] = value
        on_failure.pop_all()
    return told


def _complain(probe: Probe, age: float) -> None:
    raise ProbeError(f"{probe.name}: no answer for {age:.0f} s")
