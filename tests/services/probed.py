"""The probes of a broker, asked by a test, and what events would have told them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from celery_observe.broker import BrokerSettings
from celery_observe.metrics import Family
from celery_observe.probes import Probe, answer_of, probes_for
from celery_observe.series import Labels
from celery_observe.settings import Settings


@dataclasses.dataclass
class Heard:
    """What the reader of a broker would tell its probes."""

    heard: set[str] = dataclasses.field(default_factory=set)
    consumed: Mapping[str, int] | None = None
    since: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
    beating: set[str] = dataclasses.field(default_factory=set)
    samples: dict[str, Mapping[Labels, float]] = dataclasses.field(default_factory=dict)
    ran: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def queues_heard(self) -> set[str]:
        """The queues that events have named."""
        return self.heard

    def consumers(self) -> Mapping[str, int] | None:
        """The live workers by queue."""
        return self.consumed

    def waiting(self) -> Mapping[str, Sequence[float]]:
        """The times since which tasks wait."""
        return self.since

    def up(self) -> set[str]:
        """The workers that beat."""
        return self.beating

    def told(self, family: Family) -> Mapping[Labels, float]:
        """The samples of a family."""
        return self.samples.get(family.name, {})

    def runtimes(self) -> Mapping[str, tuple[float, float]]:
        """The sum and number of runtimes by queue."""
        return self.ran


class Probed:
    """The queue probes of one broker; the first of them, and what it told last."""

    def __init__(
        self, url: str, heard: Heard | None = None, options: Mapping[str, Any] | None = None, **settings: Any
    ) -> None:
        self.heard = heard or Heard()
        self.settings = Settings(**settings)
        broker = BrokerSettings(url=url, transport_options=dict(options or {}))
        self.probes: list[Probe] = [
            probe for probe in probes_for(broker, self.settings, self.heard) if probe.name.startswith("queues.")
        ]
        self.told: dict[tuple[str, tuple[str, ...]], float] = {}

    def ask(self, place: int = 0) -> Probed:
        """Ask one of the probes."""
        told = answer_of(self.probes[place])
        self.told = {(name, labels): value for name, samples in told.items() for labels, value in samples.items()}
        return self

    def value(self, family: str, *labels: str) -> float | None:
        """One sample of `celery_queue_<family>`, None if there is none."""
        return self.told.get((f"celery_queue_{family}", labels))

    def values(self, family: str) -> dict[tuple[str, ...], float]:
        """All samples of `celery_queue_<family>`."""
        return {labels: value for (name, labels), value in self.told.items() if name == f"celery_queue_{family}"}

    def close(self) -> None:
        """Close all probes."""
        for probe in self.probes:
            probe.close()
