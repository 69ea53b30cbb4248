"""Loopback ports for servers that tests start, stop, and start again at the same place."""

from __future__ import annotations

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which the kernel picks ports of outgoing connections: while a server is down, nobody
# takes its port by chance.
PORTS = range(12_000, 30_000)


def free_port() -> int:
    """A loopback TCP port that nobody listens on, other than any given before with near certainty."""
    candidates = random.SystemRandom()
    while not _is_free(port := candidates.choice(PORTS)):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
