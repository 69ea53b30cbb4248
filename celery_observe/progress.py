"""What is to be told of an attempt that told of its progress, if nobody told of it in full when it ended.

The process that executes an attempt knows its states and waits to the end, unless it is killed; then what it told last,
and the time since, are the truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_observe.attempt import on_one_host

if TYPE_CHECKING:
    from celery_observe.report import Execution, Progress


def seconds_by_state(end: Execution, told: Progress | None) -> dict[str, float]:
    """Return the seconds that an attempt was in each state that it gave itself."""
    if end.states is not None or told is None:
        return end.states or {}
    states = dict(told.states or {})
    last = on_one_host(told.since, end.timestamp)
    if told.state is not None and last is not None:
        states[told.state] = states.get(told.state, 0.0) + last
    return states


def seconds_blocked(end: Execution, told: Progress | None) -> float | None:
    """Return the seconds that an attempt waited for results; None if it asked for none."""
    if end.blocked is not None or told is None:
        return end.blocked
    last = on_one_host(told.waiting, end.timestamp)
    return told.blocked if last is None else (told.blocked or 0.0) + last
