"""The shop: a Celery app whose tasks take time, fail, retry, hang and are called off, as in real shops.

Three queues, by how urgent the work is. Each task does what its arguments say: the load decides what happens.
"""

from __future__ import annotations

import time

from celery import Celery, Task

QUEUES = ("high", "default", "low")
"""A worker each; from what a customer waits for to what may be done at night."""

TASKS = (
    "orders.validate",
    "payments.charge",
    "inventory.reserve",
    "shipping.label",
    "mail.confirm",
    "carts.remind",
    "images.resize",
    "reports.daily",
    "legacy.sync",
)
"""Every name that the load publishes, in the order of the summary. No worker knows the last one any more."""

app = Celery("shop")
app.conf.update(
    broker_connection_retry_on_startup=True,
    enable_utc=True,
    task_default_queue="default",
    task_ignore_result=True,
    task_routes={
        "orders.*": {"queue": "high"},
        "payments.*": {"queue": "high"},
        "images.*": {"queue": "low"},
        "legacy.*": {"queue": "low"},
        "mail.*": {"queue": "low"},
        "reports.*": {"queue": "low"},
    },
    task_send_sent_event=True,
    worker_prefetch_multiplier=2,
    worker_send_task_events=True,
)


class InvalidAddressError(Exception):
    """Nobody can deliver there."""


class OutOfStockError(Exception):
    """The last one has just been sold."""


class GatewayTimeoutError(Exception):
    """The payment provider did not answer in time."""


def _work(seconds: float) -> None:
    """Take the time that the real work would."""
    time.sleep(seconds)


@app.task(name="orders.validate")
def validate(*, order: int, seconds: float, deliverable: bool = True) -> None:
    """Check an order; fails with an exception when its address is not `deliverable`."""
    _work(seconds)
    if not deliverable:
        raise InvalidAddressError(order)


@app.task(bind=True, name="payments.charge", max_retries=2)
def charge(self: Task, *, order: int, seconds: float, timeouts: int = 0) -> None:
    """Charge an order; retried after each of the gateway's `timeouts`, until the retries are exhausted."""
    _work(seconds)
    if self.request.retries < timeouts:
        raise self.retry(exc=GatewayTimeoutError(order), countdown=0.3)


@app.task(name="inventory.reserve")
def reserve(*, order: int, seconds: float, in_stock: bool = True) -> None:
    """Put the goods aside; fails with an exception unless they are `in_stock`."""
    _work(seconds)
    if not in_stock:
        raise OutOfStockError(order)


@app.task(name="shipping.label", soft_time_limit=1)
def label(*, order: int, seconds: float) -> int:
    """Print a parcel's label; a jammed printer meets the soft time limit of 1 s."""
    _work(seconds)
    return order


@app.task(name="mail.confirm")
def confirm(*, order: int, seconds: float) -> int:
    """Send the confirmation."""
    _work(seconds)
    return order


@app.task(name="carts.remind")
def remind(*, order: int, seconds: float) -> int:
    """Remind of a forgotten cart: has an ETA, and is pointless after the purchase or the end of the offer."""
    _work(seconds)
    return order


@app.task(name="images.resize", time_limit=1)
def resize(*, order: int, seconds: float) -> int:
    """Scale a product's picture; an endless one meets the hard time limit of 1 s, which kills the child."""
    _work(seconds)
    return order


@app.task(name="reports.daily")
def report(*, order: int, seconds: float) -> int:
    """Add up the day: long, and at times called off while it runs."""
    _work(seconds)
    return order
