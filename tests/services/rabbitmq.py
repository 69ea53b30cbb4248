"""A real RabbitMQ, with its management API."""

from __future__ import annotations

import base64
import json
import shutil
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from services.certificates import Certificates
from services.ports import LOOPBACK, free_port
from services.process import Process

# The command on the PATH changes to another user; this one runs as whoever starts it.
SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"

PLUGINS = "[rabbitmq_management,rabbitmq_prometheus,rabbitmq_consistent_hash_exchange]."

CONFIGURATION = """\
listeners.tcp.1 = {host}:{amqp}
management.tcp.ip = {host}
management.tcp.port = {management}
prometheus.tcp.ip = {host}
prometheus.tcp.port = {prometheus}
collect_statistics_interval = 1000
log.console.level = warning
"""

TLS_CONFIGURATION = """\
listeners.ssl.1 = {host}:{amqps}
ssl_options.cacertfile = {tls.authority}
ssl_options.certfile = {tls.certificate}
ssl_options.keyfile = {tls.key}
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
"""


def installed() -> bool:
    """Whether this machine has a RabbitMQ."""
    return shutil.which(SERVER) is not None


class RabbitMQ(Process):
    """A RabbitMQ node of its own (its port mapper too), ready in about 7 s; queues survive stop and start.

    Args:
        folder: for its configuration, its log and what it keeps.
        tls: certificates; given, the server listens with TLS too, and demands none of its clients.
    """

    stop_timeout = 20.0

    def __init__(self, folder: Path, tls: Certificates | None = None) -> None:
        self.tls, self.tls_port = tls, free_port()
        self.port, self.management_port, self.prometheus_port = free_port(), free_port(), free_port()
        mapper_port = str(free_port())
        mapper = Process("epmd", ["epmd", "-address", LOOPBACK, "-port", mapper_port], folder)
        environment = self._environment(folder, mapper_port)
        super().__init__(f"rabbitmq-{self.port}", [SERVER], folder, environment, needs=(mapper,))

    def _environment(self, folder: Path, mapper_port: str) -> dict[str, str]:
        ports = {"amqp": self.port, "management": self.management_port, "prometheus": self.prometheus_port}
        configuration = CONFIGURATION.format(host=LOOPBACK, **ports)
        if self.tls is not None:
            configuration += TLS_CONFIGURATION.format(host=LOOPBACK, amqps=self.tls_port, tls=self.tls)
        (folder / "rabbitmq.conf").write_text(configuration)
        (folder / "enabled_plugins").write_text(PLUGINS)
        return {
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": mapper_port,
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_NODENAME": f"t{self.port}@localhost",
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # Replaces the shell by the server: one process, which gets our signals.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    @property
    def url(self) -> str:
        """The broker URL of the default virtual host."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}//"

    def over_tls(self, url: str) -> str:
        """The broker URL of the same virtual host, with TLS and without a word of how to verify it."""
        return url.replace("amqp://", "amqps://").replace(f":{self.port}/", f":{self.tls_port}/")

    def new_virtual_host(self) -> str:
        """The broker URL of a virtual host that has never been used."""
        name = uuid.uuid4().hex
        self.management("PUT", f"vhosts/{name}")
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/{name}"

    def management(self, method: str, path: str) -> Any:
        """Ask the management API, for example `("GET", "queues")`; its JSON, None for an empty answer."""
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.management_port}/api/{path}",
            method=method,
            headers={"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read() or "null")

    def wait_ready(self) -> None:
        """Wait until it says that its start-up is complete."""
        self.wait_output("completed with", timeout=60.0)
