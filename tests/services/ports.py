"""Loopback ports for servers that tests start, stop, and start again at the same place."""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator

LOOPBACK = "127.0.0.1"

# Below the range from which the kernel picks ports of outgoing connections: while a server is down, nobody
# takes its port by chance.
PORTS = range(12_000, 30_000)
APART = 4
"""Ports from one that is given to the next: a server that finds its own taken may take one that follows."""


def free_port() -> int:
    """A loopback TCP port that nobody listens on, as on the one after it; no other test process is given them."""
    return next(port for port in _own if _is_free(port) and _is_free(port + 1))


def _of_this_process() -> Iterator[int]:
    """All ports that tests in this process are given, over and over, from anywhere on: runs may be side by side."""
    place = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = PORTS[APART * place :: APART * count]
    start = random.SystemRandom().randrange(len(own))
    return itertools.cycle([*own[start:], *own[:start]])


_own = _of_this_process()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
