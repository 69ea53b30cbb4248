"""The shop sends each task where it belongs."""

from __future__ import annotations

from typing import Any

import pytest

from celery_observe.demo.shop import app, catalogue, configuration, fulfilment, limits, messages, reports
from celery_observe.demo.shop.order import Order
from celery_observe.demo.shop.routing import QUEUES

ORDER: Order = {
    "number": 1,
    "customer": "c1",
    "tier": "standard",
    "value": 50,
    "lines": ["book"],
    "card": "good",
    "city": "Delft",
}


@pytest.fixture(autouse=True)
def _on_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent: the URL says which way priorities go."""
    monkeypatch.setitem(app.conf, "broker_write_url", "redis://")
    app.set_current()


def routed(task: Any, *args: Any, **options: Any) -> tuple[str, int]:
    """Queue and priority of a call."""
    own = task._get_exec_options()  # noqa: SLF001 - as Celery does when the task is called
    route = app.amqp.router.route(own | options, task.name, args, {}, task_type=task)
    return route["queue"].name, route["priority"]


@pytest.mark.parametrize(
    ("task", "args", "queue"),
    [
        (messages.sweep, (), "low"),
        (messages.confirm, ("c1",), "low"),
        (reports.extract, (3,), "low"),
        (catalogue.resize, ("chair",), "low"),
        (limits.export, ("c1",), "default"),
        (fulfilment.validate, (ORDER,), "default"),
        (fulfilment.charge, (ORDER | {"value": 500},), "high"),
        (fulfilment.pack, (["book"], ORDER | {"value": 500}), "high"),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_task_goes_to_its_queue(task: Any, args: tuple[Any, ...], queue: str) -> None:
    """By name, glob, regular expression, attribute, or by what it is about."""
    assert routed(task, *args)[0] == queue


def test_the_call_has_the_last_word() -> None:
    """Over routers and tables."""
    assert routed(catalogue.resize, "chair", queue="high")[0] == "high"


@pytest.mark.parametrize(("url", "gold", "standard"), [("redis://", 1, 5), ("sentinel://", 1, 5), ("amqp://", 8, 4)])
def test_gold_comes_first_on_every_broker(monkeypatch: pytest.MonkeyPatch, url: str, gold: int, standard: int) -> None:
    """Redis takes the smallest number first, RabbitMQ the largest."""
    monkeypatch.setitem(app.conf, "broker_write_url", url)

    assert routed(fulfilment.validate, ORDER | {"tier": "gold"})[1] == gold
    assert routed(fulfilment.validate, ORDER)[1] == standard


def test_what_is_not_an_order_is_neither_urgent_nor_not() -> None:
    """A message without a priority would be the first on Redis, and the last on RabbitMQ."""
    assert routed(limits.export, "c1")[1] == routed(messages.confirm, "c1")[1] == 5


def test_routes_lead_to_declared_queues_that_a_worker_consumes() -> None:
    """All others are dead letters."""
    declared = {queue.name for queue in configuration.task_queues}

    assert declared - set(QUEUES) == {"dead_letters"}


def test_an_order_is_a_chain_that_tells_of_its_failure() -> None:
    """With a chord for its lines, and the box."""
    canvas = fulfilment.fulfil(ORDER)

    validate, charge, parcel = canvas.tasks
    assert (validate.task, charge.task, parcel.task) == ("orders.validate", "payments.charge", "celery.chord")
    assert [member.args for member in parcel.tasks] == [("book",), ("box",)]
    assert [errback.task for errback in canvas.options["link_error"]] == ["orders.cancel"]
