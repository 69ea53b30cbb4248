"""One reading of the exporter's /metrics, and what can be asked of it."""

from __future__ import annotations

import http.client
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from celery_observe.metrics import Family
from celery_observe.overview.quantile import quantile

_TIMEOUT = 5.0


def fetch(host: str, port: int, path: str) -> tuple[int, str]:
    """GET a page from a server of this machine, whatever proxy is configured; return status and text.

    Raises:
        OSError: nothing answers within 5 s.
        http.client.HTTPException: what answers is no HTTP server.
    """
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Reading:
    """The samples of a page in the Prometheus text format, by name.

    With `relabel`, values of labels are replaced as they are read: what gets the same is summed.
    """

    def __init__(self, text: str, relabel: Mapping[str, Callable[[str], str]] | None = None) -> None:
        self._samples: defaultdict[str, list[Sample]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                changed = {
                    label: new(sample.labels[label]) for label, new in (relabel or {}).items() if label in sample.labels
                }
                self._samples[sample.name].append(sample._replace(labels=sample.labels | changed))

    def _select(self, name: str, labels: dict[str, str]) -> Iterator[Sample]:
        for sample in self._samples.get(name, ()):
            if labels.items() <= sample.labels.items():
                yield sample

    def total(self, family: Family, **labels: str) -> float:
        """Return the sum of the samples with these labels; 0 when there are none, as PromQL's `sum or 0`."""
        return sum(sample.value for sample in self._select(family.name, labels))

    def count(self, family: Family, **labels: str) -> int:
        """Return how often something was observed in the series of a histogram that have these labels."""
        return int(sum(sample.value for sample in self._select(f"{family.name}_count", labels)))

    def by(self, family: Family, label: str, **labels: str) -> Counter[str]:
        """Return the sums of the samples with these labels, by the values of one more."""
        sums: Counter[str] = Counter()
        for sample in self._select(family.name, labels):
            sums[sample.labels[label]] += int(sample.value)
        return sums

    def largest(self, family: Family) -> float:
        """Return the largest sample; NaN when there is none."""
        return max((sample.value for sample in self._select(family.name, {})), default=math.nan)

    def quantile(self, q: float, family: Family, **labels: str) -> float:
        """Estimate a quantile over all series of a histogram that have these labels; NaN when empty."""
        buckets: Counter[float] = Counter()
        for sample in self._select(f"{family.name}_bucket", labels):
            buckets[float(sample.labels["le"])] += int(sample.value)
        return quantile(q, sorted(buckets.items()))
