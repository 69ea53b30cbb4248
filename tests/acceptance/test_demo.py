"""`celery-observe demo` as a user runs it: it shows the product at work and leaves nothing behind.

One at a time: each starts a broker, three workers, beat, the exporter and a sidecar.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from celery_observe.demo.around import HOW_TO_GET
from conftest import require
from services.demo import READY, Demo
from services.ports import LOOPBACK, free_port
from services.redis import Redis
from services.waiting import eventually

pytestmark = [
    pytest.mark.workers,
    pytest.mark.xdist_group("demo"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds what is left in /proc"),
]

OTHERS = {"revoked", "expired", "terminated", "ignored", "unregistered"}
CAUSES = {"exception", "retries_exhausted", "soft_time_limit", "hard_time_limit", "unregistered"}
StartDemo = Callable[..., Demo]


@pytest.fixture
def start_demo(processes: ExitStack, tmp_path: Path) -> StartDemo:
    """Start demos."""
    return lambda *options, **more: processes.enter_context(Demo(tmp_path, *options, **more))


def test_a_run_of_set_length_shows_every_kind_of_outcome_and_accounts_for_every_task(
    start_demo: StartDemo,
) -> None:
    """It ends by itself, says what happened on one screen, and nothing of it is left."""
    demo = start_demo("--duration", "15", "--port", "0")
    demo.wait_output(READY)

    assert demo.wait(timeout=120) == 0, demo.output

    assert len(demo.summary) <= 24
    assert max(map(len, demo.summary)) <= 100
    assert demo.counts("other").keys() >= OTHERS
    assert demo.counts("causes").keys() >= CAUSES
    assert "3 of 3 workers up" in demo.output
    assert "0 tasks unobserved" in demo.summary[-2]
    said = r"publishers sent (\d+) = (\d+) outcomes \+ 0 in flight \+ (\d+) dead letters: all accounted for"
    found = re.search(said, demo.summary[-1])
    assert found, demo.summary[-1]
    sent, ended, dead = map(int, found.groups())
    assert sent == ended + dead
    assert dead
    demo.assert_gone()


def test_what_stands_around_it_comes_and_goes_with_it(start_demo: StartDemo) -> None:
    """The live page comes first; Prometheus has the shipped rules and scrapes both; Flower wants its password."""
    require("prometheus", installed=shutil.which("prometheus") is not None)
    demo = start_demo("--port", "0", "--flower")
    demo.wait_output(READY, timeout=120)
    url, login = demo.flower

    first, *_ = re.findall(r"http://\S+", demo.output)
    assert first == demo.page_url == f"http://{LOOPBACK}:{demo.metrics_port}/"
    assert json.loads(got(f"{demo.page_url}overview"))["flower"] == url
    eventually(lambda: scraped(demo) == {demo.metrics_port, demo.sidecar_port}, 40.0, what="both are scraped")
    rules = {rule["name"] for group in asked(demo, "rules")["groups"] for rule in group["rules"]}
    assert {"CeleryErrorBudgetBurn", "CeleryQueueWithoutConsumers", "celery_observe:links"} <= rules
    assert asked(demo, "status/flags")["enable-feature"] == "exemplar-storage"
    assert asked(demo, "alertmanagers")["activeAlertmanagers"][0]["url"].startswith(demo.alertmanager_url)
    eventually(lambda: len(json.loads(got(f"{url}/api/workers", login))) == 3, 40.0, what="Flower sees three workers")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        got(f"{url}/api/workers")
    demo.send_signal(signal.SIGINT)

    assert demo.wait(timeout=30) == 0, demo.output
    demo.assert_gone()


def got(url: str, login: str = "") -> str:
    """What a URL answers with, to nobody or to `user:password`."""
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as response:
        return str(response.read().decode())


def asked(demo: Demo, what: str) -> Any:
    """What the API of the demo's Prometheus says."""
    return json.loads(got(f"{demo.prometheus_url}/api/v1/{what}"))["data"]


def scraped(demo: Demo) -> set[int]:
    """The ports that the demo's Prometheus could scrape."""
    targets = asked(demo, "targets")["activeTargets"]
    return {int(target["scrapeUrl"].split(":")[2].partition("/")[0]) for target in targets if target["health"] == "up"}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(start_demo: StartDemo, signum: signal.Signals) -> None:
    """Ctrl-C and SIGTERM are how one ends it: the summary comes, the exit code is 0, nothing is left."""
    demo = start_demo("--port", "0")
    demo.wait_output(" s  published")

    demo.send_signal(signum)

    assert demo.wait(timeout=20) == 0, demo.output
    assert "all accounted for" in demo.summary[-1]
    demo.assert_gone()


def test_a_signal_while_it_starts_ends_it_as_well(start_demo: StartDemo) -> None:
    """Who changes their mind need not wait until all is up."""
    demo = start_demo("--port", "0")
    eventually(lambda: len(demo.family) > 3, timeout=30, what="broker, exporter and workers")

    demo.send_signal(signal.SIGINT)

    assert demo.wait(timeout=20) == 0, demo.output
    assert demo.family == {}


def test_nothing_outlives_a_demo_that_was_killed(start_demo: StartDemo) -> None:
    """SIGKILL leaves it no time to clean up, and yet all is gone a moment later."""
    demo = start_demo("--port", "0")
    demo.wait_output(READY)

    demo.send_signal(signal.SIGKILL)

    assert demo.wait(timeout=5) == -signal.SIGKILL
    eventually(lambda: not demo.family, what="the children's end")
    demo.assert_gone()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("worker --queues low", "worker low"),
        ("observed beat", "beat"),
        ("--app celery_observe.demo.shop --queue", "exporter"),
        ("--listen", "sidecar"),
        ("valkey-server", "valkey"),
    ],
)
def test_a_child_that_dies_ends_it_with_the_reason(start_demo: StartDemo, command: str, name: str) -> None:
    """It does not go on with a part missing, and shows what the part had to say."""
    demo = start_demo("--port", "0")
    demo.wait_output(READY)
    victim = min(pid for pid, line in demo.family.items() if command in line)

    os.kill(victim, signal.SIGKILL)

    assert demo.wait(timeout=30) == 1
    assert re.search(
        rf"Error: {name} (was killed by SIGKILL|exited with code 1)\. The end of its log:\n  ", demo.output
    )
    demo.assert_gone()


def take_the_usual_port(sock: socket.socket) -> None:
    """Listen on it, as soon as no other test does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def is_ours() -> bool:
        with suppress(OSError):
            if not sock.getsockname()[1]:
                sock.bind((LOOPBACK, 9808))
            sock.listen()
            return True
        return False

    eventually(is_ours, 60.0, what="the usual port")


def test_another_port_is_found_when_the_usual_one_is_taken(start_demo: StartDemo) -> None:
    """A running exporter is no hindrance."""
    with socket.socket() as taken:
        take_the_usual_port(taken)
        demo = start_demo("--no-prometheus")
        demo.wait_output(READY)
        demo.terminate(timeout=20)

    assert f"Port 9808 is taken: the exporter gets {demo.metrics_port}." in demo.output
    assert demo.metrics_port != 9808


def test_who_takes_the_usual_port_while_it_starts_keeps_it(start_demo: StartDemo) -> None:
    """The exporter yields, and the demo goes on with another port."""
    with socket.socket() as other:
        demo = start_demo("--no-prometheus")
        demo.wait_output("Starting a broker")
        take_the_usual_port(other)
        demo.wait_output(READY)
        demo.terminate(timeout=20)

    assert demo.metrics_port != 9808
    assert "all accounted for" in demo.summary[-1]


def test_a_port_that_was_asked_for_is_not_replaced(start_demo: StartDemo) -> None:
    """Who names a port wants that one, or to know why not."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        demo = start_demo("--port", str(port))

        assert demo.wait(timeout=20) == 1

    assert f"Error: port {port} is taken" in demo.output
    assert demo.family == {}


def test_what_there_is_is_used_and_what_there_is_not_is_named(
    start_demo: StartDemo, start_redis: Callable[..., Redis], tmp_path: Path
) -> None:
    """A broker, which is left running, and the browser of who sits at a terminal; how to get Prometheus is said."""
    redis = start_redis()
    env = at_desk(tmp_path)
    demo = start_demo("--port", "0", "--duration", "3", "--broker", redis.url, env=env, at_terminal=True)

    assert demo.wait(timeout=60) == 0, demo.output

    assert "all accounted for" in demo.output
    assert f"prometheus {HOW_TO_GET}" in demo.output
    assert (tmp_path / "opened").read_text() == demo.page_url
    assert demo.family == {}
    assert redis.running


def at_desk(folder: Path) -> dict[str, str]:
    """What somebody has in the environment who has a display, a browser that notes what it opens, and few programs."""
    browser, programs = folder / "browser", folder / "programs"
    browser.write_text(f"#!/bin/sh\nprintf %s \"$1\" > '{folder}/opened'\n")
    browser.chmod(0o755)
    programs.mkdir()
    if setpriv := shutil.which("setpriv"):  # with which a test starts it
        (programs / "setpriv").symlink_to(setpriv)
    here = {"DISPLAY": ":0", "CI": "", "SSH_CONNECTION": ""}
    return {"PATH": str(programs), "BROWSER": str(browser), **here}


def test_rabbitmq_will_do_as_well(start_demo: StartDemo, rabbitmq_url: str) -> None:
    """Nothing in the demo is of Redis alone."""
    demo = start_demo("--port", "0", "--duration", "3", "--broker", rabbitmq_url)

    assert demo.wait(timeout=60) == 0, demo.output

    assert "all accounted for" in demo.summary[-1]
    assert demo.family == {}


def test_a_broker_with_someone_elses_messages_is_refused(
    start_demo: StartDemo, start_redis: Callable[..., Redis]
) -> None:
    """The demo's workers would take them, and throw away what they do not know."""
    redis = start_redis()
    with redis.client() as client:
        client.lpush("default", "{}")
    demo = start_demo("--port", "0", "--broker", redis.url)

    assert demo.wait(timeout=30) == 1

    assert "queues of this broker are in use: default" in demo.output
    with redis.client() as client:
        assert client.llen("default") == 1


def test_a_broker_that_is_not_there_is_named_without_its_password(start_demo: StartDemo) -> None:
    """The message says which broker, and nothing that must not be in a log."""
    demo = start_demo("--port", "0", "--broker", f"redis://:hunter2@127.0.0.1:{free_port()}/0")

    assert demo.wait(timeout=60) == 1

    assert "does not answer" in demo.output
    assert "hunter2" not in demo.output
