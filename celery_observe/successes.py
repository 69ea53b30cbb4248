"""Success → Fact: most reports are of attempts that succeeded, and of which nothing but their times is to be told.

Those that come one after the other are told together, by task, queue and worker: what is done once for many costs
several times less than what is done for each. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING

from celery_observe.attempt import between_hosts, each_between_hosts
from celery_observe.cause import UNKNOWN
from celery_observe.fact import Ended, Fact, Outcome, Started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celery_observe.fact import Each
    from celery_observe.fleet import Fleet, Instant, Ledger
    from celery_observe.report import Success

_kind_of = attrgetter("name", "queue", "hostname")
_times_of = attrgetter("started", "timestamp", "runtime", "received", "published")


def least_start(ledger: Ledger) -> float:
    """Return the earliest start that a ledger counts, in Unix seconds.

    What a worker's main process had accepted before its first beat was told or listed by then: what is told later it
    accepted later, though the child may have started it before.
    """
    return math.nextafter(ledger.opened, math.inf)


MANY = 8
"""So many are told together: of fewer, what is done once costs more than it saves."""


class Successes:
    """Tells plain attempts, each once; ``label_of`` maps a task's name to that it counts under."""

    def __init__(
        self,
        emit: Callable[[Fact], None],
        emit_alike: Callable[[Fact, int, Each], None],
        fleet: Fleet,
        label_of: Callable[[str], str],
    ) -> None:
        self._emit = emit
        self._emit_alike = emit_alike
        self._fleet = fleet
        self._label_of = label_of

    def tell(self, reports: Sequence[Success], at: Instant) -> None:
        """Tell of attempts that came one after the other."""
        for (name, queue, worker), alike in _by_kind(reports):
            labels, ledger = (self._label_of(name), queue or UNKNOWN, worker), self._fleet.meet(worker, at).ledger
            if len(alike) < MANY:
                self._tell_each(alike, labels, ledger)
            else:
                self._tell_together(alike, labels, ledger)

    def _tell_each(self, reports: Sequence[Success], labels: tuple[str, str, str], ledger: Ledger) -> None:
        emit, least = self._emit, least_start(ledger)
        for started, ended, runtime, received, published in map(_times_of, reports):
            ledger.start(max(started, least))
            emit(Started(*labels, between_hosts(received, started), between_hosts(published, started)))
            emit(Ended(*labels, Outcome.SUCCEEDED, runtime, between_hosts(published, ended)))

    def _tell_together(self, reports: Sequence[Success], labels: tuple[str, str, str], ledger: Ledger) -> None:
        number, least = len(reports), least_start(ledger)
        started, ended, runtimes, received, published = zip(*map(_times_of, reports), strict=True)
        ledger.start_all(started if min(started) >= least else [max(each, least) for each in started])
        waits = {
            "worker_wait": each_between_hosts(received, started),
            "queue_wait": each_between_hosts(published, started),
        }
        self._emit_alike(Started(*labels, None), number, waits)
        durations = {"runtime": runtimes, "total": each_between_hosts(published, ended)}
        self._emit_alike(Ended(*labels, Outcome.SUCCEEDED, None), number, durations)


def _by_kind(reports: Sequence[Success]) -> Iterator[tuple[tuple[str, str | None, str], Sequence[Success]]]:
    """Yield those of each task, queue and worker; mostly all are of one."""
    kinds = [*map(_kind_of, reports)]
    if len({*kinds}) == 1:
        yield kinds[0], reports
        return
    found: defaultdict[tuple[str, str | None, str], list[Success]] = defaultdict(list)
    for kind, report in zip(kinds, reports, strict=True):
        found[kind].append(report)
    yield from found.items()
