"""The sample app with a worker that can be made to stop consuming while it stays online.

What kombu's Redis transport has been seen to do after a lost connection: the event loop runs, heartbeats leave and
remote control answers, but no BRPOP is sent any more. Here a task does it, in a pool that shares the main process.
"""

from __future__ import annotations

from kombu.transport import redis

from apps.sample import app

__all__ = ["app"]


@app.task(name="stop_consuming")
def stop_consuming() -> None:
    """Let this worker never ask for a message again."""
    redis.Channel._brpop_start = lambda *_args, **_options: None  # type: ignore[method-assign]  # noqa: SLF001  kombu has no public way
