"""Whatever of ours fails in a worker, hangs or has no memory: tasks, their order, and the worker's end are the same.

Every function of the signal module is sabotaged in turn, found by reading the source, so that a new one is covered.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import celery_observe
from apps.sabotaged import Trial, functions_of
from services.instrumented import Instrumented
from services.redis import Redis
from services.trial import Guinea, Outcome
from services.waiting import eventually

PACKAGE = Path(celery_observe.__file__).parent
SLOWER = 3.0
"""Seconds that a machine with other things to do may take longer."""

THE_GUARD_ITSELF = {"harmless.run", "told.run", "handler.receive", "watched", "watched.pass_on"}
IN_PLACE_OF_CELERY = {
    "watch_failures.create_watched",
    "_noticed.freeze_noticed",
    *("surrounding.trace_task", "preceded.go_on", "receiving.go_on"),
}
"""All they do is call what Celery would, and what is guarded."""


def functions(*files: Path) -> list[tuple[str, str]]:
    """Module and qualified name of every function in these files."""
    return [
        (".".join((PACKAGE.name, *file.relative_to(PACKAGE).with_suffix("").parts)), name)
        for file in files
        for name in functions_of(file)
        if name not in THE_GUARD_ITSELF | IN_PLACE_OF_CELERY
    ]


PREFORKED = {"children", "instrumentation", "provider", "resident", "tracer"}
"""What does more with children; the others are the same in the pool that is quickest."""
OF_SPANS = [PACKAGE / "worker" / f"{name}.py" for name in ("creation", "spans", "tracing")]
OF_SPANS.append(PACKAGE / "tracing" / "provider.py")
SIGNALS = functions(*sorted({*(PACKAGE / "worker").glob("*.py")} - {*OF_SPANS}), PACKAGE / "report.py")
SPANS = [each for each in functions(*OF_SPANS) if not each[1].rpartition(".")[2].startswith("_")]
"""Those that are called from elsewhere; all their lines fail in the unit tests."""
IN_THE_MAIN_THREAD = {("celery_observe.hosting", "prepare")}
"""Imports, before children are forked: what never returned there would never return to Celery."""
THREADS = functions(*(PACKAGE / f"{name}.py" for name in ("listener", "journal", "hosting", "pipeline")))
IN_THEIR_OWN_TIME = [
    *[each for each in THREADS if each not in IN_THE_MAIN_THREAD and not each[1].rpartition(".")[2].startswith("_")],
    ("celery_observe.worker.census", "census"),
    *[("celery_observe.worker.resident", f"Resident.{name}") for name in ("_live", "_serve", "_tell", "_leave")],
]
"""What our own threads run: it may take for ever."""

Try = Callable[..., Guinea]


@pytest.fixture
def attempt(redis_server: Redis, processes: ExitStack, tmp_path: Path) -> Try:
    """Start a worker to be tried out."""

    def start(**options: Any) -> Guinea:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        return processes.enter_context(Guinea(redis_server, Trial(redis_server.url, folder, **options)))

    return start


_bare: dict[str, tuple[Outcome, float]] = {}


@pytest.fixture
def bare(attempt: Try) -> Callable[[str], tuple[Outcome, float]]:
    """What comes of the batch without us on a pool, and in how many seconds; done once."""

    def of(pool: str) -> tuple[Outcome, float]:
        if pool not in _bare:
            worker = attempt(pool=pool)
            worker.work()
            _bare[pool] = worker.end(), worker.seconds
        return _bare[pool]

    return of


@pytest.mark.parametrize(("module", "function"), [*SIGNALS, *THREADS])
def test_a_function_that_fails_is_no_matter(attempt: Try, bare: Any, module: str, function: str) -> None:
    """And somebody is told, if it was called at all."""
    pool = "prefork" if module.rpartition(".")[2] in PREFORKED else "solo"
    expected, seconds = bare(pool)
    worker = attempt(pool=pool, instrument={}, module=module, function=function)

    worker.work()

    eventually(lambda: worker.tells() or not worker.is_struck, 5.0, what=f"{function} is told of")
    assert worker.end() == expected
    assert worker.seconds < seconds + SLOWER


OF_EACH_TASK = [
    ("celery_observe.worker.consumer", "received"),
    ("celery_observe.worker.executions", "begin"),
    ("celery_observe.worker.executions", "end"),
    ("celery_observe.worker.reporter", "Reporter.send"),
]


@pytest.mark.parametrize("pool", ["threads", "gevent", "eventlet"])
@pytest.mark.parametrize(("module", "function"), OF_EACH_TASK)
def test_what_every_task_runs_through_may_fail_in_every_pool(
    attempt: Try, bare: Any, module: str, function: str, pool: str
) -> None:
    """Of threads and greenlets too."""
    expected, seconds = bare(pool)
    worker = attempt(pool=pool, instrument={}, module=module, function=function)

    worker.work()

    eventually(worker.tells, 10.0, what=f"{function} is told of")
    assert worker.end() == expected
    assert worker.seconds < seconds + SLOWER


@pytest.mark.parametrize(("module", "function"), SPANS)
def test_a_function_that_makes_spans_and_fails_is_no_matter(
    attempt: Try, bare: Any, module: str, function: str
) -> None:
    """Tasks, their results and the worker's end are as without us."""
    pool = "prefork" if module.rpartition(".")[2] in PREFORKED else "solo"
    expected, seconds = bare(pool)
    settings = {"tracing": True}
    worker = attempt(pool=pool, instrument=settings, module=module, function=function, env=CONSOLE)

    worker.work()

    assert worker.end() == expected
    assert worker.seconds < seconds + SLOWER


CONSOLE = {"OTEL_TRACES_EXPORTER": "console"}
"""Spans are printed."""


@pytest.mark.parametrize(("module", "function"), IN_THEIR_OWN_TIME)
def test_a_function_that_never_returns_is_no_matter(attempt: Try, bare: Any, module: str, function: str) -> None:
    """The worker does not wait for it, while it works or when it ends."""
    expected, seconds = bare("prefork")
    worker = attempt(instrument={}, module=module, function=function, hangs=True)

    worker.work()

    began = time.monotonic()
    assert worker.end() == expected
    assert time.monotonic() - began < 2 * SLOWER
    assert worker.seconds < seconds + SLOWER


LIMITED = {"soft_limit": ("begin", "FAILURE"), "add": ("end", "SUCCESS")}
"""Task → where its soft limit strikes, and how it ends as without us."""
AROUND = {"begin": ("tracer", "_metered"), "end": ("executions", "executed")}
"""What does the work of a handler where children only measure."""


@pytest.mark.parametrize("settings", [{"resource": True}, {"logs": "json"}], ids=["around the tracer", "by signals"])
@pytest.mark.parametrize("task", LIMITED)
def test_a_soft_limit_that_strikes_in_a_handler_is_the_tasks(attempt: Try, task: str, settings: dict[str, Any]) -> None:
    """What is yet to execute is interrupted when it does; what has ended stays as it is."""
    handler, state = LIMITED[task]
    module, function = ("executions", handler) if "logs" in settings else AROUND[handler]
    worker = attempt(instrument=settings, module=f"celery_observe.worker.{module}", function=function, hangs=True)

    worker.send(task, *((1, 2) if task == "add" else ()), task_id="limited", soft_time_limit=0.5)

    eventually(lambda: "limited" in worker.states(), 4.0, what="the limit is enforced")
    assert worker.states() == {"limited": state}
    worker.wait_for(lambda page: page.total("celery_observe_handler_errors_total") >= 1)
    outcome = worker.end()
    assert outcome.exit_code == 0
    assert ("SoftTimeLimitExceeded" in outcome.results["limited"][2]) == (state == "FAILURE")


def test_a_sidecar_that_never_reads_is_no_matter(attempt: Try, bare: Any, tmp_path: Path) -> None:
    """Its socket fills, and what does not fit is dropped."""
    expected, seconds = bare("prefork")
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.bind(address)
        deaf.listen(1)
        worker = attempt(instrument={"sidecar": f"unix://{address}"})
        for _ in range(600):
            worker.send("add", 1, 2, ignore_result=True)

        worker.work()

        assert worker.end() == expected
    assert worker.seconds < seconds + 2 * SLOWER


def test_clients_that_never_read_are_no_matter(attempt: Try, bare: Any) -> None:
    """However many, and whether they have asked for something or not: for 2,500 pages, while it works."""
    expected, seconds = bare("prefork")
    worker = attempt(instrument={})
    with ExitStack() as clients:
        for number in range(100):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", worker.port), timeout=5.0))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 50 if number % 2 else b"GET /met")

        worker.work()

        began = time.monotonic()
        assert worker.end() == expected
    assert time.monotonic() - began < 2 * SLOWER
    assert worker.seconds < seconds + 2 * SLOWER


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_process_apart_that_hangs_is_no_matter(
    redis_server: Redis, processes: ExitStack, tmp_path: Path, pool: str
) -> None:
    """The one that serves for a pool of greenlets."""
    worker = processes.enter_context(Instrumented(tmp_path, redis_server.url, pool=pool))
    apart = int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text())
    os.kill(apart, signal.SIGSTOP)
    processes.callback(os.kill, apart, signal.SIGKILL)

    for number in range(600):
        worker.send("add", number, 2)

    eventually(lambda: worker.output.count(" succeeded in ") == 600)
    assert worker.terminate() == 0


@pytest.mark.parametrize("spare", [8, 32])
def test_memory_that_runs_out_is_no_matter(attempt: Try, spare: int) -> None:
    """A process that may grow by some megabytes does what it would without us."""
    plain = attempt(spare=spare << 20)
    plain.work()
    expected = plain.end()
    worker = attempt(instrument={}, spare=spare << 20)

    worker.work()

    assert worker.end() == expected
    assert worker.seconds < plain.seconds + SLOWER
