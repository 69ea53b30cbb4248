"""The shop under a Prometheus, on each broker: its pages are right, and every panel has something to draw."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from house.boards import Query, queries
from house.rules import RULE_FILES
from house.shop import EVERYWHERE, Claim, SpanClaim, claims, span_claims
from services.demo import READY, Demo
from services.exporter import Exporter
from services.otlp import OtlpReceiver, Span
from services.ports import LOOPBACK
from services.prometheus import Prometheus
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.waiting import eventually
from services.webhook import Webhook

pytestmark = [pytest.mark.workers, pytest.mark.xdist_group("demo"), pytest.mark.timeout(300)]

LOOK_BACK = "[10m:1s]"
NEVER = " == 0"
"""How a claim ends that something has not happened: it is held of the whole run."""
WITHIN = 60.0
"""Seconds: every kind of order comes every nine."""

TASKS = ("payments.charge", "catalogue.import")
"""With one or the other every panel about a task has something to draw: the first fails, the second tells progress."""

NOTHING_TO_DRAW = {
    "observer: Raised [B]": "no rule reaches its limit",
    "observer: Sent and dropped [B]": "no message is dropped",
    "overview: What fires": "nothing may fire",
    "workers: How they left [B]": "no worker says goodbye",
}
HOOKED = (
    *("observer: Raised [A]", "observer: Sent and dropped [A]"),
    *("observer: Until delivered", "observer: Waiting, and not looked at [A]"),
)
"""What is told of hooks, of which the shop has none."""

MANAGED = (
    *("queues: Published", "queues: Delivered", "queues: Acknowledged", "queues: Redelivered"),
    *("queues: In flight", "queues: Queues [B]"),
)
"""What RabbitMQ's management API tells, which the shop's exporter does not ask."""

NOT_TOLD = {"Redis": MANAGED[:4], "RabbitMQ": (*MANAGED, "queues: Scheduled", "queues: Queues [C]")}
"""What the shop's exporter does not hear of a broker; of classic queues RabbitMQ tells nobody what is scheduled."""


def missing(prometheus: Prometheus, awaited: list[Claim]) -> list[Claim]:
    """Those that have not been true at any moment."""
    return [claim for claim in awaited if not prometheus.query(f"count_over_time(({claim.expression}){LOOK_BACK})")]


def broken(prometheus: Prometheus, claimed: list[Claim]) -> list[Claim]:
    """Those that say that something is never there, and yet there was a moment at which it was."""
    never = ((claim, claim.expression.removesuffix(NEVER)) for claim in claimed if claim.expression.endswith(NEVER))
    return [claim for claim, what in never if prometheus.query(f"max_over_time(({what}){LOOK_BACK}) != 0")]


def expected(broker: str) -> list[Query]:
    """The queries of all panels, but for those that have their reason to yield nothing."""
    without = (*NOTHING_TO_DRAW, *HOOKED, *NOT_TOLD[broker])
    return [query for query in queries() if not str(query).startswith(without)]


def silent(prometheus: Prometheus, asked: list[Query], seconds: dict[str, float]) -> list[Query]:
    """Those that yield nothing; how long each took is added to `seconds`."""
    return [query for query in asked if not any(_drawn(prometheus, query, task, seconds) for task in TASKS)]


def _drawn(prometheus: Prometheus, query: Query, task: str, seconds: dict[str, float]) -> bool:
    expression = query.filled(task=task, __rate_interval="10s", __interval="1s", __range="2m")
    begun = time.perf_counter()
    drawn = prometheus.query(expression) if query.instant else prometheus.query_range(expression, span=120, step=1)
    seconds[str(query)] = time.perf_counter() - begun
    return bool(drawn)


def draws(prometheus: Prometheus, asked: list[Query]) -> None:
    """Hold that every query is answered, and has something to draw."""
    seconds: dict[str, float] = {}

    def all_draw() -> bool:
        asked[:] = silent(prometheus, asked, seconds)
        return not asked

    with suppress(AssertionError):  # said below, by name
        eventually(all_draw, 1.5 * WITHIN)  # some rules are evaluated twice a minute
    for name, took in sorted(seconds.items(), key=lambda each: -each[1])[:10]:
        print(f"{took:6.3f} s  {name}")
    print(f"{sum(seconds.values()):6.3f} s  all {len(seconds)} queries")
    assert list(map(str, asked)) == []


def proves(demo: Demo, prometheus: Callable[..., Prometheus], broker: str) -> None:
    """Hold that all that is claimed of a broker comes true, and that every panel has something to draw."""
    demo.wait_output(READY, timeout=90)
    observed = prometheus({"shop": [demo.metrics_port, demo.sidecar_port]}, rules=RULE_FILES)
    claimed = [claim for claim in claims() if claim.broker in {EVERYWHERE, broker}]
    awaited = list(claimed)

    def all_are_true() -> bool:
        awaited[:] = missing(observed, awaited)
        return not awaited

    with suppress(AssertionError):  # said below, by name
        eventually(all_are_true, WITHIN)
    assert list(map(str, awaited)) == []
    draws(observed, expected(broker))
    assert list(map(str, broken(observed, claimed))) == []


def unseen(traces: OtlpReceiver, awaited: list[SpanClaim]) -> list[SpanClaim]:
    """Those of which there is no span yet."""
    spans = traces.spans
    names = {span.id: span.name for span in spans}
    return [claim for claim in awaited if not any(_is_claimed(claim, span, names) for span in spans)]


def _is_claimed(claim: SpanClaim, span: Span, names: dict[str, str]) -> bool:
    if span.name != claim.span:
        return False
    found: dict[str, set[str]] = {name: {str(value)} for name, value in span.attributes.items()}
    found |= {"parent": {names.get(span.parent, "")}, "status": {span.status}}
    found |= {"link": {str(link.attributes.get("celery.link")) for link in span.links}}
    found |= {"event": {moment.name for moment in span.events}}
    return all(value in found.get(name, ()) for name, value in claim.traits)


def traces_prove(traces: OtlpReceiver) -> None:
    """Hold that all that is claimed of spans comes true."""
    awaited = list(span_claims())

    def all_are_made() -> bool:
        awaited[:] = unseen(traces, awaited)
        return not awaited

    with suppress(AssertionError):  # said below, by name
        eventually(all_are_made, WITHIN)
    assert list(map(str, awaited)) == []


def ends(demo: Demo) -> None:
    """Hold that nothing was lost meanwhile."""
    demo.terminate(timeout=30)
    assert "all accounted for" in demo.summary[-1]


@pytest.fixture
def traces(processes: ExitStack) -> OtlpReceiver:
    """Where the shop sends its spans."""
    return processes.enter_context(OtlpReceiver())


@pytest.fixture
def shop(processes: ExitStack, tmp_path: Path, traces: OtlpReceiver) -> Callable[[str], Demo]:
    """Open the shop on a broker, with nothing around it; what it is told of proxies is for others."""
    options = ("--port", "0", "--no-prometheus", "--no-browser", "--traces", "--broker")
    told = {**traces.environment, "no_proxy": LOOPBACK}
    return lambda broker: processes.enter_context(Demo(tmp_path, *options, broker, env=told))


def test_all_that_is_claimed_is_seen_on_redis(
    start_redis: Callable[..., Redis],
    shop: Callable[[str], Demo],
    traces: OtlpReceiver,
    prometheus: Callable[..., Prometheus],
) -> None:
    """Pattern by pattern, as docs/shop has it."""
    demo = shop(start_redis().url)

    proves(demo, prometheus, "Redis")
    traces_prove(traces)
    ends(demo)


def test_all_that_is_claimed_is_seen_on_rabbitmq(
    rabbitmq_url: str,
    rabbitmq_server: RabbitMQ,
    shop: Callable[[str], Demo],
    traces: OtlpReceiver,
    exporter: Callable[..., Exporter],
    webhook: Webhook,
    prometheus: Callable[..., Prometheus],
) -> None:
    """Pattern by pattern, as docs/shop has it; another exporter has hooks, and asks the management API."""
    demo = shop(rabbitmq_url)
    management = f"http://{LOOPBACK}:{rabbitmq_server.management_port}"
    rule, sink = json.dumps({"name": "failed", "on": "failed"}), f"webhook={webhook.url}"
    options = ("--management-url", management, "--queue-interval", "2", "--alert-rule", rule, "--alert-sink", sink)
    told = [query for query in queries() if str(query).startswith((*MANAGED, *HOOKED))]

    demo.wait_output(READY, timeout=90)
    beside = exporter(rabbitmq_url, arguments=options)
    proves(demo, prometheus, "RabbitMQ")
    traces_prove(traces)
    draws(prometheus({"shop": [beside.port]}, rules=RULE_FILES), told)
    ends(demo)
