"""What workers answer, made sense of. Pure.

The sources are `celery/worker/control.py`, `celery/worker/worker.py` (`stats`) and `celery/concurrency/` (`info`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from celery.app.defaults import DEFAULTS, NAMESPACES, flatten
from celery.utils.time import rate

_OLD_NAMES: dict[str, str] = {old: name for name, option in flatten(NAMESPACES) for old in option.old}
_LIMITED = re.compile(r"(?P<task>.+) \[rate_limit=(?P<limit>.+)\]")
_POOLS = {"thread": "threads"}
"""The pools whose module is not called as `--pool` calls them."""
_KIB = 1024


class _Pool(msgspec.Struct):
    implementation: str = ""
    max_concurrency: int | None = msgspec.field(default=None, name="max-concurrency")
    processes: Any = None
    max_tasks: Any = msgspec.field(default=None, name="max-tasks-per-child")
    timeouts: Any = None


class _Usage(msgspec.Struct):
    utime: float
    stime: float
    maxrss: float


class _Autoscaler(msgspec.Struct):
    max: int


class Stats(msgspec.Struct):
    """What ``inspect stats`` says of one worker; what its platform or pool does not know is a text or missing."""

    pid: int
    uptime: float | None = None
    total: dict[str, int] = {}
    prefetch_count: int | str | None = None
    pool: _Pool = msgspec.field(default_factory=_Pool)
    rusage: _Usage | str | None = None
    autoscaler: _Autoscaler | None = None

    @property
    def pool_name(self) -> str:
        """The pool as `--pool` calls it, of ``celery.concurrency.prefork:TaskPool``; or the class of the user's own."""
        module, _, name = self.pool.implementation.partition(":")
        package, _, last = module.rpartition(".")
        return _POOLS.get(last, last) if package == "celery.concurrency" else name

    @property
    def limits(self) -> tuple[float, float] | None:
        """The soft and the hard time limit of a pool of processes in seconds, 0 for none; None for another pool."""
        match self.pool.timeouts:
            case [int() | float() as soft, int() | float() as hard]:
                return soft, hard
        return None

    @property
    def max_tasks(self) -> int | None:
        """Tasks after which a child of the pool is replaced."""
        return self.pool.max_tasks if isinstance(self.pool.max_tasks, int) else None

    @property
    def slots(self) -> int | None:
        """Tasks that the pool can execute at once now.

        A pool of processes tells these as it has them; its ``max-concurrency`` stays what it was started with when an
        autoscaler or ``pool_shrink`` changes it.
        """
        return len(self.pool.processes) if isinstance(self.pool.processes, list) else self.pool.max_concurrency

    @property
    def most_slots(self) -> int | None:
        """Those that the prefetch count is reckoned from: with autoscaling, the most."""
        return self.autoscaler.max if self.autoscaler else self.slots

    @property
    def prefetch(self) -> int | None:
        """Messages that it may hold now; 0 is no limit."""
        return self.prefetch_count if isinstance(self.prefetch_count, int) else None

    @property
    def cpu(self) -> float | None:
        """CPU seconds of its main process."""
        return self.rusage.utime + self.rusage.stime if isinstance(self.rusage, _Usage) else None

    @property
    def peak_memory(self) -> float | None:
        """The most bytes that its main process was ever resident with; getrusage(2) of Linux counts in KiB."""
        return self.rusage.maxrss * _KIB if isinstance(self.rusage, _Usage) else None


def stats(reply: Any) -> Stats:
    """Read what a worker says of itself. Raises msgspec.ValidationError."""
    return msgspec.convert(reply, Stats)


def settings_of(conf: Any) -> dict[str, Any]:
    """Return what ``inspect conf`` tells, which is what is not Celery's default, by the names of today.

    An app may use old names (`CELERYD_PREFETCH_MULTIPLIER`), or a namespace (`CELERY_WORKER_PREFETCH_MULTIPLIER`); a
    worker tells them as they stand. Raises TypeError for what is no configuration.
    """
    if not isinstance(conf, Mapping) or "error" in conf:
        raise TypeError(f"{conf!r:.100} is no configuration")
    return {_name_of_today(str(key)): value for key, value in conf.items()}


def _name_of_today(key: str) -> str:
    key = key.lower()
    for name in (key, key.partition("_")[2]):
        if name in DEFAULTS:
            return name
    return _OLD_NAMES.get(key, key)


def length(reply: Any) -> int:
    """Return how many tasks a worker lists. Raises TypeError for what is no list."""
    if not isinstance(reply, list):
        raise TypeError(f"{reply!r:.100} is no list")
    return len(reply)


def queue_names(reply: Any) -> tuple[str, ...]:
    """Return the queues that a worker consumes, out of ``inspect active_queues``. Raises TypeError or KeyError."""
    return tuple(str(queue["name"]) for queue in reply)


def multiplier(conf: Any) -> int:
    """Return ``worker_prefetch_multiplier`` out of ``inspect conf``.

    Raises TypeError or ValueError for what is no configuration.
    """
    return int(settings_of(conf).get("worker_prefetch_multiplier", DEFAULTS["worker_prefetch_multiplier"]))


def rate_limits(registered: Iterable[str]) -> dict[str, float]:
    """Return the tasks a second of each task that has a limit, out of ``inspect registered rate_limit``.

    Raises TypeError or ValueError for what is no rate limit.
    """
    found = (_LIMITED.fullmatch(text) for text in registered)
    limits = {match["task"]: float(rate(match["limit"])) for match in found if match}
    return {task: limit for task, limit in limits.items() if limit > 0}
