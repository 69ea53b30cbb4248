"""What workers answer is read as Celery gives it, and nothing else is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from celery_observe.probes.answers import multiplier, rate_limits, stats

PREFORK = {
    "pid": 7,
    "uptime": 60,
    "total": {"add": 3},
    "prefetch_count": 8,
    "pool": {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 2, "processes": [8, 9]},
    "rusage": {"utime": 1.0, "stime": 0.5, "maxrss": 2048, "ixrss": 0},
}


def test_stats_are_read() -> None:
    """Memory in bytes, CPU of both kinds together."""
    said = stats(PREFORK)

    assert (said.pool_name, said.slots, said.prefetch, said.uptime, said.total) == ("prefork", 2, 8, 60, {"add": 3})
    assert (said.cpu, said.peak_memory) == (1.5, 2048 * 1024)


@pytest.mark.parametrize(
    ("implementation", "name"),
    [
        ("celery.concurrency.prefork:TaskPool", "prefork"),
        ("celery.concurrency.solo:TaskPool", "solo"),
        ("celery.concurrency.thread:TaskPool", "threads"),
        ("celery.concurrency.gevent:TaskPool", "gevent"),
        ("celery.concurrency.eventlet:TaskPool", "eventlet"),
        ("celery_pool_asyncio.pool:TaskPool", "TaskPool"),
        ("", ""),
    ],
)
def test_a_pool_is_called_as_on_the_command_line(implementation: str, name: str) -> None:
    """One of the user's own by its class."""
    assert stats({"pid": 1, "pool": {"implementation": implementation}}).pool_name == name


def test_what_a_worker_does_not_know_is_none() -> None:
    """Without qos, on a platform without getrusage(2)."""
    said = stats({"pid": 1, "prefetch_count": "N/A", "rusage": "N/A", "pool": {}})

    assert (said.prefetch, said.cpu, said.peak_memory, said.slots) == (None, None, None, None)


def test_prefetch_is_reckoned_from_the_most_slots() -> None:
    """With autoscaling, the pool has fewer at times."""
    said = stats(PREFORK | {"autoscaler": {"max": 10, "min": 1, "current": 2, "qty": 0}})

    assert (said.slots, said.most_slots) == (2, 10)


@pytest.mark.parametrize("reply", [None, "no", [], {}, {"error": "KeyError()"}, PREFORK | {"pid": "x"}])
def test_what_is_no_stats_is_refused(reply: Any) -> None:
    """It may be the answer of a command of the user's own that is called the same."""
    with pytest.raises(msgspec.ValidationError):
        stats(reply)


@pytest.mark.parametrize(
    ("conf", "factor"),
    [
        ({}, 4),
        ({"worker_prefetch_multiplier": 1}, 1),
        ({"CELERY_WORKER_PREFETCH_MULTIPLIER": 1}, 1),  # of an app with a namespace, such as Django's
        ({"CELERYD_PREFETCH_MULTIPLIER": 2}, 2),
        ({"timezone": "UTC"}, 4),
    ],
)
def test_the_multiplier_is_celery_s_default_unless_set(conf: dict[str, Any], factor: int) -> None:
    """By its new name or its old."""
    assert multiplier(conf) == factor


@pytest.mark.parametrize("conf", [None, "no", {"error": "KeyError()"}])
def test_what_is_no_configuration_is_refused(conf: Any) -> None:
    """Such as an error."""
    with pytest.raises(TypeError):
        multiplier(conf)


def test_rate_limits_are_tasks_a_second() -> None:
    """Tasks without one are left out, and so is a limit of none."""
    registered = [
        "add",
        "mail [rate_limit=30/m]",
        "report [rate_limit=36/h]",
        "ping [rate_limit=5]",
        "all [rate_limit=0]",
    ]

    assert rate_limits(registered) == {"mail": 0.5, "report": 0.01, "ping": 5.0}
