"""docker-compose.yml, as far as it can be judged without an engine: what it names is there, and is taken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from celery_observe.demo.shop.routing import QUEUES
from celery_observe.settings import environment
from house.source import ROOT
from services.prometheus import ALERTMANAGER

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OBSERVERS = ("exporter", "sidecar")
OURS = [name for name, service in SERVICES.items() if service["image"] == "celery-observe"]
DOCKERFILE = ROOT / "Dockerfile"
CONFIGURATION = ROOT / "examples" / "compose"


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """What is mounted where."""
    return [(source, target) for source, target, *_ in (each.split(":") for each in service.get("volumes", ()))]


def ports() -> dict[str, str]:
    """The services by their address on loopback."""
    told = [(each, name) for name, service in SERVICES.items() for each in service.get("ports", ())]
    return {f"{host}:{port}": f"{name}:{inside}" for each, name in told for host, port, inside in [each.split(":")]}


def test_the_whole_stack_is_there() -> None:
    """A broker, a shop, and all that looks at it."""
    assert {"broker", "beat", "customers", *OBSERVERS, "prometheus", "alertmanager", "grafana", "flower"} <= set(
        SERVICES
    )


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_needs_is_declared(name: str) -> None:
    """Services and volumes; and nothing is said that Compose does not know of a service."""
    service = SERVICES[name]
    known = {"image", "build", "command", "entrypoint", "environment", "volumes", "ports", "depends_on", "healthcheck"}
    known |= {"read_only", "cap_drop", "security_opt", "tmpfs", "restart", "user"}

    assert set(service) <= known
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    for source, target in mounts(service):
        assert target.startswith("/")
        assert source.startswith("./") or source in COMPOSE["volumes"]


def test_the_image_is_built_from_all_that_the_wheel_is_made_of() -> None:
    """Folders that pyproject.toml puts into the wheel are copied before it is built."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    folders = {*wheel["packages"], *(Path(each).parts[0] for each in wheel["force-include"])}

    copied = set(re.findall(r"^COPY .*?\b(celery_observe|alerts)\b", DOCKERFILE.read_text(), re.MULTILINE))

    assert folders <= copied


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_in_the_project(name: str) -> None:
    """A folder that is not there would be made, empty, by the engine."""
    missing = [
        source for source, _ in mounts(SERVICES[name]) if source.startswith("./") and not (ROOT / source).exists()
    ]

    assert missing == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little_and_is_reached_from_here_only(name: str) -> None:
    """A demo on a laptop is no door into it; and what runs is the version that was looked at."""
    service = SERVICES[name]

    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert all(each.startswith("127.0.0.1:") for each in service.get("ports", ()))
    assert service["image"] == "celery-observe" or re.search(r":v?\d+[\w.-]*$", service["image"])


@pytest.mark.parametrize("name", OBSERVERS)
def test_our_settings_are_ones_that_we_accept(name: str) -> None:
    """`--check` takes the command and the environment of each observer."""
    service = SERVICES[name]
    command = [sys.executable, "-m", "celery_observe", *service["command"], "--check"]

    done = subprocess.run(
        command, env=environment(**service["environment"]), capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    for variable, value in service["environment"].items():
        setting = variable.removeprefix("CELERY_OBSERVE_").lower()
        if setting != variable.lower():
            assert re.search(rf"^{setting} = .*{re.escape(value)}.*# {variable}$", done.stdout, re.MULTILINE)


def test_workers_consume_all_queues_and_report_where_the_sidecar_listens() -> None:
    """No order waits for ever, and nothing that only workers know is lost."""
    workers = [service for name, service in SERVICES.items() if name.startswith("worker-")]
    listens = SERVICES["sidecar"]["command"][-1]
    folder = str(Path(listens.removeprefix("unix://")).parent)

    assert {service["command"][2] for service in workers} == set(QUEUES)
    for service in (*workers, SERVICES["beat"]):
        assert service["environment"]["CELERY_OBSERVE_SIDECAR"] == listens
        assert ("observe", folder) in mounts(service)
    assert ("observe", folder) in mounts(SERVICES["sidecar"])


@pytest.mark.parametrize("name", OURS)
def test_all_of_the_shop_use_one_broker(name: str) -> None:
    """Whoever sends or executes tasks, or looks at it; a sidecar is only reported to."""
    broker = SERVICES[name]["environment"].get("CELERY_BROKER_URL")

    assert broker == ("redis://broker:6379/0" if name != "sidecar" else None)


def test_links_lead_to_what_is_served() -> None:
    """Of the page to Flower, of the shipped alerts to Flower and Grafana."""
    links = yaml.safe_load((ROOT / "alerts" / "rules" / "links.yml").read_text())["groups"][0]["rules"][0]["labels"]
    flower = {SERVICES[name]["environment"]["CELERY_OBSERVE_FLOWER_URL"] for name in OBSERVERS}

    assert flower == {links["flower"]} == {"http://localhost:5555"}
    assert ports()["127.0.0.1:5555"] == "flower:5555"
    assert links["dashboards"] == "http://localhost:3000"
    assert ports()["127.0.0.1:3000"] == "grafana:3000"


def test_prometheus_takes_its_configuration(promtool: str, tmp_path: Path) -> None:
    """With the shipped rules where they are mounted, it is valid, and its targets are services."""
    shutil.copy(CONFIGURATION / "prometheus.yml", tmp_path)
    shutil.copytree(ROOT / "alerts" / "rules", tmp_path / "celery")
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    told = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]

    done = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rules found") == len(list((tmp_path / "celery").iterdir()))
    assert targets == [f"{name}:9808" for name in OBSERVERS]
    assert told == ["alertmanager:9093"]


def test_alertmanager_takes_its_configuration(amtool: str) -> None:
    """It is valid."""
    assert ALERTMANAGER

    subprocess.run([amtool, "check-config", CONFIGURATION / "alertmanager.yml"], check=True)
