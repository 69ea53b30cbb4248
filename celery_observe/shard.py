"""Which of several exporters of one broker counts what: tasks by the hash of their id, workers by that of their name.

All shards read all events. Of those that are not its own a shard takes in what every shard must know: which workers
live, and how many tasks they have started. A workflow belongs to the shard of its first task's id, which *follows* its
other tasks too: it knows of them what it needs to tell of the workflow, and counts none of them.

Pure: the hash is CRC-32, the same on every machine.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any
from zlib import crc32

from celery_observe.event import FLEET_EVENTS, NAMING_EVENTS, Event, Overheard
from celery_observe.fact import WorkerForgotten

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_observe.fact import Fact, Polled, Step


class Shard:
    """One of ``count`` shards, numbered from 0. At most ``max_tasks`` tasks of others are followed."""

    def __init__(self, index: int, count: int, *, max_tasks: int = 40_000) -> None:
        self.index = index
        self.count = count
        self._max_tasks = max_tasks
        self._followed: dict[str, None] = {}

    @property
    def is_first(self) -> bool:
        """Whether it counts what tells of nobody: messages that cannot be read."""
        return self.index == 0

    def owns(self, key: str) -> bool:
        """Say whether the task with this id, or the worker with this name, is its own."""
        return crc32(key.encode()) % self.count == self.index

    def wants(self, heard: Overheard) -> bool:
        """Say whether more must be known of an event: of its own, of workers, and of tasks that it follows.

        A task is followed from the first event on that names its workflow.
        """
        uuid = heard.uuid
        if uuid is None or heard.said in FLEET_EVENTS:
            return heard.said in FLEET_EVENTS or self.owns(heard.hostname)
        if crc32(uuid.encode()) % self.count == self.index or uuid in self._followed:
            return True
        root = heard.root_id
        if root is None or root == uuid or heard.said not in NAMING_EVENTS or not self.owns(root):
            return False
        if len(self._followed) >= self._max_tasks:
            self._let_go()
        self._followed[uuid] = None
        return True

    def _let_go(self) -> None:
        """Follow the half that came first no longer: to do so one by one costs more the more are gone already."""
        for uuid in list(islice(self._followed, (self._max_tasks + 1) // 2)):
            del self._followed[uuid]

    def reports(self, heard: Overheard | None) -> bool:
        """Say whether an event that cannot be read is its own."""
        if heard is None:
            return self.is_first
        of_worker = heard.uuid is None or heard.said in FLEET_EVENTS
        return self.owns(heard.hostname if of_worker else heard.uuid or "")

    def follows(self, event: Event) -> bool:
        """Say whether an event that it wanted is of a task that another shard counts."""
        return event.uuid in self._followed

    def of_own_workers(self, mine: Callable[[Fact], None], others: Callable[[Fact], None]) -> Callable[[Fact], None]:
        """Return what hands facts about its own workers to ``mine``, and about those of other shards to ``others``."""

        def sort(fact: Any) -> None:
            if isinstance(fact, WorkerForgotten):
                mine(fact)
                others(fact)
            elif self.owns(fact.worker):
                mine(fact)
            else:
                others(fact)

        return sort

    def of_own_workflows(self, take: Callable[[Any], None]) -> Callable[[Step | Polled], None]:
        """Return what hands on what is told of its own workflows, and drops the rest."""
        return lambda fact: take(fact) if self.owns(fact.root) else None
