"""A HorizontalPodAutoscaler and KEDA, as far as a manifest of the chart tells them what to do; and pods of workers.

The algorithm is the one of Kubernetes' documentation of the HorizontalPodAutoscaler, for a metric with AverageValue:
as many replicas as the value asks for, a tolerance of a tenth, the highest wish within the window before any are taken,
and a limit to how many come or go within a period. KEDA adds the way from zero, and back after the cooldown.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple, Self

from services.worker import Worker

TOLERANCE = 0.1
UP_PERIOD, UP_PODS = 15.0, 4
"""Kubernetes' default: within 15 seconds twice as many, or four more."""


class Target(NamedTuple):
    """What a manifest wants."""

    per_replica: float
    least: int
    most: int
    window: float
    """Seconds of which the highest wish counts."""
    down_fraction: float
    down_period: float
    """What part of the replicas may go within how many seconds."""
    activation: float | None
    cooldown: float
    """Of KEDA: the value above which there is work, None for an HPA; and seconds without any until none is left."""


def target_of(manifest: Mapping[str, Any]) -> Target:
    """What a ScaledObject or a HorizontalPodAutoscaler wants."""
    spec = manifest["spec"]
    if manifest["kind"] == "ScaledObject":
        metadata = spec["triggers"][0]["metadata"]
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        bounds = (float(metadata["threshold"]), spec["minReplicaCount"], spec["maxReplicaCount"])
        keda = (float(metadata["activationThreshold"]), float(spec["cooldownPeriod"]))
        return Target(*bounds, *_down(behavior), *keda)
    external = spec["metrics"][0]["external"]
    bounds = (float(external["target"]["averageValue"]), spec["minReplicas"], spec["maxReplicas"])
    return Target(*bounds, *_down(spec["behavior"]), None, 0.0)


def _down(behavior: Mapping[str, Any]) -> tuple[float, float, float]:
    down = behavior["scaleDown"]
    (policy,) = down["policies"]
    return float(down["stabilizationWindowSeconds"]), policy["value"] / 100, float(policy["periodSeconds"])


class Autoscaler:
    """Says how many replicas there should be, look by look."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._wishes: list[tuple[float, int]] = []
        self._past: list[tuple[float, int]] = []
        self._active_at = -math.inf

    def look(self, now: float, replicas: int, value: float | None) -> int:
        """The replicas that there should be at `now`; those there are, if the metric has no value."""
        if value is None:
            return replicas
        self._past.append((now, replicas))
        target = self._target
        if target.activation is not None:
            if value > target.activation:
                self._active_at = now
                replicas = max(replicas, 1)
            elif not target.least and (not replicas or now - self._active_at >= target.cooldown):
                return 0
        return self._paced(now, replicas, self._stable(now, self._wish(replicas, value), replicas))

    def _wish(self, replicas: int, value: float) -> int:
        ratio = value / (self._target.per_replica * replicas)
        wanted = replicas if abs(1 - ratio) <= TOLERANCE else math.ceil(value / self._target.per_replica)
        return min(max(wanted, self._target.least, 1), self._target.most)

    def _stable(self, now: float, wish: int, replicas: int) -> int:
        self._wishes.append((now, wish))
        highest = max(each for at, each in self._wishes if now - at <= self._target.window)
        return wish if wish >= replicas else min(highest, replicas)

    def _paced(self, now: float, replicas: int, wish: int) -> int:
        target = self._target
        fewest_lately = min(each for at, each in self._past if now - at <= UP_PERIOD)
        most_lately = max(each for at, each in self._past if now - at <= target.down_period)
        ceiling = max(2 * fewest_lately, fewest_lately + UP_PODS)
        floor = math.floor(most_lately * (1 - target.down_fraction))
        return min(wish, max(ceiling, replicas)) if wish > replicas else max(wish, min(floor, replicas))


class Pod(Worker):
    """A worker that is started, and may not consume yet."""

    def wait_ready(self) -> None:
        """Do not wait: nor does Kubernetes."""


class Pods:
    """The pods of a Deployment: the newest go first, by SIGTERM, and have as long as they need to end."""

    def __init__(self, make: Callable[[], Pod]) -> None:
        self._make = make
        self._stack = ExitStack()
        self.there: list[Pod] = []
        self.gone: list[Pod] = []

    def __enter__(self) -> Self:
        """With none."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End all."""
        self._stack.close()

    def scale(self, replicas: int) -> None:
        """Start or end as many as it takes."""
        while len(self.there) < replicas:
            self.there.append(self._stack.enter_context(self._make()))
        while len(self.there) > replicas:
            pod = self.there.pop()
            pod.send_signal(signal.SIGTERM)
            self.gone.append(pod)


class Loop:
    """The control loop: looks at a metric, and scales pods."""

    def __init__(self, manifest: Mapping[str, Any], ask: Callable[[], float | None], pods: Pods) -> None:
        self._autoscaler = Autoscaler(target_of(manifest))
        self._ask = ask
        self._pods = pods
        self.history: list[int] = []

    def look(self) -> int:
        """Look once, and scale; the replicas there are now."""
        replicas = self._autoscaler.look(time.monotonic(), len(self._pods.there), self._ask())
        self._pods.scale(replicas)
        if self.history[-1:] != [replicas]:
            self.history.append(replicas)
        return replicas
