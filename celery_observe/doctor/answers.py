"""What workers answer, as evidence. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from celery_observe.attempt import unix_time
from celery_observe.doctor.configuration import conf_of
from celery_observe.doctor.evidence import Conf, ConsumedQueue, Running, Scheduled, Task, Worker
from celery_observe.probes.answers import Stats, settings_of
from celery_observe.probes.control import Replies

T = TypeVar("T")

_UNREADABLE = (msgspec.ValidationError, AttributeError, KeyError, TypeError, ValueError)
"""What an answer raises that Celery does not give."""
TASK_ITEMS = (
    "acks_late", "reject_on_worker_lost", "time_limit", "soft_time_limit", "max_retries", "default_retry_delay",
    "retry_backoff", "retry_backoff_max", "priority", "ignore_result", "send_events", "autoretry_for",
)  # fmt: skip
"""The attributes of tasks that `inspect registered` is asked for."""
_ITEM = re.compile(rf" (?=(?:{'|'.join(TASK_ITEMS)})=)")
_TASK = re.compile(r"(?P<name>.+?) \[(?P<items>\w+=.*)\]")


def worker_of(name: str, said: Stats, replies: Replies) -> Worker:
    """Return what one worker said of itself; what it did not answer, or as no Celery does, is None."""
    given = {command: answers[name] for command, answers in replies.items() if name in answers}
    return Worker(
        name=name,
        pid=said.pid,
        pool=said.pool_name,
        slots=said.slots,
        limits=said.limits,
        max_tasks=said.max_tasks,
        queues=_read(given.get("active_queues"), _queues),
        conf=_read(given.get("conf"), _conf),
        tasks=_read(given.get("registered"), _tasks),
        running=_read(given.get("active"), _running),
        scheduled=_read(given.get("scheduled"), _scheduled),
        reserved=_read(given.get("reserved"), len),
    )


def _read(reply: Any, read: Callable[[Any], T]) -> T | None:
    try:
        return None if reply is None or (isinstance(reply, Mapping) and "error" in reply) else read(reply)
    except _UNREADABLE:
        return None


def _conf(reply: Any) -> Conf:
    return conf_of(settings_of(reply))


def _queues(reply: Iterable[Mapping[str, Any]]) -> tuple[ConsumedQueue, ...]:
    return tuple(map(_queue, reply))


def _queue(reply: Mapping[str, Any]) -> ConsumedQueue:
    arguments = reply.get("queue_arguments") or {}
    most = reply.get("max_priority") or arguments.get("x-max-priority")
    return ConsumedQueue(str(reply["name"]), int(most) if most else None, str(arguments.get("x-queue-type", "classic")))


def _running(reply: Iterable[Mapping[str, Any]]) -> tuple[Running, ...]:
    return tuple(Running(str(each["name"]), each.get("time_start"), bool(each.get("acknowledged"))) for each in reply)


def _scheduled(reply: Iterable[Mapping[str, Any]]) -> tuple[Scheduled, ...]:
    dues = ((str(each["request"]["name"]), unix_time(each["eta"])) for each in reply if each.get("eta"))
    return tuple(Scheduled(name, due) for name, due in dues if due is not None)


def _tasks(reply: Iterable[str]) -> dict[str, Task]:
    return dict(map(task_of, reply))


def task_of(told: str) -> tuple[str, Task]:
    """Read one line of `inspect registered`, such as `shop.charge [acks_late=True max_retries=3]`.

    What is None is left out there. Raises ValueError for what Celery does not say.
    """
    match = _TASK.fullmatch(told)
    if match is None:
        return told, Task()
    said = dict(item.split("=", 1) for item in _ITEM.split(match["items"]))
    backoff = said.get("retry_backoff", "0")
    return match["name"], Task(
        acks_late=said.get("acks_late") == "True",
        reject_on_worker_lost=said.get("reject_on_worker_lost") == "True",
        time_limit=_number(said.get("time_limit")),
        soft_time_limit=_number(said.get("soft_time_limit")),
        max_retries=int(said["max_retries"]) if "max_retries" in said else None,
        default_retry_delay=float(said.get("default_retry_delay", 180.0)),
        retries_by_itself=said.get("autoretry_for", "()") not in {"()", "[]"},
        retry_backoff=float({"True": "1", "False": "0"}.get(backoff, backoff)),
        retry_backoff_max=float(said.get("retry_backoff_max", 600.0)),
        priority=int(said["priority"]) if "priority" in said else None,
        ignore_result=said.get("ignore_result") == "True",
        sends_events=said.get("send_events") != "False",
    )


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
