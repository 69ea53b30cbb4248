"""What stands around the demo: found if it is installed, configured with what is shipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from celery_observe.demo import around, opening
from celery_observe.demo.around import HOW_TO_GET, Flower, Monitoring
from celery_observe.errors import DemoError
from house.source import ROOT

MONITORING = Monitoring("prometheus", "alertmanager", 1, 2)


def test_what_is_not_installed_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo says how to get it; one without the other is of no use."""
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/prometheus" if name == "prometheus" else None)

    assert around.monitoring(anywhere=False) is None
    assert "apt-get install prometheus" in HOW_TO_GET


def test_debian_calls_alertmanager_by_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both names are known."""
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "alertmanager" else f"/usr/bin/{name}")

    found = around.monitoring(anywhere=False)

    assert found is not None
    assert (found.prometheus, found.alertmanager) == ("/usr/bin/prometheus", "/usr/bin/prometheus-alertmanager")


def test_flower_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks it is told what to install."""
    monkeypatch.setattr(around, "find_spec", lambda _name: None)

    with pytest.raises(DemoError, match=r"pip install 'celery-observe\[flower\]'"):
        around.flower(anywhere=False)


def test_usual_ports_are_taken_unless_any_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several demos that start at once would all find the usual ones free."""
    monkeypatch.setattr(around, "is_free", lambda port: port == 9090)

    assert around.choose_port(9090, anywhere=False) == 9090
    assert around.choose_port(9090, anywhere=True) != 9090
    assert around.choose_port(9093, anywhere=False) != 9093


def test_flowers_password_is_new_each_time_and_on_no_command_line(tmp_path: Path) -> None:
    """Every user of a machine may read of every process how it was called."""
    one, other = around.flower(anywhere=False), around.flower(anywhere=False)

    assert one.password != other.password
    assert not any(one.password in word for word in one.command("shop", tmp_path))
    assert Flower(1, "p").login == "demo:p"


def test_the_shipped_rules_are_evaluated(tmp_path: Path) -> None:
    """All of them; but where the links of alerts lead is said by the demo."""
    MONITORING.commands(tmp_path / "m", [9808, 9809], "http://127.0.0.1:5555")

    shipped = {file.name for file in (ROOT / "alerts" / "rules").iterdir()}
    written = tmp_path / "m" / "rules"
    assert {file.name for file in written.iterdir()} == shipped
    links = yaml.safe_load((written / "links.yml").read_text())
    known = yaml.safe_load((ROOT / "alerts" / "rules" / "links.yml").read_text())
    assert links["groups"][0]["rules"][0]["labels"].keys() == known["groups"][0]["rules"][0]["labels"].keys()
    assert links["groups"][0]["rules"][0]["labels"]["flower"] == "http://127.0.0.1:5555"


def test_prometheus_and_alertmanager_take_their_configuration(promtool: str, amtool: str, tmp_path: Path) -> None:
    """Both targets are scraped, and what explains keeps back what it explains."""
    MONITORING.commands(tmp_path / "m", [9808, 9809], "http://127.0.0.1:5555")

    subprocess.run([promtool, "check", "config", tmp_path / "m" / "prometheus.yml"], check=True)
    subprocess.run([amtool, "check-config", tmp_path / "m" / "alertmanager.yml"], check=True)
    config = yaml.safe_load((tmp_path / "m" / "prometheus.yml").read_text())
    told = yaml.safe_load((tmp_path / "m" / "alertmanager.yml").read_text())
    shipped = yaml.safe_load((ROOT / "alerts" / "alertmanager" / "alertmanager.yml").read_text())
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:9808", "127.0.0.1:9809"]}]
    assert told["inhibit_rules"] == shipped["inhibit_rules"]


@pytest.mark.parametrize(
    ("environment", "terminal", "platform", "opens"),
    [
        ({"DISPLAY": ":0"}, True, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, "linux", True),
        ({}, True, "darwin", True),
        ({}, True, "linux", False),
        ({"DISPLAY": ""}, True, "linux", False),
        ({"DISPLAY": ":0"}, False, "linux", False),
        ({"DISPLAY": ":0", "CI": "true"}, True, "linux", False),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "h"}, True, "linux", False),
    ],
)
def test_a_browser_is_opened_for_who_sits_here(
    environment: dict[str, str], terminal: bool, platform: str, opens: bool
) -> None:
    """At a terminal with a display, and not in CI or over SSH."""
    assert opening.may_open(environment, terminal=terminal, platform=platform) is opens
