"""A real Prometheus, and a real Alertmanager with the shipped configuration."""

from __future__ import annotations

import json
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from services.ports import LOOPBACK, free_port
from services.process import Process
from services.waiting import eventually

SHIPPED = Path(__file__).parents[2] / "alerts"
CONFIGURATION = SHIPPED / "alertmanager" / "alertmanager.yml"
ALERTMANAGER = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
WAITS = {"group_wait": "200ms", "group_interval": "500ms"}
RESEND = "--rules.alert.resend-delay=3s"  # what is not repeated for four times as long has ended


class _Asked(Process):
    """A server with an HTTP API on a port of its own."""

    port: int

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def ask(self, path: str, body: Any = None, **parameters: str) -> Any:
        """The JSON that a path answers with; with `body` it is posted."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read()
        return json.loads(text) if text else None

    def wait_ready(self) -> None:
        """Wait until it says so."""
        eventually(lambda: self._is_ready() or not self.running, timeout=30.0, what=f"{self.name} is ready")
        assert self.running, f"{self.name} ended:\n{self.output}"

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1) as response:
                return bool(response.status == 200)
        except OSError:
            return False


class Prometheus(_Asked):
    """A Prometheus that scrapes, and evaluates rules, every half second unless told otherwise.

    Args:
        folder: for its configuration, data and log.
        jobs: the ports to scrape on loopback, by job.
        rules: files of rules.
        alertmanager: the port of the one to tell.
        features: what is to be enabled.
        remote_write: whether it takes what is written to it.
        every: how often it scrapes, and how long it waits for an answer, as Prometheus writes it.
    """

    def __init__(
        self,
        folder: Path,
        jobs: Mapping[str, Iterable[int]],
        rules: Iterable[Path] = (),
        alertmanager: int | None = None,
        features: Iterable[str] = (),
        *,
        remote_write: bool = False,
        every: str = "500ms",
    ) -> None:
        self.port = free_port()
        file = folder / f"prometheus-{self.port}.yml"
        file.write_text(yaml.safe_dump(_configuration(jobs, rules, alertmanager, every)))
        command = ["prometheus", f"--config.file={file}", f"--web.listen-address={LOOPBACK}:{self.port}"]
        command += [f"--storage.tsdb.path={folder / f'prometheus-{self.port}'}", RESEND]
        if remote_write:
            command += ["--web.enable-remote-write-receiver"]
        command += [f"--enable-feature={feature}" for feature in features]
        super().__init__(f"prometheus-{self.port}", command, folder)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values of a vector."""
        answer = self.ask("/api/v1/query", query=expression)
        return [(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]

    def query_range(self, expression: str, span: float, step: float) -> list[dict[str, Any]]:
        """The series of a matrix over the last `span` seconds, a value each `step`."""
        now = time.time()
        asked = {"query": expression, "start": str(now - span), "end": str(now), "step": str(step)}
        return list(self.ask("/api/v1/query_range", **asked)["data"]["result"])

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with the health and the alerts of each."""
        groups = self.ask("/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self.ask("/api/v1/alerts")["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def _configuration(
    jobs: Mapping[str, Iterable[int]], rules: Iterable[Path], alertmanager: int | None, every: str
) -> dict[str, Any]:
    scrapes = [
        {"job_name": job, "static_configs": [{"targets": [f"{LOOPBACK}:{port}" for port in ports]}]}
        for job, ports in jobs.items()
    ]
    told = [{"static_configs": [{"targets": [f"{LOOPBACK}:{alertmanager}"]}]}] if alertmanager else []
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": "500ms"},
        "scrape_configs": scrapes,
        "rule_files": [str(file) for file in rules],
        "alerting": {"alertmanagers": told},
    }


class Alertmanager(_Asked):
    """An Alertmanager with the shipped routes and inhibitions, which waits for moments, not for minutes.

    Args:
        folder: for its configuration, data and log.
        webhook: URL below which the receivers are, each at the path of its name.
        services: whether they are told as the services that are shipped, PagerDuty and Slack, and not as webhooks.
    """

    def __init__(self, folder: Path, webhook: str, *, services: bool = False) -> None:
        self.port = free_port()
        file = folder / f"alertmanager-{self.port}.yml"
        file.write_text(_with_services(webhook, folder) if services else _with_webhooks(webhook))
        command = [str(ALERTMANAGER), f"--config.file={file}", f"--web.listen-address={LOOPBACK}:{self.port}"]
        command += ["--cluster.listen-address=", f"--storage.path={folder / f'alertmanager-{self.port}'}"]
        super().__init__(f"alertmanager-{self.port}", command, folder)

    def tell(self, *alerts: Mapping[str, Any]) -> None:
        """Post alerts, as Prometheus does."""
        self.ask("/api/v2/alerts", list(alerts))

    def kept_back(self) -> list[str]:
        """The names of the alerts that others inhibit, in alphabetical order."""
        alerts = self.ask("/api/v2/alerts")
        return sorted(alert["labels"]["alertname"] for alert in alerts if alert["status"]["inhibitedBy"])


def _with_webhooks(url: str) -> str:
    config = yaml.safe_load(CONFIGURATION.read_text())
    names = [receiver["name"] for receiver in config["receivers"]]
    config["receivers"] = [
        {"name": name, "webhook_configs": [{"url": f"{url}/{name}", "send_resolved": True}]} for name in names
    ]
    config["route"] |= WAITS
    config["templates"] = []
    return yaml.safe_dump(config)


def _with_services(url: str, folder: Path) -> str:
    """The file as it is shipped, with what it says is to be put beside it."""
    for name in re.findall(r"/etc/alertmanager/(.+)", CONFIGURATION.read_text()):
        (folder / name).write_text(f"{url}/{Path(name).stem}" if name.endswith(".url") else Path(name).stem)
    config = yaml.safe_load(CONFIGURATION.read_text().replace("/etc/alertmanager", str(folder)))
    config["global"]["pagerduty_url"] = f"{url}/pagerduty"
    config["route"] |= WAITS
    config["templates"] = [str(CONFIGURATION.parent / name) for name in config["templates"]]
    return yaml.safe_dump(config)
