"""A small shop: one task for each way a Celery task can end."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, Task, chain
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

app = Celery("shop")
app.config_from_object("celeryconfig")

#: Celery's decorator, with a type.
task: Callable[..., Callable[[Callable[..., Any]], Any]] = app.task


class CardDeclinedError(Exception):
    """The bank said no: an exception of the shop's own, in a module of its own."""


class OutOfStockError(Exception):
    """An exception that cannot be pickled: its arguments are not those of its constructor."""

    def __init__(self, article: str, wanted: int) -> None:
        super().__init__(f"{article}: {wanted} wanted")


class LostAfterSuccess(Task):  # type: ignore[misc]
    """A task whose child dies once the result is stored."""

    def on_success(self, *_: object) -> None:
        """End this process as the kernel would."""
        os.kill(os.getpid(), signal.SIGKILL)


def first_run(running: Task) -> bool:
    """Say whether this is the first time that the task of this id runs, across processes."""
    return bool(app.backend.client.incr(f"runs:{running.request.id}") == 1)


@task(name="shop.add")
def add(left: int, right: int) -> int:
    """Return the sum."""
    return left + right


@task(name="shop.total")
def total(numbers: list[int]) -> int:
    """Return the sum of a chord's header."""
    return sum(numbers)


@task(name="shop.wait")
def wait(seconds: float) -> str:
    """Work for some seconds."""
    time.sleep(seconds)
    return "done"


@task(name="shop.wait_late", acks_late=True)
def wait_late(seconds: float) -> str:
    """Work for some seconds; the message is acknowledged afterwards."""
    time.sleep(seconds)
    return "done"


@task(name="shop.pay")
def pay() -> None:
    """Fail with an exception of the shop's own."""
    message = "card declined"
    raise CardDeclinedError(message)


@task(name="shop.order")
def order() -> None:
    """Fail with an exception that cannot be pickled."""
    article = "lamp"
    raise OutOfStockError(article, 3)


@task(name="shop.refund")
def refund() -> None:
    """Fail with one exception from another."""
    cards: dict[str, str] = {}
    try:
        del cards["card"]
    except KeyError as error:
        message = "no card"
        raise ValueError(message) from error


@task(name="shop.fetch", bind=True, max_retries=1)
def fetch(self: Task, failures: int) -> str:
    """Fail so many times, retrying with the exception at hand."""
    prices: dict[str, str] = {} if self.request.retries < failures else {"price": "fetched"}
    try:
        return prices["price"]
    except KeyError as error:
        raise self.retry(exc=error, countdown=0.3) from error


@task(name="shop.poll", bind=True, max_retries=1)
def poll(self: Task, failures: int) -> str:
    """Retry so many times although nothing was raised."""
    if self.request.retries < failures:
        raise self.retry(countdown=0.3)
    return "arrived"


@task(name="shop.autofetch", autoretry_for=(KeyError,), max_retries=1, default_retry_delay=0)
def autofetch() -> str:
    """Fail each time; Celery retries on its own."""
    prices: dict[str, str] = {}
    return prices["price"]


@task(name="shop.soft", soft_time_limit=1)
def soft() -> str:
    """Work for longer than the soft limit."""
    time.sleep(2.5)
    return "done"


@task(name="shop.soft_caught", soft_time_limit=1)
def soft_caught() -> str:
    """Give up in good order at the soft limit."""
    try:
        time.sleep(2.5)
    except SoftTimeLimitExceeded:
        return "gave up"
    return "done"


@task(name="shop.hard", time_limit=1)
def hard() -> str:
    """Work for longer than the hard limit."""
    time.sleep(2.5)
    return "done"


@task(name="shop.hard_late", bind=True, time_limit=1, acks_late=True, acks_on_failure_or_timeout=False)
def hard_late(self: Task) -> str:
    """Work for longer than the hard limit the first time; the message goes back."""
    time.sleep(2.5 if first_run(self) else 0)
    return "done"


@task(name="shop.soft_hard", soft_time_limit=1, time_limit=2)
def soft_hard() -> str:
    """Ignore the soft limit and run into the hard one."""
    try:
        time.sleep(3.5)
    except SoftTimeLimitExceeded:
        time.sleep(2.5)
    return "done"


@task(name="shop.sigkill")
def sigkill() -> None:
    """Kill the process that runs this."""
    os.kill(os.getpid(), signal.SIGKILL)


@task(name="shop.segfault")
def segfault() -> None:
    """End as a crashing extension module would."""
    os.kill(os.getpid(), signal.SIGSEGV)


@task(name="shop.memory")
def memory() -> int:
    """Ask for more memory than the process may have."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, before[1]))
    try:
        return len(bytearray(16 << 30))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@task(name="shop.sigkill_late", bind=True, acks_late=True, reject_on_worker_lost=True)
def sigkill_late(self: Task) -> str:
    """Kill the process the first time; the message goes back to the queue."""
    if first_run(self):
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@task(name="shop.sigkill_retry", bind=True, retry_on_worker_lost=True, default_retry_delay=0)
def sigkill_retry(self: Task) -> str:
    """Kill the process the first time; Celery 5.7 retries in the name of the lost child."""
    if not self.request.retries:
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@task(name="shop.leave")
def leave() -> None:
    """Leave the interpreter politely."""
    sys.exit(1)


@task(name="shop.leave_now")
def leave_now() -> None:
    """Leave the interpreter at once."""
    os._exit(3)


@task(name="shop.reject", bind=True, acks_late=True)
def reject(self: Task, *, requeue: bool) -> str:
    """Hand the message back, or throw it away, the first time."""
    if first_run(self):
        message = "not today"
        raise Reject(message, requeue=requeue)
    return "done"


@task(name="shop.reject_early")
def reject_early() -> None:
    """Reject a message that was acknowledged already."""
    message = "too late"
    raise Reject(message, requeue=False)


@task(name="shop.ignore")
def ignore() -> None:
    """End without any result."""
    raise Ignore


@task(name="shop.replace", bind=True)
def replace(self: Task) -> None:
    """Let another task run under the same id."""
    raise self.replace(add.s(2, 3))


@task(name="shop.replace_chain", bind=True)
def replace_chain(self: Task) -> None:
    """Let a chain run in place of this task."""
    raise self.replace(chain(add.s(2, 3), add.s(4)))


@task(name="shop.lost_after_success", base=LostAfterSuccess)
def lost_after_success() -> str:
    """Succeed, then lose the child."""
    return "done"


@task(name="shop.pack", bind=True)
def pack(self: Task) -> str:
    """Tell how far the work is with events of the shop's own."""
    self.send_event("task-progress", done=1, total=2)
    self.send_event("shop-parcel-packed", weight=1.5)
    return "packed"


@task(name="shop.quiet", send_events=False)
def quiet() -> str:
    """Work without events, but for the one that the publisher sends."""
    return "done"


@task(name="shop.unprintable")
def unprintable() -> Any:
    """Return what JSON cannot hold."""
    return object()
