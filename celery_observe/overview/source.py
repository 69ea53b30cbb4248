"""Where a view comes from: the samples of one broker, or of the processes that report here."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from celery_observe.metrics import Family
from celery_observe.recorder import Recorder
from celery_observe.series import Labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Source(NamedTuple):
    """One recorder, and whether what it tells of this moment can be believed."""

    recorder: Recorder
    live: bool = True
    connected: bool = True
    problems: Mapping[str, str] = {}
    """Why plug-ins failed that failed when they ran last, secrets masked."""

    @property
    def broker(self) -> str:
        """The name of the broker, empty if there is one only."""
        return self.recorder.const_labels.get("broker", "")

    def told(self, family: Family) -> dict[Labels, float]:
        """Return the samples of a counter or gauge as they would be served now."""
        return {} if family.live and not self.live else self.recorder[family].values

    def read(self, family: Family, *names: str) -> Iterator[tuple[Labels, float]]:
        """Yield the values of these labels with each sample, whatever other labels the family has been given."""
        labels = self.recorder[family].family.labels
        places = [labels.index(name) for name in names]
        for key, value in self.told(family).items():
            yield tuple(key[place] for place in places), value

    def sums(self, family: Family, *names: str) -> Counter[Labels]:
        """Return the sums of the samples by the values of these labels."""
        found: Counter[Labels] = Counter()
        for key, value in self.read(family, *names):
            found[key] += value  # type: ignore[assignment]  # of floats, in which Counter counts as well
        return found

    def by(self, family: Family, name: str) -> dict[str, float]:
        """Return the sums of the samples by the values of one label."""
        return {key: value for (key,), value in self.sums(family, name).items()}

    def total(self, family: Family) -> float | None:
        """Return the sum of all samples; None if there is none."""
        told = self.told(family)
        return sum(told.values()) if told else None
