"""The way of an order: from the cart to the customer, and back when something fails."""

from __future__ import annotations

from celery import Signature, Task, chain, chord, group

from celery_observe.demo.shop import app, outside
from celery_observe.demo.shop.bases import DatabaseTask, RetryableTask
from celery_observe.demo.shop.messages import confirm, notify
from celery_observe.demo.shop.order import Order


class InvalidAddressError(Exception):
    """Nobody can deliver there."""


class OutOfStockError(Exception):
    """The last one has just been sold."""


@app.task(name="orders.validate")
def validate(order: Order) -> Order:
    """Check an order; the next task gets it. Raises InvalidAddressError."""
    if not outside.post_office(order["city"]):
        raise InvalidAddressError(order["city"])
    return order


@app.task(bind=True, base=RetryableTask, name="payments.charge", max_retries=2)
def charge(self: Task, order: Order) -> Order:
    """Charge the card; a bank that does not answer is asked three times in all."""
    outside.bank(order["card"], attempt=self.request.retries)
    return order


@app.task(bind=True, base=DatabaseTask, name="inventory.reserve", ignore_result=False)
def reserve(self: DatabaseTask, article: str) -> str:
    """Take an article off the shelf. Raises OutOfStockError."""
    outside.shelf(article)
    with self.database as database:
        taken = database.execute("UPDATE stock SET pieces = pieces - 1 WHERE article = ? AND pieces > 0", [article])
    if not taken.rowcount:
        raise OutOfStockError(article)
    return article


@app.task(name="shipping.pack")
def pack(articles: list[str], order: Order) -> Order:
    """Put all that was reserved into the box."""
    for article in articles:
        outside.shelf(article)
    return order


@app.task(name="shipping.label", soft_time_limit=1)
def label(order: Order) -> None:
    """Print the label of a parcel; a printer that jams is given up after a second."""
    outside.printer(order["city"])


@app.task(name="orders.cancel")
def cancel(order: Order) -> None:
    """Undo what was done for an order that cannot be fulfilled."""
    outside.post_office(order["city"])


@app.task(bind=True, base=DatabaseTask, name="inventory.count")
def count(self: DatabaseTask) -> None:
    """Look how much there is."""
    self.database.execute("SELECT sum(pieces) FROM stock").fetchone()


def fulfil(order: Order) -> Signature:
    """Return what is to be done for an order: a chain, with a chord for its lines, and a group that tells the customer.

    `charge.s()` is partial: it gets what `validate` returns. `reserve.si(…)` is immutable: it does not.
    """
    # With the box there are always two: of a chord of one Celery makes a chain, and `pack` would get no list.
    parcel = chord([reserve.si(article) for article in (*order["lines"], "box")], pack.s(order))
    tell = group(confirm.si(order["customer"]), notify.si(order["customer"]))
    return chain(validate.s(order), charge.s(), parcel, label.s(), tell).on_error(cancel.si(order))
