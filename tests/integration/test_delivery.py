"""From facts to real servers: what is told once, and that nothing that is dead or slow delays anything."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from statistics import median
from typing import Any

import msgspec
import pytest

from celery_observe import delivery as delivering
from celery_observe.delivery import MOST_FACTS, MOST_MESSAGES, Delivery, plan
from celery_observe.fact import Cause, Detail, Exit, Fact, Failed, WorkerExited, WorkerUp
from celery_observe.guard import Guard
from celery_observe.hooks import breaker, on_fact
from celery_observe.hooks.conditions import FACTS, attributes
from celery_observe.hooks.registry import registered
from celery_observe.metrics import CATALOGUE, Family, alerts
from celery_observe.recorder import Recorder
from celery_observe.settings import load
from services.certificates import Certificates
from services.ports import LOOPBACK, free_port
from services.prometheus import Alertmanager
from services.receiver import Receiver
from services.waiting import eventually
from services.webhook import Webhook

Start = Callable[..., "Running"]


class Running:
    """A delivery at work, and the recorder whose facts it watches."""

    def __init__(self, own: Recorder, recorder: Recorder, thread: Delivery) -> None:
        self.own = own
        self.recorder = recorder
        self.thread = thread

    def told(self, family: Family, *labels: str) -> float:
        """Return what a family says."""
        return self.own[family].values.get(labels, 0)

    def delivered(self, sink: str) -> int:
        """Return how many messages a sink has taken."""
        return int(self.told(alerts.SENT, sink))

    def stop(self) -> None:
        """End, as the pipeline does."""
        self.thread.stopping.set()
        self.thread.join()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a delivery with rules and sinks; short waits unless they say otherwise."""
    with ExitStack() as stack:

        def run(sinks: dict[str, Any], *rules: dict[str, Any], **settings: Any) -> Running:
            own, recorder = Recorder(), Recorder(const_labels=settings.pop("const_labels", {}))
            tables = [{"group_wait": 0, **rule} for rule in rules]
            given = load({"alert_rule": tables, "alert_sink": sinks, **settings}, {}, instrumented=True)
            thread = Delivery(plan(given), own, Guard(own.record))
            thread.watch(recorder)
            running = Running(own, recorder, thread)
            stack.callback(running.stop)
            thread.start()
            return running

        yield run


@pytest.fixture
def receiver() -> Iterator[Callable[..., Receiver]]:
    """Start servers that answer as they are told."""
    with ExitStack() as stack:
        yield lambda *answers, **options: stack.enter_context(Receiver(*answers, **options))


@pytest.fixture
def hooks() -> Iterator[None]:
    """Whatever is registered, is not afterwards."""
    before = dict(registered)
    yield
    registered.clear()
    registered.update(before)


def failed(task: str = "t", **fields: Any) -> Failed:
    """Return a failure."""
    return Failed(task, "q", "w1@h", "KeyError", Cause.EXCEPTION, **fields)


def _has_got(server: Receiver, count: int) -> bool:
    return len(server.deliveries) >= count


def _has_raised(running: Running, count: int) -> bool:
    return running.told(alerts.RAISED, "failed") >= count


def hook(url: str, **options: Any) -> dict[str, Any]:
    """Return a webhook's table."""
    return {"type": "webhook", "url": url, "timeout": 0.3, **options}


def test_a_fact_is_told_within_a_second(start: Start, receiver: Callable[..., Receiver]) -> None:
    """Those that meet the conditions, with the constant labels of their recorder."""
    server = receiver()
    running = start({"a": hook(server.url)}, {"on": "failed", "task": "t*"}, const_labels={"broker": "eu"})
    running.recorder.record(failed("other"))
    taken = []
    for number in range(1, 4):
        started = time.monotonic()
        running.recorder.record_all([failed(f"t{number}", detail=Detail(f"id-{number}"))])
        eventually(partial(_has_got, server, number), what="a delivery")
        taken.append(time.monotonic() - started)

    assert median(taken) < 1.0
    (alert,) = server.deliveries[0].json["alerts"]
    assert alert["labels"]["broker"] == "eu"
    assert alert["detail"]["uuid"] == "id-1"
    eventually(lambda: running.delivered("a") == len(taken), what="the count")
    assert running.told(alerts.RAISED, "failed") == len(taken)


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_can_be_told(name: str, start: Start, receiver: Callable[..., Receiver]) -> None:
    """With the summary that it has of itself."""
    server = receiver()
    running = start({"webhook": hook(server.url)}, {"on": name})

    running.recorder.record(example(FACTS[name]))
    eventually(lambda: server.deliveries, what="a message")

    assert server.deliveries[0].json["rule"] == name
    assert "{" not in server.deliveries[0].json["title"]


def example(kind: type[Fact]) -> Fact:
    """Return a fact of this kind, of which all is known that may be asked."""
    return msgspec.convert({name: _any(each) for name, each in attributes(kind).items()}, kind)


def _any(kind: type) -> Any:
    if issubclass(kind, StrEnum):
        return next(iter(kind))
    return 1 if kind is float else "x"


def test_ten_thousand_identical_failures_in_a_second_are_one_message(
    start: Start, receiver: Callable[..., Receiver]
) -> None:
    """And cost the pipeline's thread little; those that are not looked at are counted."""
    server = receiver()
    running = start({"a": hook(server.url)}, {"on": "failed", "group_wait": 1})
    burst: list[Fact] = [failed(detail=Detail("id", 0, "x" * 4000)) for _ in range(10_000)]

    started = time.thread_time()
    running.recorder.record_all(burst)
    took = time.thread_time() - started

    eventually(lambda: server.deliveries, what="a delivery")
    (alert,) = server.deliveries[0].json["alerts"]
    assert alert["count"] + running.told(alerts.FACTS_DROPPED) == 10_000
    assert alert["count"] > 5_000
    assert len(server.deliveries) == 1
    assert took < 1.0


def test_a_thousand_different_failures_are_ten_and_a_number(start: Start, receiver: Callable[..., Receiver]) -> None:
    """The limit of a rule, which is told and counted."""
    server = receiver()
    running = start({"a": hook(server.url)}, {"on": "failed", "group_wait": 1})

    running.recorder.record_all([failed(f"t{number}") for number in range(1000)])
    eventually(lambda: server.deliveries, what="a delivery")

    told = server.deliveries[0].json
    assert (len(told["alerts"]), told["more"]) == (10, 990)
    assert told["title"].endswith(" and 999 more")
    assert running.told(alerts.LIMITED, "failed") == 990


def test_what_waits_is_bounded(start: Start) -> None:
    """More facts than may wait are counted as dropped, though nobody looks at them."""
    running = start({"a": hook(f"http://{LOOPBACK}:{free_port()}")}, {"on": "failed"})
    running.stop()

    running.recorder.record_all([failed() for _ in range(MOST_FACTS + 7)])
    running.thread.look()

    assert running.told(alerts.FACTS_DROPPED) == 7


@pytest.mark.parametrize("answer", ["hang", "reset", "garbage", 503])
def test_a_dead_sink_delays_neither_the_pipeline_nor_other_sinks(
    answer: str, start: Start, receiver: Callable[..., Receiver]
) -> None:
    """Each has its courier."""
    dead, alive = receiver(answer), receiver()
    running = start({"dead": hook(dead.url), "alive": hook(alive.url)}, {"on": "failed"})

    slowest = 0.0
    for number in range(20):
        started = time.monotonic()
        running.recorder.record(failed(f"t{number}"))
        slowest = max(slowest, time.monotonic() - started)
        eventually(partial(_has_got, alive, min(number, 9) + 1), 5, what="the living sink")

    assert slowest < 0.3  # for which the dead one is waited for
    assert running.delivered("dead") == 0


def test_a_failed_delivery_is_tried_again(start: Start, receiver: Callable[..., Receiver]) -> None:
    """After a moment, and a longer one; it is delivered once."""
    server = receiver(503, "reset", 200)
    running = start({"a": hook(server.url)}, {"on": "failed"})

    running.recorder.record(failed())

    eventually(lambda: running.delivered("a") == 1, what="a delivery")
    assert len(server.deliveries) == 3
    assert running.told(alerts.DROPPED, "a", "refused") == 0


def test_a_receiver_that_asks_for_patience_gets_it(start: Start, receiver: Callable[..., Receiver]) -> None:
    """``Retry-After`` goes before our own pauses."""
    server = receiver(429, 200, headers={"Retry-After": "3"})
    running = start({"a": hook(server.url)}, {"on": "failed"})
    started = time.monotonic()

    running.recorder.record(failed())
    eventually(lambda: running.delivered("a") == 1, what="a delivery")

    assert time.monotonic() - started >= 3


def test_what_is_refused_is_dropped_at_once_and_counted(start: Start, receiver: Callable[..., Receiver]) -> None:
    """And the next message is tried."""
    server = receiver(400, 200)
    running = start({"a": hook(server.url)}, {"on": "failed"})

    running.recorder.record(failed("a"))
    eventually(lambda: running.told(alerts.DROPPED, "a", "refused") == 1, what="a refusal")
    running.recorder.record(failed("b"))

    eventually(lambda: running.delivered("a") == 1, what="a delivery")
    assert len(server.deliveries) == 2


def test_the_circuit_opens_and_closes_and_what_waited_is_delivered(
    start: Start, receiver: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sink that fails is left alone; nothing is lost meanwhile."""
    monkeypatch.setattr(breaker, "_SHORTEST", 1.0)
    monkeypatch.setattr(delivering, "TRIES", 2)
    server = receiver(500)
    running = start({"a": hook(server.url)}, {"on": "failed"})

    for number in range(5):
        running.recorder.record(failed(f"t{number}"))
        eventually(partial(_has_raised, running, number + 1))
    eventually(lambda: len(server.deliveries) >= 3, what="a try once the circuit was open")
    assert len(server.deliveries) < 6
    server.answers[:] = [200]

    eventually(lambda: len({each.body for each in server.deliveries}) >= 5, what="all messages")
    eventually(lambda: running.delivered("a") == 5, what="all counted")
    assert sum(running.own[alerts.DROPPED].values.values()) == 0


def test_messages_that_wait_for_a_dead_sink_are_bounded(start: Start, receiver: Callable[..., Receiver]) -> None:
    """The newest are dropped, and counted."""
    server = receiver("hang")
    running = start({"a": hook(server.url, timeout=60)}, {"on": "failed", "limit": 1000})
    for number in range(MOST_MESSAGES + 20):
        running.recorder.record(failed(f"t{number}"))
        running.thread.look()

    eventually(lambda: running.told(alerts.DROPPED, "a", "queue_full") > 0, what="drops")
    assert running.told(alerts.WAITING, "a") <= MOST_MESSAGES


def test_the_end_of_the_process_tells_what_is_left(start: Start, receiver: Callable[..., Receiver]) -> None:
    """Without waiting for others, and without waiting for the dead."""
    alive, dead = receiver(), receiver("hang")
    running = start({"alive": hook(alive.url), "dead": hook(dead.url, timeout=30)}, {"on": "failed", "group_wait": 60})
    running.recorder.record(failed())
    started = time.monotonic()

    running.stop()

    assert time.monotonic() - started < 5.0
    assert len(alive.deliveries) == 1


def test_an_end_is_told_to_those_who_were_told(start: Start, receiver: Callable[..., Receiver]) -> None:
    """A worker that was lost is back."""
    server = receiver()
    rule = {"on": "worker_exited", "kind": "lost", "until": {"on": "worker_up", "up_over": 0}}
    running = start({"a": hook(server.url)}, rule)

    running.recorder.record(WorkerUp("w1", 1))
    running.recorder.record(WorkerExited("w1", Exit.LOST))
    eventually(lambda: len(server.deliveries) == 1, what="the loss")
    running.recorder.record(WorkerUp("w1", 1))
    eventually(lambda: len(server.deliveries) == 2, what="the return")

    statuses = [each.json["alerts"][0]["status"] for each in server.deliveries]
    assert statuses == ["firing", "resolved"]


@pytest.mark.usefixtures("hooks")
def test_a_hook_in_python_is_called_and_what_it_returns_is_told(
    start: Start, receiver: Callable[..., Receiver]
) -> None:
    """In a thread of its own; if it returns nothing, nothing is told."""
    server, seen = receiver(), []

    @on_fact("failed", task="t*", group_wait=0, severity="critical")
    def tell(found: Failed) -> str | None:
        seen.append(threading.current_thread().name)
        return f"{found.task}: password=hunter2" if found.task == "t1" else None

    running = start({"a": hook(server.url)})
    running.recorder.record_all([failed("other"), failed("t0"), failed("t1")])

    eventually(lambda: server.deliveries, what="a delivery")
    (alert,) = server.deliveries[0].json["alerts"]
    assert (alert["rule"], alert["summary"], alert["severity"]) == ("tell", "t1: password=***", "critical")
    assert seen == ["hook-tell", "hook-tell"]


@pytest.mark.usefixtures("hooks")
def test_a_hook_that_raises_or_hangs_harms_nobody(start: Start, receiver: Callable[..., Receiver]) -> None:
    """It is a plug-in: its errors are counted, its facts are bounded, and rules go on."""
    server, release = receiver(), threading.Event()

    @on_fact("failed", name="raises")
    def raises(_found: Failed) -> str:
        message = "no"
        raise LookupError(message)

    @on_fact("failed", name="hangs")
    def hangs(_found: Failed) -> None:
        release.wait(30)

    running = start({"a": hook(server.url)}, {"on": "failed"})
    running.recorder.record_all([failed() for _ in range(3 * MOST_MESSAGES)])

    eventually(lambda: server.deliveries, what="a delivery")
    page = {family.name: running.own[family] for family in CATALOGUE}
    errors = page["celery_observe_plugin_errors_total"]
    eventually(lambda: errors.values.get(("hook-raises",), 0) >= 3, what="errors")
    eventually(lambda: running.told(alerts.FACTS_DROPPED) > MOST_MESSAGES, what="drops")
    release.set()


def test_a_standby_tells_nothing(receiver: Callable[..., Receiver]) -> None:
    """Of several replicas one tells."""
    server, leads = receiver(), [False]
    own, recorder = Recorder(), Recorder()
    given = load(
        {"alert_rule": [{"on": "failed", "group_wait": 0}], "alert_sink": {"a": hook(server.url)}},
        {},
        instrumented=True,
    )
    thread = Delivery(plan(given), own, Guard(own.record))
    thread.watch(recorder, lambda: all(leads))
    thread.start()

    recorder.record(failed("a"))
    leads[0] = True
    recorder.record(failed("b"))
    eventually(lambda: server.deliveries, what="a delivery")
    thread.stopping.set()
    thread.join()

    assert [alert["labels"]["task"] for each in server.deliveries for alert in each.json["alerts"]] == ["b"]


def test_without_rules_nothing_is_there() -> None:
    """No thread, no recorder that is watched, not even the code."""
    code = """
import sys
from celery_observe.pipeline import Pipeline
from celery_observe.settings import load
Pipeline(load({"broker": ("redis://localhost:1",), "port": "0"}, {}))
print([name for name in ("celery_observe.delivery", "celery_observe.sinks", "tenacity") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_delivering_imports_nothing(receiver: Callable[..., Receiver], certificates: Certificates) -> None:
    """A worker forks its children beside the threads that do, and an import that is cut in two never ends."""
    plain, encrypted = receiver(503, "reset", 400, "garbage", 302, 200), receiver(tls=certificates)
    sinks = {
        "slack": plain.url.replace(LOOPBACK, "localhost"),
        "alertmanager": plain.url.replace("http://", "http://user:password@"),
        "webhook": {"url": encrypted.url, "ca_file": str(certificates.authority), "secret": "s"},
        "pagerduty": {"url": plain.url, "routing_key": "k"},
        "untrusted": hook(encrypted.url),
    }
    code = f"""
import sys, time
from celery_observe import logs, pipeline
from celery_observe.delivery import Delivery, plan
from celery_observe.fact import Cause, Detail, Failed
from celery_observe.guard import Guard
from celery_observe.recorder import Recorder
from celery_observe.settings import load
logs.be_hosted()
own, recorder = Recorder(), Recorder()
rules = [{{"on": "failed", "group_wait": 0}}]
settings = load({{"alert_rule": rules, "alert_sink": {sinks!r}}}, {{}}, instrumented=True)
thread = Delivery(plan(settings), own, Guard(own.record))
thread.watch(recorder)
before = set(sys.modules)
thread.start()
for number in range(4):
    recorder.record(Failed(f"t{{number}}", "q", "w", "E", Cause.EXCEPTION, Detail("id")))
    time.sleep(0.5)
thread.stopping.set()
thread.join(5)
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
    assert len(plain.deliveries) > 6
    assert encrypted.deliveries


def test_a_real_alertmanager_tells_once_and_tells_the_end(
    start: Start, alertmanager: Alertmanager, webhook: Webhook
) -> None:
    """With the shipped configuration: the critical go to the pager, each once."""
    rule = {
        "on": "worker_exited",
        "kind": "lost",
        "name": "CeleryWorkerGone",
        "severity": "critical",
        "until": {"on": "worker_up", "up_over": 0},
    }
    running = start({"alertmanager": alertmanager.url}, rule)

    for _ in range(3):
        running.recorder.record(WorkerExited("w1@h", Exit.LOST))
    eventually(webhook.summary, what="a page")
    running.recorder.record(WorkerUp("w1@h", 1))
    eventually(lambda: len(webhook.summary()) >= 2, what="its end")

    assert webhook.summary() == [
        ("pager", "CeleryWorkerGone", "firing"),
        ("pager", "CeleryWorkerGone", "resolved"),
    ]
    told = next(webhook.told())
    assert told.labels["worker"] == "w1@h"
    assert told.annotations["summary"] == "worker w1@h has left: lost"
