"""How old the oldest message of a queue is, out of the events of its publishers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_UNSEEN_SHARE = 10
"""One message in so many may be without an event: those published just now, whose event is on its way."""


def oldest_age(waiting: Sequence[float], depth: int, now: float) -> float | None:
    """Return the age in seconds of the oldest of `depth` messages; None if events do not tell.

    `waiting` are the times since which tasks wait for which no worker has said that it received them. A queue is first
    in, first out, so if there are more of them than messages, the receipts of the oldest were missed. If there are
    fewer, older messages may be there of which no event tells, and nothing is claimed. What is due in the future
    may be in the queue or in one that delays it: it is counted only if the others are too few.
    """
    if not depth:
        return 0.0
    due = [since for since in waiting if since <= now]
    known = sorted(due if _tells(due, depth) else waiting)
    if not _tells(known, depth):
        return None
    return max(0.0, now - known[max(0, len(known) - depth)])


def _tells(known: Sequence[float], depth: int) -> bool:
    return len(known) >= depth - depth // _UNSEEN_SHARE
