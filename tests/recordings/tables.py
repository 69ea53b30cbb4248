"""The tables of the README, made from the recordings and the table of scenarios."""

from __future__ import annotations

from pathlib import Path

from recordings.scenarios import ALL, SCENARIOS, VERSIONS, Scenario
from recordings.sequences import events, means_the_same, sequence, short

MARK = "<!-- Everything below is written by record.py. -->"

#: Stands where there is nothing to say.
NONE = "-"

MINORS = tuple(version.rpartition(".")[0] for version in VERSIONS)


def write_readme(folder: Path) -> None:
    """Write the tables under the text of the README."""
    readme = folder / "README.md"
    text = readme.read_text().partition(MARK)[0] if readme.exists() else ""
    tables = [_scenarios(), *(_sequences(folder, pool) for pool in ALL), _exceptions(folder)]
    readme.write_text("\n\n".join([text + MARK, *tables]) + "\n")


def _scenarios() -> str:
    """Return the table of what happens in each scenario."""
    rows = ["## Scenarios", "", "| scenario | what happens | only on |", "|---|---|---|"]
    rows += [f"| {name} | {scenario.description} | {_only(scenario)} |" for name, scenario in SCENARIOS.items()]
    return "\n".join(rows)


def _only(scenario: Scenario) -> str:
    pools = "" if scenario.pools == ALL else ", ".join(scenario.pools)
    versions = "" if scenario.versions == VERSIONS else ", ".join(scenario.versions)
    words = " ".join(filter(None, [pools, versions]))
    return f"{words}: {scenario.skipped}" if words else ""


def _sequences(folder: Path, pool: str) -> str:
    """Return one pool's table: a row for each scenario, a column for each version."""
    rows = [f"## Sequences on {pool}", "", f"| scenario | {' | '.join(MINORS)} |", "|---|---|---|---|"]
    for name, scenario in SCENARIOS.items():
        if pool in scenario.pools:
            files = [folder / minor / pool / f"{name}.jsonl" for minor in MINORS]
            rows.append(f"| {name} | {' | '.join(_cells(files))} |")
    return "\n".join(rows)


def _cells(files: list[Path]) -> list[str]:
    """Return what each version said, "same" where it is what the first said."""
    first = sequence(files[0]) if files[0].exists() else []
    cells = [" ".join(first) or NONE]
    for file in files[1:]:
        heard = sequence(file) if file.exists() else []
        cells.append("same" if heard and means_the_same(heard, first) else " ".join(heard) or NONE)
    return cells


def _exceptions(folder: Path) -> str:
    """Return the table of what failed and retried events say of their cause, equal ones in one row."""
    rows = ["## What failed and retried events say", ""]
    rows += ["| scenario | event | exception | last line of the traceback | in |", "|---|---|---|---|---|"]
    for (name, kind, exception, last), places in _sayings(folder).items():
        where = "; ".join(f"{pool} {', '.join(minors)}" for pool, minors in places.items())
        rows.append(f"| {name} | {kind} | {_code(exception)} | {_code(last)} | {where} |")
    return "\n".join(rows)


def _sayings(folder: Path) -> dict[tuple[str, str, str, str], dict[str, list[str]]]:
    """Return scenario, event, exception and last line, and for each the pools and versions where it was said."""
    sayings: dict[tuple[str, str, str, str], dict[str, list[str]]] = {}
    for name in SCENARIOS:
        for pool in ALL:
            for minor in MINORS:
                for said in _said(folder / minor / pool / f"{name}.jsonl"):
                    sayings.setdefault((name, *said), {}).setdefault(pool, []).append(minor)
    return sayings


def _said(file: Path) -> list[tuple[str, str, str]]:
    """Return the type, the exception and the traceback's last line of events with an exception, each once."""
    said = [event for event in events(file) if "exception" in event] if file.exists() else []
    each = [(short(event["type"]), event["exception"], _last_line(event.get("traceback"))) for event in said]
    return list(dict.fromkeys(each))


def _last_line(traceback: str | None) -> str:
    return (traceback or "").strip().rpartition("\n")[2]


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else NONE
