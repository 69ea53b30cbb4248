"""How many entries RedBeat has stored: its scheduler never holds more than what is due.

Counted with its own client, in a thread of its own: a Redis that stalls keeps nobody else waiting.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from redis.exceptions import RedisError

_INTERVAL = 10.0


class Stored:
    """Counts each ten seconds, once the scheduler has connected; never if that is another's."""

    def __init__(self, app: Any) -> None:
        self.count: int | None = None
        """None if it could not be read."""
        self._app = app

    def watch(self) -> None:
        """Begin, if this app has RedBeat (``redbeat/schedulers.py: get_redis``)."""
        if getattr(self._app, "redbeat_redis", None) is not None:
            threading.Thread(target=self._live, name="celery-observe-stored", daemon=True).start()

    def _live(self) -> None:
        while True:
            self.read()
            time.sleep(_INTERVAL)

    def read(self) -> None:
        """Ask once, and not through what retries for as long as it is configured to."""
        client = vars(self._app).get("redbeat_redis")
        try:
            self.count = getattr(client, "wrapped_connection", client).zcard(self._app.redbeat_conf.schedule_key)
        except (RedisError, OSError):
            self.count = None
