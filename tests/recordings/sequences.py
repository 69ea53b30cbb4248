"""Read recordings and tell in short notation what was heard; the README's tables come from here."""

from __future__ import annotations

import json
from collections import Counter
from itertools import dropwhile
from pathlib import Path
from typing import Any

from recordings.scenarios import ALL, SCENARIOS, VERSIONS

#: Event types in short notation; heartbeats are left out, other types stand in full.
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
#: Stands where there is nothing to say.
NONE = "-"
_MARK = "<!-- Everything below is written by record.py. -->"
#: A recording with more events than these is told in numbers.
_MANY = 24


def read(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header of a recording and its messages: `at` and `body`."""
    header, *messages = map(json.loads, file.read_text().splitlines())
    return header, messages


def events(file: Path) -> list[dict[str, Any]]:
    """Return the events of a recording one by one, those of lists too."""
    bodies = (message["body"] for message in read(file)[1])
    return [event for body in bodies for event in (body if isinstance(body, list) else [body])]


def sequence(file: Path) -> str:
    """Return what was heard after the worker came online, numbered by task when there are several."""
    heard = [event for event in events(file) if event["type"] != "worker-heartbeat"]
    heard = list(dropwhile(lambda event: event["type"] == "worker-online", heard))
    if len(heard) > _MANY:
        return " ".join(f"{count} {_short(kind)}" for kind, count in Counter(e["type"] for e in heard).items())
    tasks = list(dict.fromkeys(event["uuid"] for event in heard if "uuid" in event))
    several = len(tasks) > 1
    return " ".join(
        _short(event["type"]) + (str(tasks.index(event["uuid"]) + 1) if several and "uuid" in event else "")
        for event in heard
    )


def write_readme(folder: Path) -> None:
    """Write the tables of what was heard under the text of the README."""
    readme = folder / "README.md"
    text = readme.read_text().partition(_MARK)[0] if readme.exists() else ""
    tables = [_sequences(folder, pool) for pool in ALL]
    readme.write_text("\n".join([text + _MARK, "", *tables, _exceptions(folder)]) + "\n")


def _short(kind: str) -> str:
    return SHORT.get(kind, f"`{kind}`")


def _minors() -> list[str]:
    return [version.rpartition(".")[0] for version in VERSIONS]


def _sequences(folder: Path, pool: str) -> str:
    """Return one pool's table: a row for each scenario, a column for each version."""
    rows = [f"## Sequences on {pool}", "", f"| scenario | {' | '.join(_minors())} |", "|---|---|---|---|"]
    for name, scenario in SCENARIOS.items():
        if pool not in scenario.pools:
            continue
        files = [folder / minor / pool / f"{name}.jsonl" for minor in _minors()]
        cells = [sequence(file) or "nothing" if file.exists() else NONE for file in files]
        cells = [cells[0], *("same" if cell == cells[0] != NONE else cell for cell in cells[1:])]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*rows, ""])


def _exceptions(folder: Path) -> str:
    """Return the table of what failed and retried events say of their cause, equal ones in one row."""
    rows = ["## What failed and retried events say", ""]
    rows += ["| scenario | event | exception | last line | in |", "|---|---|---|---|---|"]
    seen: dict[tuple[str, str, str, str], list[str]] = {}
    for name in SCENARIOS:
        for pool in ALL:
            for minor in _minors():
                file = folder / minor / pool / f"{name}.jsonl"
                for said in dict.fromkeys(_said(file)) if file.exists() else ():
                    seen.setdefault((name, *said), []).append(f"{pool} {minor}")
    for (name, kind, exception, last), where in seen.items():
        rows.append(f"| {name} | {kind} | {_code(exception)} | {_code(last)} | {', '.join(where)} |")
    return "\n".join(rows)


def _said(file: Path) -> list[tuple[str, str, str]]:
    """Return the type, the exception and the traceback's last line of each event that has an exception."""
    said = [event for event in events(file) if "exception" in event]
    return [(_short(event["type"]), event["exception"], _last_line(event.get("traceback"))) for event in said]


def _last_line(traceback: str | None) -> str:
    return (traceback or "").strip().rpartition("\n")[2]


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else NONE
