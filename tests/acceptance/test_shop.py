"""The shop under a Prometheus, on each broker: what its pages claim comes true."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from house.shop import EVERYWHERE, Claim, claims
from services.demo import READY, Demo
from services.prometheus import Prometheus
from services.redis import Redis
from services.waiting import eventually

pytestmark = [pytest.mark.workers, pytest.mark.xdist_group("demo"), pytest.mark.timeout(300)]

LOOK_BACK = "[10m:1s]"
WITHIN = 60.0
"""Seconds: every kind of order comes every nine."""


def missing(prometheus: Prometheus, awaited: list[Claim]) -> list[Claim]:
    """Those that have not been true at any moment."""
    return [claim for claim in awaited if not prometheus.query(f"count_over_time(({claim.expression}){LOOK_BACK})")]


def proves(demo: Demo, prometheus: Callable[..., Prometheus], broker: str) -> None:
    """Hold that all that is claimed of a broker comes true, and that nothing was lost meanwhile."""
    demo.wait_output(READY, timeout=90)
    observed = prometheus({"exporter": [demo.metrics_port], "sidecar": [demo.sidecar_port]})
    awaited = [claim for claim in claims() if claim.broker in {EVERYWHERE, broker}]

    def all_are_true() -> bool:
        awaited[:] = missing(observed, awaited)
        return not awaited

    with suppress(AssertionError):  # said below, by name
        eventually(all_are_true, WITHIN)
    assert list(map(str, awaited)) == []
    demo.terminate(timeout=30)
    assert "all accounted for" in demo.summary[-1]


def test_all_that_is_claimed_is_seen_on_redis(
    start_redis: Callable[..., Redis], prometheus: Callable[..., Prometheus], processes: ExitStack, tmp_path: Path
) -> None:
    """Pattern by pattern, as docs/shop has it."""
    demo = processes.enter_context(Demo(tmp_path, "--port", "0", "--broker", start_redis().url))

    proves(demo, prometheus, "Redis")


def test_all_that_is_claimed_is_seen_on_rabbitmq(
    rabbitmq_url: str, prometheus: Callable[..., Prometheus], processes: ExitStack, tmp_path: Path
) -> None:
    """Pattern by pattern, as docs/shop has it."""
    demo = processes.enter_context(Demo(tmp_path, "--port", "0", "--broker", rabbitmq_url))

    proves(demo, prometheus, "RabbitMQ")
