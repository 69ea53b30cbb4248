"""What stands around the observers: Prometheus and Alertmanager with the shipped rules, and Flower."""

from __future__ import annotations

import re
import secrets
import shutil
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import msgspec

from celery_observe.demo.processes import LOOPBACK, free_port, is_free
from celery_observe.errors import DemoError

ALERTS = tuple(Path(__file__).parents[above] / "alerts" for above in (1, 2))
"""Where the rules are: in the package, if it was installed, or beside it in a checkout."""

HOW_TO_GET = "not installed: apt-get install prometheus prometheus-alertmanager, or https://prometheus.io/download"

_PROMETHEUS = """\
global:
  scrape_interval: 5s
  evaluation_interval: 10s
rule_files: [{folder}/rules/*.yml]
scrape_configs:
  - job_name: celery
    static_configs: [{{ targets: [{targets}] }}]
alerting:
  alertmanagers: [{{ static_configs: [{{ targets: [{alertmanager}] }}] }}]
"""
_ALERTMANAGER = """\
# The routes of the demo tell nobody: look at its page. What explains keeps back what it explains, as shipped.
route: {{ receiver: page, group_by: [alertname, job, queue], group_wait: 5s }}
receivers: [{{ name: page }}]
{inhibit_rules}"""
_LINKS = """\
groups:
  - name: celery-links
    rules:
      - record: celery_observe:links
        expr: vector(1)
        labels:
          runbooks: https://celery-observe.example/docs/runbooks
          dashboards: http://localhost:3000
          flower: "{flower}"
"""


def choose_port(usual: int, *, anywhere: bool) -> int:
    """Return the port that everybody expects; a free one if that is taken, or `anywhere` will do."""
    return free_port() if anywhere or not is_free(usual) else usual


class Flower(msgspec.Struct, frozen=True):
    """A Flower on the broker of the shop, with a password of this run."""

    port: int
    password: str

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def login(self) -> str:
        """User and password, for its environment: every user of a machine may read command lines."""
        return f"demo:{self.password}"

    def command(self, app: str, folder: Path) -> list[str]:
        """Return its command; what it knows outlives a restart of it, in a file of the folder."""
        flower = ["flower", f"--address={LOOPBACK}", f"--port={self.port}"]
        return [sys.executable, "-m", "celery", "--app", app, *flower, "--persistent=True", f"--db={folder / 'flower'}"]


def flower(*, anywhere: bool) -> Flower:
    """Return a Flower to be started, on its usual port or anywhere. Raises DemoError: it is not installed."""
    if find_spec("flower") is None:
        raise DemoError("Flower is not installed: pip install 'celery-observe[flower]'")
    return Flower(choose_port(5555, anywhere=anywhere), secrets.token_urlsafe(9))


class Monitoring(msgspec.Struct, frozen=True):
    """A Prometheus and an Alertmanager."""

    prometheus: str
    """Its program."""
    alertmanager: str
    prometheus_port: int
    alertmanager_port: int

    @property
    def url(self) -> str:
        """Where Prometheus serves."""
        return f"http://{LOOPBACK}:{self.prometheus_port}"

    @property
    def alertmanager_url(self) -> str:
        """Where Alertmanager serves."""
        return f"http://{LOOPBACK}:{self.alertmanager_port}"

    def commands(self, folder: Path, ports: Iterable[int], flower_url: str) -> dict[str, list[str]]:
        """Write the configuration into a folder of their own, to scrape these ports; return their commands by name."""
        folder.mkdir()
        _write(folder, [f"{LOOPBACK}:{port}" for port in ports], f"{LOOPBACK}:{self.alertmanager_port}", flower_url)
        listen = "--web.listen-address={}:{}"
        return {
            "alertmanager": [
                self.alertmanager,
                f"--config.file={folder / 'alertmanager.yml'}",
                listen.format(LOOPBACK, self.alertmanager_port),
                "--cluster.listen-address=",  # it is alone
                f"--storage.path={folder / 'alertmanager'}",
            ],
            "prometheus": [
                self.prometheus,
                f"--config.file={folder / 'prometheus.yml'}",
                listen.format(LOOPBACK, self.prometheus_port),
                f"--storage.tsdb.path={folder / 'prometheus'}",
                "--storage.tsdb.retention.time=6h",
                "--enable-feature=exemplar-storage",  # they lead from a histogram to traces
            ],
        }


def monitoring(*, anywhere: bool) -> Monitoring | None:
    """Return a Prometheus and an Alertmanager to be started, as `flower`; None if they are not installed."""
    prometheus = shutil.which("prometheus")
    alertmanager = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")
    if prometheus is None or alertmanager is None:
        return None
    ports = (choose_port(usual, anywhere=anywhere) for usual in (9090, 9093))
    return Monitoring(prometheus, alertmanager, *ports)


def _write(folder: Path, targets: list[str], alertmanager: str, flower_url: str) -> None:
    alerts = next((each for each in ALERTS if (each / "rules").is_dir()), None)
    if alerts is None:
        raise DemoError("the rules are missing from this installation: install it again, or give --no-prometheus")
    shutil.copytree(alerts / "rules", folder / "rules")
    (folder / "rules" / "links.yml").write_text(_LINKS.format(flower=flower_url))
    shipped = (alerts / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    inhibit = re.search(r"^inhibit_rules:\n(?:[ #].*\n|\n)*", shipped, re.MULTILINE)
    (folder / "alertmanager.yml").write_text(_ALERTMANAGER.format(inhibit_rules=inhibit[0] if inhibit else ""))
    text = _PROMETHEUS.format(folder=folder, targets=", ".join(targets), alertmanager=alertmanager)
    (folder / "prometheus.yml").write_text(text)
