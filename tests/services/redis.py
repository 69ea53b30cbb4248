"""A real Redis."""

from __future__ import annotations

from pathlib import Path

import redis

from services.certificates import Certificates
from services.ports import LOOPBACK, free_port
from services.process import Process
from services.waiting import eventually


class Redis(Process):
    """A redis-server on a free loopback port, with nothing kept on disk.

    Args:
        folder: for its log.
        config: further options as redis-server takes them, such as "--maxmemory", "1mb".
        password: demanded of clients if given.
        tls: certificates; given, the server speaks TLS only and demands none of its clients.
    """

    def __init__(
        self, folder: Path, *config: str, password: str | None = None, tls: Certificates | None = None
    ) -> None:
        self.port = free_port()
        self.password = password
        self.tls = tls
        command = ["redis-server", "--bind", LOOPBACK, "--save", "", "--appendonly", "no"]
        command += self._port_options()
        if password:
            command += ["--requirepass", password]
        super().__init__(f"redis-{self.port}", [*command, *config], folder)

    def _port_options(self) -> list[str]:
        if self.tls is None:
            return ["--port", str(self.port)]
        files = {"cert": self.tls.certificate, "key": self.tls.key, "ca-cert": self.tls.authority}
        options = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
        return options + [word for kind, file in files.items() for word in (f"--tls-{kind}-file", str(file))]

    @property
    def url(self) -> str:
        """The broker URL, database 0, with password and TLS options if there are any."""
        return self.url_of_database(0)

    def url_of_database(self, number: int) -> str:
        """The broker URL of one of the server's 16 databases."""
        credentials = f":{self.password}@" if self.password else ""
        if self.tls is None:
            return f"redis://{credentials}{LOOPBACK}:{self.port}/{number}"
        checks = f"ssl_cert_reqs=required&ssl_ca_certs={self.tls.authority}"
        return f"rediss://{credentials}{LOOPBACK}:{self.port}/{number}?{checks}"

    def client(self) -> redis.Redis:
        """A connection of the test's own; close it, or use it as a context manager."""
        return redis.Redis.from_url(self.url)

    def wait_ready(self) -> None:
        """Wait until it answers PING."""
        eventually(self._answers, what=f"{self.name} answers")

    def _answers(self) -> bool:
        assert self.running, f"{self.name} ended:\n{self.output}"
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False
