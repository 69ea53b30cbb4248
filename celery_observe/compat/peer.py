"""What a module of a peer declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from celery_observe.fact import Ended, Outcome
from celery_observe.metrics import Family, workers

if TYPE_CHECKING:
    from celery_observe.recorder import Recorder
    from celery_observe.series import Labels

CELERY_PREFIX = "celery_"

CLIENT = "generic"
"""Stands for all publishers, whose hosts or processes the peers name: there is no bound to those."""

RUNTIME_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds in seconds: the defaults of prometheus_client, which both peers have."""

ANNOUNCED = {
    Outcome.SUCCEEDED: "task-succeeded",
    Outcome.FAILED: "task-failed",
    Outcome.UNREGISTERED: "task-failed",
    Outcome.RETRIED: "task-retried",
    Outcome.REVOKED: "task-revoked",
    Outcome.EXPIRED: "task-revoked",
    Outcome.TERMINATED: "task-revoked",
    Outcome.REJECTED: "task-rejected",
    Outcome.CANCELLED: "task-cancelled",
}
"""The event with which Celery announces an outcome; there is none for the others."""


def host_of(worker: str) -> str:
    """Return the host in a node name, such as ``celery@host``."""
    name, at, host = worker.partition("@")
    return host if at else name


def ended_by(event: str) -> Callable[[Ended], bool]:
    """Return what tells whether an attempt ended in a way that this event announces."""
    outcomes = frozenset(outcome for outcome, announced in ANNOUNCED.items() if announced == event)
    return lambda fact: fact.outcome in outcomes


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """A gauge of a peer that follows from one of ours: the sum over all samples that agree in one label.

    ``label`` is that label of ours, ``read`` makes theirs of it. With ``up`` only workers count that are not known to
    be gone. A value that is in ``zeros``, another family of ours with the same label, is there even if nothing counts.
    """

    family: Family
    source: Family
    label: str
    read: Callable[[str], str] = str
    up: bool = False
    zeros: Family | None = None

    def samples(self, recorder: Recorder) -> dict[Labels, float]:
        """Return its samples as they follow now."""
        totals: dict[Labels, float] = {}
        if self.zeros is not None:
            totals = {(self._read(self.zeros, labels),): 0.0 for labels in recorder[self.zeros].children.copy()}
        gone = _gone(recorder) if self.up else frozenset()
        for labels, value in recorder[self.source].values.items():
            if gone.isdisjoint(labels):
                key = (self._read(self.source, labels),)
                totals[key] = totals.get(key, 0.0) + value
        return totals

    def _read(self, family: Family, labels: Labels) -> str:
        return self.read(labels[family.labels.index(self.label)])


def _gone(recorder: Recorder) -> frozenset[str]:
    return frozenset(worker for (worker, *_), up in recorder[workers.UP].values.items() if not up)


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Another exporter: its families, those that are derived included, and how those are."""

    families: tuple[Family, ...]
    derived: tuple[Derived, ...] = ()

    def prefixed(self, prefix: str) -> Peer:
        """Return it with names that begin so instead of with ``celery_``."""

        def renamed(family: Family) -> Family:
            if not family.name.startswith(CELERY_PREFIX):
                return family
            return msgspec.structs.replace(family, name=prefix + family.name.removeprefix(CELERY_PREFIX))

        return Peer(
            families=tuple(map(renamed, self.families)),
            derived=tuple(msgspec.structs.replace(each, family=renamed(each.family)) for each in self.derived),
        )
