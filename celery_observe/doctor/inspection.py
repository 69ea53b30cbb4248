"""What workers are asked: all of them little, some of them much."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from celery_observe.broker import BrokerSettings
from celery_observe.doctor.answers import TASK_ITEMS, worker_of
from celery_observe.doctor.evidence import Worker
from celery_observe.probes.answers import Stats, stats
from celery_observe.probes.beat import BEATS
from celery_observe.probes.control import Question, RemoteControl, Replies

_MAX_ASKED = 100
"""Workers that are asked for all; where there are more, it is these that stand for the rest."""
_MAX_HELD = 2000
"""A worker that may hold more messages is not asked for them: its answer would keep it from its work."""


class Inspection:
    """Questions to the workers of one broker."""

    def __init__(self, broker: BrokerSettings, timeout: float) -> None:
        self._control = RemoteControl(broker, timeout)
        self._totals: dict[str, int] = {}

    def all(self) -> tuple[tuple[Worker, ...], str]:
        """Return all workers that answer, and what was not asked of all of them. Raises ProbeError.

        They are told to send a heartbeat too, as by each reader of events that connects (`celery/events/receiver.py`):
        one that cannot sends no other event either.
        """
        replies = self._control.ask([Question("heartbeat"), Question("stats"), Question("active_queues")])
        said = _stats(replies)
        self._totals = {name: _total(each) for name, each in said.items()}
        chosen = sorted(said)[:: -(-len(said) // _MAX_ASKED) or 1]
        replies |= self._control.ask(_details(chosen, said))
        workers = tuple(worker_of(name, said[name], replies) for name in sorted(said))
        few = len(chosen) < len(said)
        return workers, f"{len(chosen)} of {len(said)} workers were asked for settings and tasks" if few else ""

    def again(self, workers: Iterable[Worker]) -> tuple[Worker, ...]:
        """Return the workers with what they have accepted since the first time. Raises ProbeError."""
        asked = list(workers)
        if not asked:
            return ()
        said = _stats(self._control.ask([Question("stats")], [worker.name for worker in asked]))
        return tuple(msgspec.structs.replace(each, accepted=self._accepted(each, said)) for each in asked)

    def beats(self) -> int:
        """Return how many beats answer. Raises ProbeError."""
        return self._control.count(Question("ping", pattern=BEATS))

    def _accepted(self, worker: Worker, said: Mapping[str, Stats]) -> int | None:
        now = said.get(worker.name)
        if now is None or now.pid != worker.pid:
            return None
        return max(0, _total(now) - self._totals[worker.name])


def _details(names: list[str], said: Mapping[str, Stats]) -> list[Question]:
    few = [name for name in names if 0 < (said[name].prefetch or 0) <= _MAX_HELD]
    return [
        Question("conf", names),
        Question("registered", names, {"taskinfoitems": list(TASK_ITEMS)}),
        Question("active", names),
        Question("reserved", few),
        Question("scheduled", few),
    ]


def _stats(replies: Replies) -> dict[str, Stats]:
    found: dict[str, Stats] = {}
    for name, reply in replies["stats"].items():
        try:
            found[name] = stats(reply)
        except msgspec.ValidationError:  # no answer that Celery gives
            continue
    return found


def _total(said: Stats) -> int:
    return sum(said.total.values())
