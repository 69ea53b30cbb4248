"""Mail and SMS: no more of them than the provider takes, and none to those who have bought meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

from celery import Signature, group

from celery_observe.demo.shop import app, outside


@app.task(name="mail.confirm", rate_limit="100/m")
def confirm(customer: str) -> None:
    """Mail a confirmation."""
    outside.postman(customer)


@app.task(name="sms.notify", rate_limit="10/s")
def notify(customer: str) -> None:
    """Send an SMS."""
    outside.postman(customer)


@app.task(name="sms.limit")
def limit(rate: str) -> None:
    """Change how many SMS each worker sends that runs now; one that is started later begins with 10 a second."""
    app.control.rate_limit(notify.name, rate)


@app.task(name="carts.remind")
def remind(customer: str) -> None:
    """Remind of a forgotten cart: has an ETA, and is pointless after the purchase or the end of the offer."""
    outside.postman(customer)


@app.task(name="carts.sweep")
def sweep() -> None:
    """Look for forgotten carts."""
    remind.apply_async(("nobody",), countdown=1.0)


def announce(customers: Iterable[str]) -> Signature:
    """Return what tells all customers of a sale: a group, each member on its own."""
    return group([notify.s(customer) for customer in customers])
