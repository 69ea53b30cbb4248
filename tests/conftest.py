"""The fixtures of all tests, and the order in which tests run. See tests/README.md."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog

from services import ports, rabbitmq
from services.certificates import Certificates
from services.exporter import Exporter
from services.helm import Helm
from services.otlp import OtlpReceiver
from services.prometheus import ALERTMANAGER, Alertmanager, Prometheus
from services.rabbitmq import RabbitMQ
from services.redis import Redis
from services.sentinel import Sentinel
from services.webhook import Webhook
from services.worker import Worker

# Folders of tests/ that come first; the others start servers.
FAST_FOLDERS = ("unit", "house")

# The fixtures that start something → the marker of the tests that use them.
MARKER_OF_FIXTURE = {
    "start_redis": "redis",
    "redis_sentinel": "redis",
    "rabbitmq_server": "rabbitmq",
    "celery_worker": "workers",
}


def pytest_configure() -> None:
    """Let what tests start be interrupted, also where a shell ran us in the background and so had us ignore that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they start, keep those of RabbitMQ in one process, and put fast ones first."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        for marker in {MARKER_OF_FIXTURE[name] for name in used & MARKER_OF_FIXTURE.keys()}:
            item.add_marker(marker)
        if "rabbitmq_server" in used:
            item.add_marker(pytest.mark.xdist_group("rabbitmq"))
        if "built" in used and item.config.getoption("loadgroup", default=False):
            _keep_together(item, "image")
    items.sort(key=_folder_order)


def _keep_together(item: pytest.Item, group: str) -> None:
    """Have one process run all tests of a group, under `--dist loadgroup`.

    That is what the mark `xdist_group` is for, but xdist 3.8 writes the group to where pytest 9.2 does not look for it.
    """
    known = item._id  # noqa: SLF001  see above
    item._id = type(known).parse(f"{known}@{group}")  # noqa: SLF001  see above


def _folder_order(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return FAST_FOLDERS.index(folder) if folder in FAST_FOLDERS else len(FAST_FOLDERS)


def require(service: str, *, installed: bool) -> None:
    """Skip the test, naming the service that is missing; in CI, fail it."""
    if installed:
        return
    reason = f"{service} is not installed (make test installs it)"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what commands do to the logging of this process when a test calls them here."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    """Everything that this test has started; ended in reverse order."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    return ports.free_port()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority, and what it issued to a loopback server and to a client."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def start_redis(processes: ExitStack, tmp_path: Path) -> Callable[..., Redis]:
    """Start a Redis of this test's own: `start_redis("--maxmemory", "1mb", password="p")`."""
    require("redis-server", installed=shutil.which("redis-server") is not None)

    def start(*config: str, password: str | None = None, tls: Certificates | None = None) -> Redis:
        return processes.enter_context(Redis(tmp_path, *config, password=password, tls=tls))

    return start


@pytest.fixture
def redis_server(start_redis: Callable[..., Redis]) -> Redis:
    """A plain Redis of this test's own."""
    return start_redis()


@pytest.fixture
def redis_sentinel(processes: ExitStack, tmp_path: Path) -> Sentinel:
    """A sentinel with a master and a replica of this test's own."""
    require("redis-server", installed=shutil.which("redis-server") is not None)
    return processes.enter_context(Sentinel(tmp_path))


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[RabbitMQ]:
    """The one RabbitMQ of a test run; the tests that use it run one after another."""
    require("rabbitmq-server", installed=rabbitmq.installed())
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq"), tls=certificates) as server:
        yield server


@pytest.fixture
def rabbitmq_url(rabbitmq_server: RabbitMQ) -> str:
    """The broker URL of a virtual host that no other test uses."""
    if not rabbitmq_server.running:  # a test had stopped it
        rabbitmq_server.start()
    return rabbitmq_server.new_virtual_host()


@pytest.fixture(scope="session")
def promtool() -> str:
    """The path of Prometheus' own checker of metrics and rules."""
    path = shutil.which("promtool")
    require("promtool", installed=path is not None)
    return str(path)


@pytest.fixture
def celery_worker(processes: ExitStack, tmp_path: Path) -> Callable[..., Worker]:
    """Start a Celery worker and wait until it consumes: `celery_worker(broker_url, pool="prefork")`."""
    return lambda *args, **options: processes.enter_context(Worker(tmp_path, *args, **options))


@pytest.fixture
def exporter(processes: ExitStack, tmp_path: Path) -> Callable[..., Exporter]:
    """Start the exporter and wait until it serves: `exporter(url, arguments=("--enable-events",))`."""
    return lambda *args, **options: processes.enter_context(Exporter(tmp_path, *args, **options))


@pytest.fixture
def webhook(processes: ExitStack) -> Webhook:
    """A receiver of webhooks."""
    return processes.enter_context(Webhook())


@pytest.fixture
def otlp(processes: ExitStack) -> OtlpReceiver:
    """A receiver of spans, over OTLP."""
    return processes.enter_context(OtlpReceiver())


@pytest.fixture
def alertmanager(processes: ExitStack, tmp_path: Path, webhook: Webhook) -> Alertmanager:
    """An Alertmanager with the shipped configuration, whose receivers are paths of the webhook."""
    require("alertmanager", installed=ALERTMANAGER is not None)
    return processes.enter_context(Alertmanager(tmp_path, webhook.url))


@pytest.fixture(scope="session")
def amtool() -> str:
    """The path of Alertmanager's own checker."""
    path = shutil.which("amtool")
    require("amtool", installed=path is not None)
    return str(path)


@pytest.fixture
def prometheus(processes: ExitStack, tmp_path: Path) -> Callable[..., Prometheus]:
    """Start a Prometheus: `prometheus({"celery": [page.port]}, rules=files, alertmanager=port)`."""
    require("prometheus", installed=shutil.which("prometheus") is not None)
    return lambda *args, **options: processes.enter_context(Prometheus(tmp_path, *args, **options))


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, and kubectl."""
    return Helm(tmp_path_factory.mktemp("helm"))


@pytest.fixture(params=["redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a broker of each kind."""
    if request.param == "redis":
        server: Redis = request.getfixturevalue("redis_server")
        return server.url
    virtual_host: str = request.getfixturevalue("rabbitmq_url")
    return virtual_host
