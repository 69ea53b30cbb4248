"""The image is built as users build it, and run as strictly as Kubernetes can."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from packaging.requirements import Requirement

import celery_observe
from conftest import require
from house.source import ROOT
from services import containers
from services.containers import Container, Containers
from services.exporter import Served
from services.instrumented import Instrumented
from services.ports import free_port
from services.redis import Redis
from services.waiting import eventually
from services.worker import Worker

pytestmark = pytest.mark.timeout(600)

IMAGE = "localhost/celery-observe"
REQUIREMENTS = ROOT / "requirements"
LARGEST = 120_000_000  # bytes, over the base
LONGEST_START = 2.0  # seconds
FEWEST_STARTS, MOST_STARTS = 5, 15
# What is installed, and what else stands where users may look.
LISTING = """
import importlib.metadata, importlib.util, json, pathlib
print(json.dumps({
    "installed": {each.name: each.version for each in importlib.metadata.distributions()},
    "pip": importlib.util.find_spec("pip") is not None,
    "sources": [str(path) for name in ("celery_observe", "pyproject.toml", "requirements", "tests")
                for folder in ("/", "/app", "/build", "/opt/celery-observe")
                for path in [pathlib.Path(folder, name)] if path.exists()],
    "compiled": len(list(pathlib.Path(importlib.util.find_spec("celery_observe").origin).parent.glob("__pycache__/*"))),
}))
"""


@pytest.fixture(scope="module")
def built() -> Iterator[Containers]:
    """A store in which the image is, built from this checkout on a base of Debian's packages."""
    if not containers.allowed():
        pytest.skip("images are built by root, with mounts of its own")
    require("buildah, podman, crun or mmdebstrap", installed=containers.installed())
    with containers.roomy_folder() as folder:
        wheels = folder / "wheels"
        store = Containers(folder)
        store.make_base(base())
        containers.download(wheels, REQUIREMENTS / "build.txt", REQUIREMENTS / "image.txt")
        store.build(ROOT, IMAGE, wheels, VERSION="1.2.3", REVISION="abcdef")
        yield store


class Running(Served):
    """The exporter in a container."""

    def __init__(self, container: Container, port: int) -> None:
        self.name, self.container, self.port = container.name, container, port


@pytest.fixture
def run(built: Containers, processes: ExitStack) -> Callable[..., Running]:
    """Start the image with nothing but settings, and wait until it serves."""

    def start(*options: str, **settings: str) -> Running:
        port = free_port()
        env = {f"CELERY_OBSERVE_{name.upper()}": value for name, value in (settings | {"port": str(port)}).items()}
        # With no shell in it: an empty file, which cannot be executed, is where it was.
        nothing = built.folder / "nothing"
        nothing.touch(mode=0o644)
        shells = [f"--volume={nothing}:/usr/bin/{shell}:ro" for shell in ("dash", "bash")]
        running = Running(processes.enter_context(built.container(IMAGE, options=(*shells, *options), env=env)), port)
        eventually(lambda: healthy(running) or not running.container.running, timeout=60.0, what="the image serves")
        assert running.container.running, running.container.output
        return running

    return start


def base() -> str:
    """The base that the Dockerfile names."""
    (found,) = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return str(found)


def healthy(running: Running) -> bool:
    """Whether it answers."""
    try:
        return running.get("/healthz")[0] == 200
    except OSError:
        return False


def health(running: Running, *words: str) -> Any:
    """What the check says that the image is declared with."""
    return json.loads(running.container.execute(*words))


def test_it_counts_and_ends_when_told(
    built: Containers, run: Callable[..., Running], redis_server: Redis, celery_worker: Callable[..., Worker]
) -> None:
    """As a user without a name, on a file system that it cannot write, with no shell, and no capability."""
    running = run(broker=redis_server.url)
    running.wait_until_ready(timeout=60.0)
    worker = celery_worker(redis_server.url, pool="solo")

    worker.send("add", 1, 2)

    running.wait_for(lambda samples: samples.total("celery_task_outcomes_total", outcome="succeeded") == 1, 30.0)
    check = built.inspect(IMAGE)["Healthcheck"]["Test"]
    assert check[0] == "CMD"
    assert health(running, *check[1:]) == {"status": "healthy"}
    status = running.container.execute("cat", "/proc/1/status")
    assert re.search(r"^Uid:\s65532\s", status, flags=re.MULTILINE)
    assert re.search(r"^CapEff:\s0+$", status, flags=re.MULTILINE)
    with pytest.raises(AssertionError, match=r"(?i)read-only file system"):
        running.container.execute("touch", "/tmp/file")
    with pytest.raises(AssertionError, match=r"(?i)permission denied"):
        running.container.execute("sh", "-c", "true")
    assert running.container.terminate(timeout=30.0) == 0


def test_it_is_a_sidecar(
    run: Callable[..., Running], redis_server: Redis, processes: ExitStack, tmp_path: Path
) -> None:
    """A worker of another user reports to its socket, in a folder that both containers have."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    socket = "celery-observe.sock"
    running = run(f"--volume={folder}:/run/celery-observe", listen=f"unix:///run/celery-observe/{socket}")
    told = {"sidecar": f"unix://{folder / socket}"}
    worker = processes.enter_context(Instrumented(tmp_path, redis_server.url, instrument=told))

    worker.send("add", 1, 2)

    running.wait_for(lambda samples: samples.total("celery_task_outcomes_total", outcome="succeeded") == 1, 30.0)


def test_it_starts_quickly(run: Callable[..., Running], redis_server: Redis) -> None:
    """In under two seconds from the start of its process to the first answer: at its best, as a machine may be busy."""
    used, walls = 0.0, list[float]()
    while len(walls) < FEWEST_STARTS or (min(walls) >= LONGEST_START and len(walls) < MOST_STARTS):
        running = run(broker=redis_server.url)
        answered = time.time()
        walls.append(answered - running.container.since)
        used = running.metrics().total("process_cpu_seconds_total")
        running.container.terminate(timeout=30.0)
    print(f"{min(walls):.2f} s at best, {median(walls):.2f} s in the middle, {used:.2f} s of its processor")

    assert 0 < used < LONGEST_START
    assert 0 < min(walls) < LONGEST_START


def test_it_refuses_to_start_without_a_broker(built: Containers, processes: ExitStack) -> None:
    """And says what is missing, by its exit code too."""
    container = processes.enter_context(built.container(IMAGE))

    assert container.wait(60.0) != 0
    assert "--broker" in container.output


def test_it_has_what_is_locked_and_no_more(built: Containers) -> None:
    """The wheel and the pinned versions, compiled; no pip, and no source beside."""
    found = json.loads(built.output(IMAGE, "-c", LISTING, entrypoint="python3"))

    assert normalised(found["installed"]) == locked() | {"celery-observe": celery_observe.__version__}
    assert found["compiled"] > 10
    assert not found["pip"]
    assert not found["sources"]


def normalised(versions: dict[str, str]) -> dict[str, str]:
    """Distributions by the names that locks have."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in versions.items()}


def locked() -> dict[str, str]:
    """The pins that hold for the Python of the base on Linux."""
    python = {"python_version": containers.PYTHON, "python_full_version": f"{containers.PYTHON}.0"}
    lines = re.findall(r"^(\w\S*==.*?) *\\$", (REQUIREMENTS / "image.txt").read_text(), flags=re.MULTILINE)
    found = [Requirement(line) for line in lines]
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in found
        if each.marker is None or each.marker.evaluate(python)
    }


def test_it_is_small(built: Containers) -> None:
    """Under 120 MB over its base."""
    own = built.inspect(IMAGE)["Size"] - built.inspect(base())["Size"]
    print(f"{own / 1e6:.0f} MB")

    assert 0 < own < LARGEST


def test_it_says_what_it_is(built: Containers) -> None:
    """Labels, the user by number, the port, the signal that ends it, and no shell to be started by."""
    config = built.inspect(IMAGE)["Config"]

    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): text for name, text in config["Labels"].items() if name.startswith(prefix)}
    assert labels.pop("description")
    assert labels == {
        "title": "celery-observe",
        "licenses": "MIT",
        "version": "1.2.3",
        "revision": "abcdef",
        "base.name": base(),
    }
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert (config["Entrypoint"], config["Cmd"]) == (["celery-observe"], ["run"])
    assert set(config["ExposedPorts"]) == {"9808/tcp"}


def test_flower_runs_in_it(built: Containers, processes: ExitStack, redis_server: Redis) -> None:
    """With the broker and everything else from the environment, as the chart starts it."""
    port = free_port()
    env = {"CELERY_BROKER_URL": redis_server.url, "FLOWER_PORT": str(port), "FLOWER_ADDRESS": "127.0.0.1"}
    container = built.container(IMAGE, "flower", options=("--entrypoint=celery",), env=env)
    served = Running(processes.enter_context(container), port)

    def answers() -> bool:
        try:
            return served.get("/healthcheck") == (200, "OK")
        except OSError:
            return False

    eventually(lambda: answers() or not container.running, timeout=60.0, what="Flower answers")
    assert container.running, container.output
