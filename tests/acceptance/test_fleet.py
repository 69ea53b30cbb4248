"""Workers that serve their own metrics are one fleet: Prometheus scrapes three, and the shipped rules join them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from services.instrumented import Instrumented
from services.ports import free_port
from services.prometheus import SHIPPED, Prometheus
from services.redis import Redis
from services.waiting import eventually

pytestmark = pytest.mark.timeout(300)

OUTCOMES = 'celery_task_outcomes_total{outcome="succeeded"}'
FAST, SLOW = ("add", 1, 2), ("work", 0.3)
BETWEEN = "0.25"  # seconds, of the bounds: above what FAST takes, below what SLOW does
WINDOW = 300.0  # seconds, of what is recorded
SAMPLES = 20  # of each series, at least: `rate` guesses up to half an interval before the first and 1.1 after the last
NEAR = 1.6 / (SAMPLES - 1)


class Fleet(NamedTuple):
    """Workers that come and go, at ports that Prometheus knows, and all consume one queue."""

    prometheus: Prometheus
    start: Callable[[], Instrumented]
    there: list[Instrumented]

    def add(self) -> None:
        """Start a worker, and have it execute a task of each kind: from now on Prometheus sees its counts grow."""
        for other in self.there:
            other.control.cancel_consumer("celery", destination=[other.node], reply=True)
        worker = self.start()
        for task in (FAST, SLOW):
            worker.send(*task)
        at = f'instance="127.0.0.1:{worker.port}"'
        eventually(lambda: self.prometheus.query(f"sum({OUTCOMES[:-1]}, {at}}}) == 2"), 60.0, what="its first tasks")
        eventually(lambda: self.prometheus.query(f"sum(celery_task_runtime_seconds_count{{{at}}}) == 2"), 30.0)
        for other in self.there:
            other.control.add_consumer("celery", destination=[other.node], reply=True)
        self.there.append(worker)

    def work(self, fast: int, slow: int) -> None:
        """Have so many tasks executed, by whomever, and wait until Prometheus knows."""
        total = f"sum({OUTCOMES})"
        ((_, before),) = self.prometheus.query(total)
        for task in [FAST] * fast + [SLOW] * slow:
            self.there[0].send(*task)
        eventually(lambda: self.prometheus.query(f"{total} == {before + fast + slow}"), 60.0, what="all are counted")

    def rest(self) -> None:
        """Wait until all series have samples enough, and all rules have been evaluated once more."""
        known = f"min(count_over_time({OUTCOMES}[{WINDOW:.0f}s])) >= {SAMPLES}"
        eventually(lambda: self.prometheus.query(known), 60.0, what=f"{SAMPLES} samples of each series")
        ((_, now),) = self.prometheus.query("vector(time())")
        evaluated = "min(timestamp(job:celery_task_outcomes:rate5m))"
        eventually(lambda: self.prometheus.query(f"{evaluated} > {now + 1}"), 30.0, what="the next evaluation")

    def recorded(self, expression: str) -> float:
        """What is recorded of the window, as a number of tasks; there is one series of it."""
        ((_, rate),) = self.prometheus.query(expression)
        return rate * WINDOW


@pytest.fixture
def fleet(processes: ExitStack, tmp_path: Path, redis_server: Redis, prometheus: Callable[..., Prometheus]) -> Fleet:
    """Nobody yet, and room for four."""
    ports = [free_port() for _ in range(4)]
    watching = prometheus({"celery": ports}, rules=sorted((SHIPPED / "rules").glob("*.yml")))
    left = iter(ports)

    def start() -> Instrumented:
        given = {"port": next(left)}
        return processes.enter_context(
            Instrumented(tmp_path, redis_server.url, pool="threads", concurrency=1, instrument=given)
        )

    return Fleet(watching, start, [])


def test_what_is_recorded_of_three_workers_is_what_they_did(fleet: Fleet) -> None:
    """Rates, and the buckets that quantiles are made of; also after one has been replaced by another."""
    for _ in range(3):
        fleet.add()
    fleet.work(fast=30, slow=12)
    check(fleet, fast=30, slow=12)

    gone = fleet.there.pop(0)
    gone.terminate()
    eventually(lambda: not fleet.prometheus.query(f'{OUTCOMES[:-1]}, instance="127.0.0.1:{gone.port}"}}'), 30.0)
    fleet.add()
    fleet.work(fast=10, slow=8)

    check(fleet, fast=40, slow=20)


def check(fleet: Fleet, *, fast: int, slow: int) -> None:
    """Compare what is recorded with what was executed."""
    buckets = "job:celery_task_runtime_seconds_bucket:rate5m"
    wanted = {
        'job:celery_task_outcomes:rate5m{outcome="succeeded"}': fast + slow,
        'task:celery_task_outcomes:rate5m{outcome="succeeded", task="add"}': fast,
        'task:celery_task_outcomes:rate5m{outcome="succeeded", task="work"}': slow,
        'queue:celery_task_started:rate5m{queue="celery"}': fast + slow,
        f'{buckets}{{le="{BETWEEN}"}}': fast,
        f'{buckets}{{le="+Inf"}}': fast + slow,
    }

    fleet.rest()
    assert {name: fleet.recorded(name) for name in wanted} == pytest.approx(wanted, rel=NEAR)
    share = fast / (fast + slow)
    ((_, below),) = fleet.prometheus.query(f"histogram_quantile({share - 0.1}, {buckets})")
    ((_, above),) = fleet.prometheus.query(f"histogram_quantile({share + 0.1}, {buckets})")
    assert below < float(BETWEEN) < above < 1.0
