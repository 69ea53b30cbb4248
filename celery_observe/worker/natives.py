"""Threads that the operating system schedules, whatever the pool has made of Python's.

gevent and eventlet replace threads by greenlets of one thread, where whatever waits must yield and an event loop of
asyncio would be seen by every task. Ours run in a real thread; what they start there are greenlets of that thread.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def spawn(target: Callable[[], None], name: str) -> None:
    """Run a function in a real thread, which does not keep the process from ending."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        gevent.get_original("_thread", "start_new_thread")(target, ())
    elif eventlet is not None and eventlet.is_monkey_patched("thread"):
        eventlet.original("_thread").start_new_thread(target, ())
    else:
        threading.Thread(target=target, name=name, daemon=True).start()
