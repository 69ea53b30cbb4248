"""From samples to a collector: all of them each interval, over OTLP, in a thread of its own.

The exporter is OpenTelemetry's, set up by its own variables (``OTEL_EXPORTER_OTLP_*``,
``OTEL_EXPORTER_OTLP_METRICS_*``), which say where to, with which headers, certificates, compression and patience; it
repeats what a collector cannot take now, for as long as the patience lasts. Nothing is kept for later: the next push
says all that the last one would have.
"""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from celery_observe import __version__
from celery_observe.errors import PushError, SettingsError
from celery_observe.guard import contained
from celery_observe.masking import mask_text
from celery_observe.otlp.exporters import exporter_of, resource_with
from celery_observe.otlp.points import batches
from celery_observe.settings import metrics_exporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics.export import Metric
    from opentelemetry.sdk.resources import Resource

    from celery_observe.guard import Guard
    from celery_observe.series import Series

PLUGIN = "push"
MOST_POINTS = 3000
"""Points of a request, at the most: collectors take 4 MiB over gRPC, of which a histogram is some 600 bytes."""
EXPORTED, REFUSED = ("exported",), ("refused",)

_SCOPE = InstrumentationScope("celery_observe", __version__)


class Push(threading.Thread):
    """Pushes what ``read`` returns each ``interval`` seconds, and once more at the end.

    ``instance`` says who we are once we run; ``pushed`` is where points are counted.

    Raises:
        SettingsError: OpenTelemetry's variables are wrong, or ask for what there is not.
    """

    def __init__(
        self,
        interval: float,
        read: Callable[[], list[Metric]],
        instance: Callable[[], str],
        pushed: Series,
        guard: Guard,
    ) -> None:
        super().__init__(name=PLUGIN, daemon=True)
        self.stopping = threading.Event()
        self._interval = interval
        self._read = read
        self._instance = instance
        self._pushed = pushed
        self._guard = guard
        self._exporter = contained(exporter_of("metrics", metrics_exporter()), _unusable)
        for outcome in (EXPORTED, REFUSED):
            pushed.increase(outcome, 0)

    def run(self) -> None:
        """Push until told to stop, then once more."""
        due = time.monotonic()
        while not self.stopping.wait(max(0.0, due - time.monotonic())):
            self._guard.run(PLUGIN, self.push)
            due = max(due + self._interval, time.monotonic())
        self._guard.run(PLUGIN, self.push)
        self._guard.run(PLUGIN, self._exporter.shutdown, timed=False)

    def push(self) -> None:
        """Push all samples once. Raises PushError if a batch is not taken: the others are not tried then."""
        metrics = self._read()
        left = sum(len(metric.data.data_points) for metric in metrics)
        for batch, size in batches(metrics, MOST_POINTS):
            if self._exporter.export(self._data(batch)) is not MetricExportResult.SUCCESS:
                self._pushed.increase(REFUSED, left)
                raise PushError
            self._pushed.increase(EXPORTED, size)
            left -= size

    @cached_property
    def _resource(self) -> Resource:
        return resource_with({"service.instance.id": self._instance(), "service.version": __version__})

    def _data(self, metrics: list[Metric]) -> MetricsData:
        scope = ScopeMetrics(_SCOPE, metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], self._resource.schema_url)])


def _unusable(error: Exception) -> SettingsError:
    return SettingsError(f"OTEL_EXPORTER_OTLP_* cannot be used: {mask_text(str(error)) or type(error).__name__}")
