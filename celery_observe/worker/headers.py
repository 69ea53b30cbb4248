"""The headers that we add to messages. They travel to the task as part of its request.

Times that the broker sees are stamps: whole microseconds of Unix time. kombu's Redis transport reads a message and
writes it again before the worker has it, and the digits of a float cost more than all else of a header. What the
worker's main process adds for its pool are Unix seconds.
"""

from __future__ import annotations

import time
from typing import Any

_MICROSECONDS = 1_000_000
_BITS = 62
"""Of a stamp, at most; so that it fits a report."""

PUBLISHED = "celery_observe_published"
"""When the message was published; a stamp."""
FIRST_PUBLISHED = "celery_observe_first_published"
"""The stamp of the first attempt, None if unknown; in messages of retries only, since each header costs."""
RECEIVED = "celery_observe_received"
"""When the worker received it; added by its main process for the pool."""
RELEASED = "celery_observe_released"
"""When the rate limit of the worker let it go on; added by its main process, of tasks that have one."""
ROOT = "celery_observe_root"
"""The name of the task with which its workflow began."""
CONTEXT = "celery_observe_context"
"""What was bound to structlog's context where the message was published, as far as it may go along."""
ENTRY = "celery_observe_entry"
"""The entry of beat's schedule that the message was sent for."""
ATTEMPT = "celery_observe_attempt"
"""The span of the attempt that published this one, a retry of itself; in the form of ``traceparent``."""
CHORD = "celery_observe_chord"
"""The group that is the header of the chord whose body this is, and how many tasks it has."""


def stamped_now() -> int:
    """Return the stamp of this moment."""
    return time.time_ns() // 1000


def seconds_of(stamp: Any) -> float | None:
    """Return the Unix time of a stamp; None if it is none: anybody may write headers."""
    if stamp.__class__ is not int or stamp >> _BITS:  # which is -1 of negative ones
        return None
    return stamp / _MICROSECONDS
