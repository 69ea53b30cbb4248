"""How far groups are, which chords wait for their header, and which will wait for ever, and why.

That a task belongs to a group, and what its body will be, stands in its message: instrumented processes tell, events do
not. From events alone a chord is visible only where ``celery.chord_unlock`` polls for it (``celery/app/builtins.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_observe.fact import Stall

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from celery_observe.fact import Chord, ChordBroken, Polled
    from celery_observe.lineage import Node

CHORD_UNLOCK = "celery.chord_unlock"
"""The task that polls, by retrying, where the result backend does not count what a chord's header returns."""
MOST_POLLS = 10_000
"""Polling tasks that are remembered."""
SPINNING_AFTER = 300.0
"""Seconds for which a chord of which only the polling is seen may take before it counts as stalled."""
_SPINNING_POLLS = 3
"""Polls in vain after the header is complete."""


class Group:
    """The tasks of one group, which is the header of a chord if it has a body."""

    __slots__ = ("begun", "body", "broken", "changed", "expires", "failed", "finished", "gap", "members", "returned")

    def __init__(self) -> None:
        self.members = 0
        self.finished = 0
        self.failed = 0
        self.body: list[str] | None = None
        self.begun = False
        """Whether the body was published."""
        self.broken: str | None = None
        self.expires: float | None = None
        self.returned: float | None = None
        """When a task of it last ended, in Unix seconds."""
        self.gap = 0.0
        """The longest time between two such."""
        self.changed = 0.0
        """When it last changed, by the events' clock."""

    @property
    def is_waiting(self) -> bool:
        """Whether its body is still to come."""
        return self.body is not None and not self.begun and not self.failed and self.broken is None

    def weigh(self, node: Node, sign: int, *, failed: bool) -> None:
        """Count a task of it as it is, or (-1) as it was."""
        self.members += sign
        self.finished += sign * (not node.open)
        self.failed += sign * failed
        if sign > 0 and not node.open and node.ended is not None:
            since = self.returned if self.returned is not None else node.begin
            self.gap = max(self.gap, node.ended - since)
            self.returned = max(node.ended, self.returned or 0.0)

    def stalled(self, clock: float, quiet: float, *, polled: bool) -> Stall | None:
        """Return why its body does not come; None if it has come, or may."""
        if self.body is None or self.begun or self.broken is not None:
            return None
        if self.failed:
            return Stall.HEADER_FAILED
        if self.finished < self.members or clock - self.changed < quiet:
            return None
        if self.expires and self.gap > self.expires:
            return Stall.RESULT_EXPIRED
        return Stall.UNLOCK_SPINNING if polled else Stall.BODY_NOT_SENT


class Poll:
    """One ``celery.chord_unlock``."""

    __slots__ = ("group", "heard", "retries", "retries_before", "root", "since")

    def __init__(self, polled: Polled, clock: float) -> None:
        self.root = polled.root
        self.group = polled.group
        self.retries = self.retries_before = polled.retries
        self.since = self.heard = clock
        """Since when nothing else is known to be open that it could wait for."""

    def is_spinning(self, clock: float, quiet: float, others: int | None) -> bool:
        """Say whether it polls in vain; ``others`` are the other open tasks of its workflow, None if there is none."""
        if others is None:
            return clock - self.since >= SPINNING_AFTER
        if others > 0:
            self.since, self.retries_before = clock, self.retries
        return clock - self.since >= quiet and self.retries - self.retries_before >= _SPINNING_POLLS


class Chords:
    """The groups of all workflows, and what polls for them."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.polls: dict[str, Poll] = {}
        self._groups_of_bodies: dict[str, str] = {}

    def learn(self, name: str, chord: Chord | None, known: Mapping[str, Node]) -> None:
        """Know a group, and its chord if that is told; its body may be ``known`` before."""
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = Group()
        if chord is not None and group.expires is None:
            group.expires = chord.expires
        if chord is not None and group.body is None:
            group.body = chord.body
            self._groups_of_bodies.update(dict.fromkeys(chord.body, name))
            for uuid in chord.body:
                if uuid in known:
                    self.begin(known[uuid])

    def begin(self, node: Node) -> None:
        """Note that a task became known, which may be the body of a chord."""
        name = self._groups_of_bodies.get(node.uuid, "")
        group = self.groups.get(name)
        if group is not None:
            group.begun, node.header = True, name

    def breaks(self, fact: ChordBroken) -> bool:
        """Note that a chord is broken; say whether that is news."""
        known = (self._groups_of_bodies.get(uuid) for uuid in fact.body)
        name = fact.group if fact.group in self.groups else next(filter(None, known), None)
        group = self.groups.get(name or "")
        if group is None:
            return True
        news, group.broken = group.broken is None, fact.reason
        return news

    def forget(self, names: Iterable[str]) -> None:
        """Let go of groups."""
        for name in names:
            group = self.groups.pop(name, None)
            for uuid in (group.body if group is not None else None) or ():
                self._groups_of_bodies.pop(uuid, None)

    def poll(self, fact: Polled, clock: float) -> None:
        """Note that a chord was asked for."""
        poll = self.polls.get(fact.uuid)
        if poll is None:
            while len(self.polls) >= MOST_POLLS:
                del self.polls[next(iter(self.polls))]
            poll = self.polls[fact.uuid] = Poll(fact, clock)
        poll.retries, poll.heard = fact.retries, clock
        poll.group = fact.group or poll.group

    def polled(self) -> set[str]:
        """Return the groups that are polled for, of those that are known."""
        return {poll.group for poll in self.polls.values() if poll.group in self.groups}

    def tick(self, clock: float, timeout: float) -> None:
        """Let go of polls of which nothing was heard for long."""
        for uuid in [uuid for uuid, poll in self.polls.items() if clock - poll.heard >= timeout]:
            del self.polls[uuid]
