"""The headers that we add to messages; times are Unix seconds. They travel to the task as part of its request."""

from __future__ import annotations

PUBLISHED = "celery_observe_published"
"""When the message was published."""
FIRST_PUBLISHED = "celery_observe_first_published"
"""When that of the task's first attempt was."""
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
