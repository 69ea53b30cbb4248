"""A real Redis Sentinel, with the two servers it watches."""

from __future__ import annotations

from pathlib import Path

import redis

from services.ports import LOOPBACK, free_port
from services.process import Process
from services.redis import Redis
from services.waiting import eventually

SERVICE_NAME = "observed"

CONFIGURATION = """\
bind {host}
port {port}
sentinel monitor {service} {host} {master} 1
sentinel down-after-milliseconds {service} 500
sentinel failover-timeout {service} 2000
"""


class Sentinel(Process):
    """One sentinel that watches a master and its replica, and promotes the replica when the master is gone.

    Its broker URL goes with the transport option `master_name`, which is `SERVICE_NAME`.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.master = Redis(folder)
        self.replica = Redis(folder, "--replicaof", LOOPBACK, str(self.master.port))
        self.url = f"sentinel://{LOOPBACK}:{self.port}/0"
        self.transport_options = {"master_name": SERVICE_NAME}
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            CONFIGURATION.format(host=LOOPBACK, port=self.port, service=SERVICE_NAME, master=self.master.port)
        )
        super().__init__(
            "sentinel",
            ["redis-server", str(configuration), "--sentinel"],
            folder,
            needs=(self.master, self.replica),
        )

    def wait_ready(self) -> None:
        """Wait until it knows the replica, so that it can promote it."""
        with redis.Redis(host=LOOPBACK, port=self.port) as client:
            eventually(lambda: self._knows_replica(client), what="the sentinel knows the replica")

    def _knows_replica(self, client: redis.Redis) -> bool:
        try:
            return bool(client.sentinel_slaves(SERVICE_NAME))
        except redis.ConnectionError:
            return False
