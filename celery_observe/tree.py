"""A workflow as it is shown: its tasks as a tree, with their states and times, and no arguments."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_ID = 8
"""Characters of an id that are drawn."""


class Twig(msgspec.Struct, omit_defaults=True):
    """One task; times are Unix seconds, of its latest attempt."""

    uuid: str
    task: str
    state: str
    parent: str | None = None
    queue: str = ""
    worker: str = ""
    retries: int = 0
    published: float | None = None
    received: float | None = None
    started: float | None = None
    ended: float | None = None
    group: str | None = None
    critical: bool = False
    """Whether it is on the path that led to the last end."""


class Tree(msgspec.Struct, omit_defaults=True):
    """A workflow; ``left_out`` are the tasks that are not kept any more."""

    root_id: str
    root: str
    state: str
    tasks: int
    open: int
    twigs: list[Twig]
    left_out: int = 0


def draw(tree: Tree) -> Iterator[str]:
    """Yield the lines of a text that shows it; times are since its first."""
    times = [time for twig in tree.twigs if (time := _first(twig)) is not None]
    begin = min(times, default=0.0)
    since = f", since {datetime.fromtimestamp(begin, UTC):%Y-%m-%d %H:%M:%S} UTC" if times else ""
    yield f"{tree.root} {tree.root_id}: {tree.state}, {tree.tasks} tasks, {tree.open} open{since}"
    known = {twig.uuid for twig in tree.twigs}
    children = defaultdict(list)
    for twig in sorted(tree.twigs, key=lambda twig: _first(twig) or begin):
        children[twig.parent if twig.parent in known else None].append(twig)
    yield from _branches(children, begin)
    if tree.left_out:
        yield f"and {tree.left_out} tasks that ended and are not kept"


def _branches(children: dict[str | None, list[Twig]], begin: float) -> Iterator[str]:
    """Yield the lines of all tasks below one another; without recursion, since chains may be long."""
    stack = [(twig, "", place == 0) for place, twig in enumerate(reversed(children.pop(None, [])))]
    while stack:
        twig, indent, is_last = stack.pop()
        yield f"{indent}{'`- ' if is_last else '|- '}{_line(twig, begin)}"
        below = indent + ("   " if is_last else "|  ")
        stack += [(child, below, place == 0) for place, child in enumerate(reversed(children.pop(twig.uuid, [])))]


def _line(twig: Twig, begin: float) -> str:
    words = [twig.task, twig.uuid[:_ID], twig.state]
    words += [f"retries={twig.retries}"] if twig.retries else []
    words += [f"queue={twig.queue}"] if twig.queue else []
    words += [f"worker={twig.worker}"] if twig.worker else []
    words += [f"group={twig.group[:_ID]}"] if twig.group else []
    for name in ("published", "received", "started", "ended"):
        time = getattr(twig, name)
        words += [f"{name}=+{time - begin:.3f}s"] if time is not None else []
    return " ".join(words) + (" *" if twig.critical else "")


def _first(twig: Twig) -> float | None:
    known = (twig.published, twig.received, twig.started, twig.ended)
    return next((time for time in known if time is not None), None)
