"""What became of the places of workers that said goodbye: another took it, the others go on without, or none is left.

A goodbye says only that a worker was stopped. What follows tells the rest, so it is judged when a window around it is
over: a worker that came within the window, is still there at its end and consumes all queues of the one that left has
taken its place, each one place. Workers that were lost have places too, which those that come take first come, first
served; but of them only the loss is told. Pure: times are seconds that never jump.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from celery_observe.fact import Departure, WorkerDeparted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery_observe.fact import Fact

_NOTED_WITHIN = 60.0
"""Seconds after which it is noted, at the latest, that a worker has left."""

Queues = tuple[str, ...] | None
"""What a worker consumes; None while it was not asked."""


class _Place(NamedTuple):
    """What a worker has left."""

    queues: Queues
    at: float
    farewell: bool
    """It said goodbye."""


class Departures:
    """Those who left and those who came, for as long as one may take the other's place."""

    def __init__(self, emit: Callable[[Fact], None], window: float) -> None:
        self._emit = emit
        self._window = window
        self._places: dict[str, _Place] = {}
        self._arrivals: dict[str, float] = {}
        self._watched_from = 0.0

    def watch_from(self, at: float) -> None:
        """Note that who comes and goes is seen from now on, and was not before."""
        self._watched_from = at

    def arrive(self, worker: str, at: float) -> None:
        """Note that a new process is there; if its name has left a place, that is its own."""
        if not self.come_back(worker):
            self._arrivals[worker] = at

    def come_back(self, worker: str) -> bool:
        """Note that a name is there again, and say whether it had left a place."""
        place = self._places.pop(worker, None)
        if place is not None and place.farewell:
            self._emit(WorkerDeparted(worker, Departure.REPLACED))
        return place is not None

    def leave(self, worker: str, queues: Queues, at: float, *, farewell: bool) -> None:
        """Note that a worker has left since `at`, with a goodbye or without."""
        self._places[worker] = _Place(queues, at, farewell)

    def forget(self, worker: str) -> None:
        """Drop what is kept of a worker."""
        self._places.pop(worker, None)
        self._arrivals.pop(worker, None)

    def settle(self, now: float, up: Mapping[str, Queues]) -> None:
        """Judge the places whose window is over, by who is up now and what each consumes."""
        due = [worker for worker, place in self._places.items() if now - place.at >= self._window]
        consumed = {queue for queues in up.values() for queue in queues or ()} if due else set()
        for worker in sorted(due, key=lambda each: self._places[each].at):
            place = self._places.pop(worker)
            kind = self._judge(worker, place, up, consumed)
            if place.farewell:
                self._emit(WorkerDeparted(worker, kind))
        waiting = min((place.at for place in self._places.values()), default=now)
        oldest = waiting - self._window - _NOTED_WITHIN
        self._arrivals = {worker: at for worker, at in self._arrivals.items() if at >= oldest}

    def _judge(self, worker: str, place: _Place, up: Mapping[str, Queues], consumed: set[str]) -> Departure:
        if not place.queues:
            return Departure.UNKNOWN
        left = set(place.queues)
        came = [each for each in up.keys() & self._arrivals.keys() - {worker} if self._is_near(each, place)]
        fitting = [each for each in came if left <= set(up[each] or ())]
        if fitting:
            del self._arrivals[min(fitting, key=lambda each: (set(up[each] or ()) != left, self._arrivals[each]))]
            return Departure.REPLACED
        if not left <= consumed:
            return Departure.UNKNOWN if None in up.values() else Departure.STOPPED
        unseen = self._watched_from > place.at - self._window or any(up[each] is None for each in came)
        return Departure.UNKNOWN if unseen else Departure.SCALED_DOWN

    def _is_near(self, arrival: str, place: _Place) -> bool:
        return abs(self._arrivals[arrival] - place.at) <= self._window
