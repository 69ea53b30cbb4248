"""The families of other exporters, served besides our own, so that dashboards and rules go on when those are replaced.

One module for each peer, data only: its families as they are fed by our facts, and its gauges as they follow from
ours. Where a name of theirs is one of ours, there is one family, which carries the labels of both (decision 24).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from celery_observe.compat import celery_exporter, flower
from celery_observe.compat.peer import CELERY_PREFIX, Peer, host_of
from celery_observe.fact import WorkerForgotten
from celery_observe.metrics import workers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery_observe.metrics import Family
    from celery_observe.recorder import Recorder

PEERS: Mapping[str, Peer] = {"celery-exporter": celery_exporter.PEER, "flower": flower.PEER}
"""By what ``--compat`` calls them."""


class Compat:
    """What is served for the peers that were asked for; ``prefix`` stands before the names of celery-exporter."""

    def __init__(self, names: Iterable[str] = (), prefix: str = CELERY_PREFIX) -> None:
        peers = [PEERS[name].prefixed(prefix) for name in dict.fromkeys(names)]
        self.families = tuple(family for peer in peers for family in peer.families)
        self.derived = tuple(derived for peer in peers for derived in peer.derived)

    def extend(self, catalogue: Iterable[Family]) -> tuple[Family, ...]:
        """Return a catalogue with the families of the peers; those whose name it has already become one."""
        theirs = {family.name: family for family in self.families}
        ours = [_merged(family, theirs.pop(family.name, None)) for family in catalogue]
        return (*ours, *theirs.values())

    def watch(self, recorder: Recorder) -> None:
        """Have series of a host dropped when the last worker on it is forgotten."""
        if self.families:
            recorder.also(WorkerForgotten, partial(_forget_host, recorder))

    def derive(self, recorder: Recorder) -> None:
        """Bring the gauges up to date that follow from ours; before a scrape, from any thread."""
        for each in self.derived:
            recorder[each.family].replace(each.samples(recorder))


def _merged(ours: Family, theirs: Family | None) -> Family:
    """Add the labels that theirs has to ours, which the same fact feeds."""
    if theirs is None:
        return ours
    return msgspec.structs.replace(ours, labels=(*ours.labels, *theirs.labels), read=theirs.read)


def _forget_host(recorder: Recorder, fact: WorkerForgotten) -> None:
    host = host_of(fact.worker)
    if all(host_of(worker) != host for worker, *_ in recorder[workers.UP].children):
        recorder.drop("hostname", host)
