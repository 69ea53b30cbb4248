"""Read a recording, and tell in short notation what was heard."""

from __future__ import annotations

import json
from collections import Counter
from itertools import dropwhile
from pathlib import Path
from typing import Any

#: Event types in short notation; other types stand in full.
SHORT = {
    "task-sent": "s",
    "task-received": "r",
    "task-started": "st",
    "task-succeeded": "ok",
    "task-failed": "f",
    "task-retried": "rt",
    "task-revoked": "rv",
    "task-rejected": "rj",
    "task-cancelled": "cn",
    "worker-online": "on",
    "worker-offline": "off",
}

#: A recording with more events than these is told in numbers.
MANY = 24


def read(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header of a recording and its messages: `at` and `body`."""
    header, *messages = map(json.loads, file.read_text().splitlines())
    return header, messages


def events(file: Path) -> list[dict[str, Any]]:
    """Return the events of a recording one by one, those of lists too."""
    bodies = (message["body"] for message in read(file)[1])
    return [event for body in bodies for event in (body if isinstance(body, list) else [body])]


def short(kind: str) -> str:
    """Return an event type in short notation."""
    return SHORT.get(kind, f"`{kind}`")


def sequence(file: Path) -> list[str]:
    """Return what was heard but heartbeats, once a worker is online; numbered by task if there are several."""
    heard = [event for event in events(file) if event["type"] != "worker-heartbeat"]
    heard = list(dropwhile(lambda event: event["type"] == "worker-online", heard))
    if len(heard) > MANY:
        return [f"{count} {short(kind)}" for kind, count in Counter(e["type"] for e in heard).items()]
    tasks = list(dict.fromkeys(event["uuid"] for event in heard if "uuid" in event))
    if len(tasks) < 2:
        return [short(event["type"]) for event in heard]
    numbers = {task: str(number) for number, task in enumerate(tasks, 1)}
    return [short(event["type"]) + numbers.get(event.get("uuid", ""), "") for event in heard]


def means_the_same(one: list[str], other: list[str]) -> bool:
    """Say whether two sequences differ at most in when publishers spoke: they race with the worker."""

    def parts(heard: list[str]) -> tuple[list[str], list[str]]:
        sent = [word for word in heard if word.rstrip("0123456789") == "s"]
        return sorted(sent), [word for word in heard if word not in sent]

    return parts(one) == parts(other)
