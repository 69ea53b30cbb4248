"""Imports point downwards, and what computes is apart from what talks to the world."""

from __future__ import annotations

from house.source import PACKAGE, imports, name_of, python_files

# From the roof to the ground. A module or package imports only from floors below its own, and from itself.
FLOORS = (
    {"__main__"},
    {"cli"},
    {"demo"},
    {"doctor"},
    {"health", "instrument", "lint", "trace", "worker"},
    {"hosting"},
    {"pipeline"},
    {"asker"},
    {"delivery", "listener", "reader"},
    {"exposition", "probes", "sinks", "streams", "tracing"},
    {"otlp"},
    {"hooks"},
    {"capacity", "gauges", "labels", "leader", "names", "overview", "page", "stalled", "state", "testing"},
    {"compat"},
    {"recorder", "workflow"},
    {"journal", "series"},
    {"ends", "steps", "successes", "tracker", "worker_beats"},
    {"chords", "chronicle"},
    {"shard"},
    {"fleet", "lineage", "progress"},
    {"departures"},
    {"metrics", "attempt", "cause"},
    {"detail"},
    {"app"},
    {"connection"},
    {"guard"},
    {"beat"},
    {"report"},
    {"event", "fact"},
    {"settings"},
    {"broker"},
    {"findings", "logs"},
    {"masking", "errors", "tree"},
    {"__version__"},
)

# Tested with literals: their clock is an argument, and they reach nothing outside.
PURE = {
    "attempt",
    "beat",
    "capacity",
    "cause",
    "chords",
    "chronicle",
    "compat",
    "departures",
    "detail",
    "ends",
    "event",
    "fact",
    "findings",
    "fleet",
    "gauges",
    "hooks",
    "journal",
    "labels",
    "lineage",
    "metrics",
    "names",
    "otlp.points",
    "overview",
    "page",
    "progress",
    "recorder",
    "report",
    "series",
    "shard",
    "stalled",
    "steps",
    "successes",
    "testing",
    "tracing.conventions",
    "tracing.replay",
    "tracing.replay_sampling",
    "tracker",
    "tree",
    "worker_beats",
    "workflow",
}
WORLD = {
    "amqp",
    "asyncio",
    "celery",
    "http",
    "kombu",
    "os",
    "redis",
    "socket",
    "structlog",
    "threading",
    "time",
    "tornado",
}


def room(dotted: str) -> str:
    """The module or package directly below `celery_observe`: `streams` of `celery_observe.streams.redis`."""
    return dotted.split(".")[1] if "." in dotted else ""


def floor(name: str) -> int:
    """The number of a room's floor; 0 is the roof."""
    numbers = [number for number, rooms in enumerate(FLOORS) if name in rooms]
    assert numbers, f"celery_observe.{name} has no floor: add it to FLOORS"
    return numbers[0]


def test_imports_point_downwards() -> None:
    """No module imports from a floor above, or from another room of its own floor."""
    upwards = [
        f"{name_of(file)} imports {imported}"
        for file in python_files("celery_observe")
        if file != PACKAGE / "__init__.py"
        for imported in imports(file)
        if imported.startswith("celery_observe.")
        if room(imported) != room(name_of(file)) and floor(room(imported)) <= floor(room(name_of(file)))
    ]

    assert not upwards


def test_what_computes_does_not_touch_the_world() -> None:
    """The tracker and its like import no broker client, no clock, no process and no network."""
    touching = [
        f"{name_of(file)} imports {imported}"
        for file in python_files("celery_observe")
        if {room(name_of(file)), name_of(file).partition(".")[2]} & PURE
        for imported in imports(file)
        if imported.split(".")[0] in WORLD
    ]

    assert not touching
