"""What is told of one failure beside its labels: for alerts, and only if they are wanted.

A traceback's frames quote source code, not values; the text of an exception, and arguments, may hold anything. So the
frames are picked out one by one, and the texts come only where the setting ``alert_detail`` allows them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from celery_observe.fact import Detail
from celery_observe.masking import mask_text

LEVELS = ("none", "traceback", "text", "arguments")
"""Each tells what the one before it tells, and more."""
_FRAMES = 12
"""The innermost frames that are told."""
_LONGEST_LINE = 300
_LONGEST_TEXT = 1000
_SCAN = 65536
"""Characters of a traceback that are looked at, from its end."""
_FRAME = re.compile(r'^ *File "[^"\n]+", line \d+, in .+$(?:\n {4,}[^\s~^].*$)?', re.MULTILINE)
_RAISED = re.compile(r"((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*): (.*)", re.DOTALL)

Detailing = Callable[[str, int, str | None, str | None], Detail | None]
"""Makes the detail of a failure of its task's id, number of retries, exception as ``repr`` gives it, and traceback."""


def detailing(level: str) -> Detailing:
    """Return what makes the details that a level allows."""
    if level not in LEVELS[1:]:
        return lambda _uuid, _retries, _exception, _traceback: None
    with_text = allows(level, "text")

    def detail(uuid: str, retries: int, exception: str | None, traceback: str | None) -> Detail:
        trace = (traceback or "")[-_SCAN:]
        text = _text(exception or "", trace) if with_text else None
        return Detail(uuid, retries, frames(trace), text)

    return detail


def allows(level: str, what: str) -> bool:
    """Tell whether a level tells so much."""
    return level in LEVELS and LEVELS.index(level) >= LEVELS.index(what)


def frames(traceback: str) -> str | None:
    """Return the innermost frames of a traceback, each with its line of source; None if there are none."""
    found = _FRAME.findall(traceback[-_SCAN:])[-_FRAMES:]
    lines = [line[:_LONGEST_LINE] for frame in found for line in frame.splitlines()]
    return mask_text("\n".join(lines)) or None


def arguments(args: str, kwargs: str) -> str:
    """Return the arguments of a task as they may be told, from what Celery's ``argsrepr`` and ``kwargsrepr`` say."""
    return shortened(mask_text(f"{args} {kwargs}"))


def shortened(text: str) -> str:
    """Return a text as it may be told: not too long, and UTF-8."""
    cut = text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
    return cut.encode(errors="replace").decode()


def _text(exception: str, traceback: str) -> str | None:
    """Return the text of an exception: from the last lines of its traceback, or else from its ``repr``."""
    after = traceback.rpartition('\n  File "')[2]
    raised = "\n".join(line for line in after.splitlines()[1:] if not line.startswith("    "))
    found = _RAISED.match(raised)
    text = found[2] if found else exception
    return shortened(mask_text(text.strip())) or None
