"""A real VictoriaMetrics: it scrapes, takes metrics over OTLP, and names their series as Prometheus would."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from services.debian import unpacked
from services.ports import LOOPBACK, free_port
from services.process import Process
from services.waiting import eventually

SUITE = "trixie"
"""Of Debian: that of bookworm takes no OTLP."""
# What a Collector does that writes to Prometheus, by the specification of compatibility.
JOIN = [
    {"source_labels": ["service_name"], "regex": "(.+)", "target_label": "job"},
    {"source_labels": ["service_instance_id"], "regex": "(.+)", "target_label": "instance"},
    {"regex": "service_.+|telemetry_.+", "action": "labeldrop"},
]


class VictoriaMetrics(Process):
    """One with the job and instance of what is pushed to it; `scrape` says what else it has, before it is started."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._scrapes = folder / "scrapes.yml"
        self.scrape()
        relabelling = folder / "relabelling.yml"
        relabelling.write_text(yaml.safe_dump(JOIN))
        command = [str(unpacked("victoria-metrics", SUITE) / "usr/bin/victoria-metrics")]
        command += [f"-httpListenAddr={LOOPBACK}:{self.port}", f"-storageDataPath={folder / 'victoria'}"]
        command += [f"-promscrape.config={self._scrapes}", f"-relabelConfig={relabelling}"]
        command += ["-opentelemetry.usePrometheusNaming", "-search.latencyOffset=0s"]
        super().__init__(f"victoria-{self.port}", command, folder)

    def scrape(self, *ports: int) -> None:
        """Scrape these ports on loopback twice a second, as the job `scraped`."""
        targets = [f"{LOOPBACK}:{port}" for port in ports]
        job = {"job_name": "scraped", "scrape_interval": "500ms", "static_configs": [{"targets": targets}]}
        self._scrapes.write_text(yaml.safe_dump({"scrape_configs": [job]}))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that have OpenTelemetry's exporter of metrics send here."""
        return {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"http://{LOOPBACK}:{self.port}/opentelemetry/v1/metrics",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "gzip",
        }

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and values of a vector."""
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}/api/v1/query?{asked}", timeout=60) as response:
            found = json.load(response)["data"]["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def wait_ready(self) -> None:
        """Wait until it answers."""
        eventually(lambda: self._answers() or not self.running, timeout=30.0, what=f"{self.name} is ready")
        assert self.running, f"{self.name} ended:\n{self.output}"

    def _answers(self) -> bool:
        try:
            return self.query("1")[0][1] == 1
        except (OSError, urllib.error.URLError):
            return False
