"""A task that calls somebody else without a timeout."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from celery_observe.findings import Severity
from celery_observe.lint.module import Module, constant, is_open, keyword, method
from celery_observe.lint.registry import Hit, rule
from celery_observe.lint.task import calls_in

BAD = (
    """
import requests
from celery import shared_task


@shared_task
def rates():
    return requests.get("https://bank.example/rates").json()  # bad
""",
    """
import smtplib
from urllib.request import urlopen

import httpx
from celery import Celery
from requests import Session

app = Celery("shop")


@app.task
def send(text):
    with Session() as session:
        session.post("https://hooks.example", data=text)  # bad
    httpx.post("https://hooks.example", data=text, timeout=None)  # bad
    deliver(text)


def deliver(text):
    server = smtplib.SMTP("mail.example")  # bad
    server.sendmail("shop@example.org", "customer@example.org", text)
    urlopen("https://hooks.example/done")  # bad
""",
)
GOOD = (
    """
import smtplib
import requests
from celery import shared_task
from urllib.request import urlopen


@shared_task
def rates(**options):
    requests.get("https://bank.example/rates", **options)
    urlopen("https://bank.example/rates", None, 10)
    with smtplib.SMTP("mail.example", timeout=10) as server:
        server.noop()
    return requests.get("https://bank.example/rates", timeout=(3, 10)).json()


def page():
    return requests.get("https://bank.example")


@shared_task
def hand_over():
    def later():
        return requests.get("https://bank.example")

    return later
""",
    """
import httpx
import requests
from celery import shared_task


class Impatient(requests.Session):
    def request(self, *args, **kwargs):
        return super().request(*args, timeout=5, **kwargs)


@shared_task
def rates():
    httpx.get("https://bank.example/rates")
    return Impatient().get("https://bank.example/rates").json()


@shared_task(time_limit=60)
def slow():
    return requests.get("https://bank.example/all").json()
""",
)

_VERBS: Final = frozenset({"delete", "get", "head", "options", "patch", "post", "put", "request"})
_SESSIONS: Final = frozenset({"requests.Session", "requests.session", "requests.sessions.Session"})
_PATIENT: Final = {f"requests.{verb}": 99 for verb in _VERBS} | {f"requests.api.{verb}": 99 for verb in _VERBS}
_POSITIONS: Final = _PATIENT | {
    "ftplib.FTP": 4,
    "http.client.HTTPConnection": 2,
    "http.client.HTTPSConnection": 4,
    "imaplib.IMAP4": 2,
    "imaplib.IMAP4_SSL": 3,
    "poplib.POP3": 2,
    "smtplib.SMTP": 3,
    "smtplib.SMTP_SSL": 5,
    "socket.create_connection": 1,
    "urllib.request.urlopen": 2,
}
"""What waits for ever by default, and which positional argument is the timeout."""
_NEEDS_HOST: Final = ("ftplib.", "smtplib.")
"""These connect at once only if they are given a host."""
_FINITE: Final = ("httpx.",)
"""These have a timeout unless it is turned off."""


@rule(
    Severity.WARNING,
    alerts=("CeleryTaskHung", "CeleryWorkerSaturated"),
    metrics=("celery_task_oldest_running_seconds", "celery_task_runtime_seconds"),
)
def missing_timeout(module: Module) -> Iterator[Hit]:
    """A task makes a network call without a timeout.

    A peer that accepts the connection and never answers holds the task, and its slot, for ever; as many of them as
    there are slots stop the worker. Nothing fails, so nothing is retried and nothing is logged. Calls in functions
    that a task calls count too. Where the task, or all tasks, have a time limit, they do not: that ends them.

    Fix: Pass `timeout=` to the call, less than the time limit of the task.
    """
    if any(module.callee(call) == "socket.setdefaulttimeout" for call in module.nodes(ast.Call)):
        return
    for function in module.functions():
        task = module.project.executed.get(function)
        if task is None or task.is_limited:
            continue
        for call in calls_in(function):
            name = _unbounded(module, call) if module.function(call) is function else ""
            if name:
                yield Hit(call, f"{name} has no timeout, and task {task.name} calls it.")


def _unbounded(module: Module, call: ast.Call) -> str:
    """Return the name of a call that waits for ever; "" for any other."""
    name = module.callee(call)
    timeout = keyword(call, "timeout")
    if is_open(call) or (timeout is not None and constant(timeout) is not None):
        return ""
    if name.startswith(_FINITE) and name.rpartition(".")[2] in {*_VERBS, "Client", "AsyncClient"}:
        return name if timeout is not None else ""
    if name in _POSITIONS:
        is_connecting = bool(call.args or keyword(call, "host")) or not name.startswith(_NEEDS_HOST)
        return name if is_connecting and len(call.args) <= _POSITIONS[name] else ""
    if method(call) in _VERBS and isinstance(call.func, ast.Attribute) and _is_session(module, call.func.value):
        return f"requests.Session.{method(call)}"
    return ""


def _is_session(module: Module, node: ast.expr) -> bool:
    values = module.values(node)
    return all(value is not None and module.callee(value) in _SESSIONS for value in values)
