"""A network between a client and a server, which a test can cut or freeze."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import ExitStack, suppress
from typing import Self

from services.ports import LOOPBACK

_CHUNK = 64 * 1024


class Proxy:
    """Forwards TCP connections to a loopback port, in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._selector = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._forward, daemon=True)

    def __enter__(self) -> Self:
        """Begin to forward."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close all."""
        self._stopping = True
        self._flowing.set()
        self._thread.join(5.0)
        self.cut()
        self._listener.close()
        self._selector.close()

    def stall(self) -> None:
        """Forward nothing more, close nothing, and let new connections hang."""
        self._flowing.clear()

    def flow(self) -> None:
        """Go on."""
        self._flowing.set()

    def cut(self) -> int:
        """Close all connections, and return how many clients there were."""
        with self._lock:
            clients = len(self._peers) // 2
            for end in list(self._peers):
                self._drop(end)
        return clients

    def _forward(self) -> None:
        while not self._stopping:
            self._flowing.wait()
            for key, _ in self._selector.select(0.01):
                with self._lock:
                    self._serve(key.fileobj)

    def _serve(self, end: object) -> None:
        assert isinstance(end, socket.socket)
        if end is self._listener:
            self._accept()
        elif end in self._peers and self._flowing.is_set():
            self._pass_on(end)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection((LOOPBACK, self._target), timeout=1.0)
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        try:
            data = end.recv(_CHUNK)
            if data:
                self._peers[end].sendall(data)
                return
        except OSError:
            pass
        self._drop(end)

    def _drop(self, end: socket.socket) -> None:
        with ExitStack() as closing:
            for each in (end, self._peers.get(end, end)):
                closing.callback(each.close)
                if self._peers.pop(each, None) is not None:
                    with suppress(KeyError, ValueError):
                        self._selector.unregister(each)
