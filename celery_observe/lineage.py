"""Which task of a workflow came from which, and what the time went to on the way to each.

A path leads from the first task to another through those that published one another. The time on it is told by stage,
without gaps: the stages add up to the time from the first publish to where the path ends. The path to whichever task
ended last is the critical one: had it been faster, so had the workflow.

Times are Unix seconds, each by the clock of whoever did it, so what two clocks differ by goes to the stage in between.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from celery_observe.fact import Outcome, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_observe.fact import Step

STAGES = tuple(Stage)
Times = tuple[float, ...]
"""Seconds by stage, in the order of ``STAGES``."""
NO_TIMES: Times = (0.0,) * len(STAGES)
_SCHEDULED, _QUEUE, _RATE_LIMIT, _WORKER, _RUN, _UNKNOWN = range(len(STAGES))


class Path(NamedTuple):
    """What the time went to up to ``mark``, and over how many tasks."""

    times: Times
    mark: float
    length: int


class Node(msgspec.Struct, gc=False, eq=False):
    """One task of a workflow; the times are of its latest attempt."""

    uuid: str
    parent: str | None
    task: str
    queue: str
    worker: str = ""
    turn: int = 0
    retries: int = 0
    published: float | None = None
    eta: float | None = None
    received: float | None = None
    released: float | None = None
    started: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None
    open: bool = True
    group: str | None = None
    index: int | None = None
    header: str | None = None
    """The group whose end it follows, if it is the body of a chord."""
    owed: int = 0
    """Tasks that Celery publishes when it succeeds."""
    children: int = 0
    first: float | None = None
    """When it was first published, if this is not the first attempt."""
    since: float = 0.0
    """When the attempt before ended, if this is not the first."""
    earlier: Times = NO_TIMES
    """Of the attempts before."""
    before: Path | None = None
    """What led to it, once that is settled."""

    @property
    def begin(self) -> float:
        """When it is first known of."""
        known = (self.first, self.published, self.received, self.started, self.ended)
        return next((time for time in known if time is not None), 0.0)

    @property
    def due(self) -> int:
        """How many tasks must still come of it."""
        return max(0, self.owed - self.children) if self.outcome is Outcome.SUCCEEDED else 0

    def learn(self, step: Step) -> None:
        """Take over what became known of the latest attempt."""
        if step.turn > self.turn:
            self._attempt_again(step)
        self.task, self.queue, self.worker = step.task, step.queue, step.worker or self.worker
        self.parent = self.parent or step.parent
        self.published = _either(step.published, self.published)
        self.eta = _either(step.eta, self.eta)
        self.received = _either(step.received, self.received)
        self.released = _either(step.released, self.released)
        self.started = _either(step.started, self.started)
        self.ended = _either(step.ended, self.ended)
        if step.outcome is not None or self.outcome is None or self._is_delivered_again(step):
            self.outcome, self.open = step.outcome, step.open
        if step.canvas is not None:
            self.owed = max(self.owed, step.canvas.callbacks + (step.canvas.chain > 0))

    def _is_delivered_again(self, step: Step) -> bool:
        """Say whether word of a task that has ended is of a later delivery, and not late itself."""
        return step.received is not None and self.ended is not None and step.received > self.ended

    def _attempt_again(self, step: Step) -> None:
        """Add up the attempt before."""
        self.first = self.begin
        known = (step.published, step.received, step.started)
        until = next((time for time in known if time is not None), self.started or self.first)
        times, self.since = self.spent(self.since or self.first, until)
        self.earlier = _added(self.earlier, times)
        self.turn, self.retries = step.turn, max(self.retries, step.retries)
        self.published = self.eta = self.received = self.released = self.started = self.ended = None

    def is_replaced_by(self, step: Step) -> bool:
        """Say whether another task goes on under its id (``Task.replace``)."""
        return step.turn > self.turn and (step.task != self.task or step.parent not in {None, self.parent})

    def spent(self, since: float, until: float) -> tuple[Times, float]:
        """Return what the time between two went to in the latest attempt, and up to when that is known."""
        last = _RUN if self.started is not None else _WORKER if self.received is not None else _QUEUE
        ends = (
            (_SCHEDULED, self.eta),
            (_QUEUE, self.received),
            (_RATE_LIMIT, self.released),
            (_WORKER, self.started),
            (last, _either(self.ended, until)),
        )
        times = list(NO_TIMES)
        for stage, time in ends:
            end = since if time is None else min(time, until)
            if end > since:
                times[stage] += end - since
                since = end
        return tuple(times), since


class Lineage:
    """The tasks of one workflow, in the order in which they became known."""

    def __init__(self, nodes: dict[str, Node] | None = None) -> None:
        self.nodes: dict[str, Node] = nodes if nodes is not None else {}

    def replace(self, node: Node, step: Step) -> str:
        """Keep a task that was replaced beside what replaced it; return the id of what that came from."""
        known = (node.ended, step.published, step.received)
        node.ended = next((time for time in known if time is not None), None)
        node.outcome, node.open = Outcome.REPLACED, False
        name = f"{node.uuid}/{node.turn}"
        self.nodes[name] = self.nodes.pop(node.uuid)
        for each in self.nodes.values():
            if each.parent == node.uuid:
                each.parent = name
        node.uuid = name
        return step.parent if step.parent is not None and step.parent != node.parent else name

    def path(self, node: Node, until: float) -> Path:
        """Return the path that leads through a task up to a time."""
        before = self._before(node)
        earlier, since = NO_TIMES, before.mark
        if node.first is not None:
            earlier = _added(node.earlier, _only(_QUEUE, max(0.0, node.first - before.mark)))
            since = max(node.since, before.mark)
        times, mark = node.spent(since, until)
        return Path(_added(before.times, earlier, times), mark, before.length + 1)

    def settle(self) -> None:
        """Work out what led to each task, so that those before can be let go of."""
        for node in self.nodes.values():
            self._before(node)

    def line(self, node: Node | None) -> Iterator[Node]:
        """Yield a task and those before it on its path, as far as they are kept."""
        for _ in range(len(self.nodes)):
            if node is None:
                return
            yield node
            node = self._before_it(node)

    def ended(self) -> Iterator[Node]:
        """Yield the tasks that are not open."""
        return (node for node in self.nodes.values() if not node.open)

    def _before(self, node: Node) -> Path:
        """Return the path that led to a task, having worked out those on the way there."""
        unsettled = list(takewhile(lambda each: each.before is None, self.line(node)))
        for each in reversed(unsettled):
            each.before = self._led_to(each)
        return node.before or Path(NO_TIMES, node.begin, 0)

    def _before_it(self, node: Node) -> Node | None:
        """Return the task that a task came from; for the body of a chord that of its header which ended last.

        Before Celery 5.7 the parent of such a body is the task that published the chord, if there is one.
        """
        header = [each for each in self.nodes.values() if each.group == node.header] if node.header else []
        ended = [each for each in header if each.ended is not None and each is not node]
        return max(ended, key=lambda each: each.ended or 0.0) if ended else self.nodes.get(node.parent or "")

    def _led_to(self, node: Node) -> Path:
        begin = node.begin
        parent = self._before_it(node)
        if parent is None:
            start = min((each.begin for each in self.nodes.values()), default=begin) if node.parent else begin
            return Path(_only(_UNKNOWN, begin - start), begin, 0)
        if node.published is None and node.first is None and parent.ended is not None:
            begin = min(begin, parent.ended)  # nobody told of the publish
        return self.path(parent, begin) if parent.before is not None else Path(NO_TIMES, begin, 0)


def _either(one: float | None, other: float | None) -> float | None:
    return one if one is not None else other


def _added(*several: Times) -> Times:
    return tuple(map(sum, zip(*several, strict=True)))


def _only(stage: int, seconds: float) -> Times:
    return tuple(seconds if place == stage else 0.0 for place in range(len(STAGES)))
