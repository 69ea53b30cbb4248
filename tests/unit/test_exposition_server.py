"""What a fork does with the server's connections."""

from __future__ import annotations

import asyncio
import socket

from tornado.iostream import IOStream
from tornado.web import Application

from celery_observe.exposition.server import bounded_server


def test_a_fork_closes_all_copies_though_one_connection_has_just_ended() -> None:
    """Its socket is gone, and the server, which does not run in the fork, was about to hear of it."""

    async def abandoned() -> list[int]:
        server, ours, theirs = bounded_server(Application()), [], []
        for _ in range(3):
            near, far = socket.socketpair()
            ours.append(IOStream(near))
            theirs.append(far)
            server.open.wait(ours[-1])
        sockets = [stream.socket for stream in ours]
        ours[0].close_fd()
        server.abandon()
        for far in theirs:
            far.close()
        return [sock.fileno() for sock in sockets]

    assert asyncio.run(abandoned()) == [-1, -1, -1]
