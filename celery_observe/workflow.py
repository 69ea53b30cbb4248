"""Step → workflow facts: what belongs together by root, group and chord, how long it took, and where it waited.

A workflow is two or more tasks with one root. Where instrumented processes tell of groups, a group that no task
published is one, too, with all that came of its tasks. It has ended when none of its tasks is open, nothing more is
due of it, and nothing was heard of it for ``quiet`` seconds of the events' own time: no message says that nothing will
follow (decision 14).

Pure: the clock is an argument. Bounded: ``max_tasks`` tasks of workflows are kept, those of workflows that have ended
go first; of a large workflow those that have ended go early.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from celery_observe.attempt import between_hosts
from celery_observe.cause import UNKNOWN
from celery_observe.chords import Chords, Group, Poll
from celery_observe.fact import (
    Canvas,
    ChordBroken,
    ChordFailed,
    Ending,
    Fact,
    Outcome,
    Polled,
    Stall,
    Step,
    WorkflowBegan,
    WorkflowEnded,
    WorkflowEvicted,
    WorkflowReopened,
    WorkflowRetried,
    WorkflowSpent,
)
from celery_observe.lineage import STAGES, Lineage, Node
from celery_observe.tree import Tree, Twig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_OF_ONE = 2_000
"""Tasks of one workflow that are kept before those that have ended are let go of, and that are shown."""
REMEMBERED = 1_000
"""Workflows that have ended and are kept to be shown."""
MOST_AT_ONCE = 2.0
"""Seconds of the events' time that count between two ticks, as many as between heartbeats: more is a gap in them."""
_LEAST = 2
"""Tasks of a workflow: one alone is a task."""

_FAILURES = frozenset({Outcome.FAILED, Outcome.UNREGISTERED, Outcome.REJECTED, Outcome.VANISHED})
_REVOCATIONS = frozenset({Outcome.REVOKED, Outcome.EXPIRED, Outcome.TERMINATED})


class Workflow:
    """What is known of one workflow."""

    def __init__(self, name: str) -> None:
        self.name = name
        """Id of its first task, or of the group with which it begins."""
        self.names = {name}
        """All ids by which its tasks may name it."""
        self.root = UNKNOWN
        """What its first task is called in labels."""
        self.index: int | None = None
        """The place in their group of the task that ``root`` is called by; None if that is the first task."""
        self.lineage = Lineage()
        self.groups: set[str] = set()
        self.tasks = 0
        self.open = 0
        self.failed = 0
        self.revoked = 0
        self.due = 0
        """Tasks that must still come, as the messages of those before say."""
        self.broken = False
        """Whether one of its chords is."""
        self.planned = False
        """Whether its messages say that it is a chain, a group or a chord, however few of its tasks were published."""
        self.orphans: Counter[str] = Counter()
        """How many tasks are known of parents that are not."""
        self.last: Node | None = None
        """The task that ended last."""
        self.changed = 0.0
        """When it was last heard of, by the events' clock."""
        self.told = False
        """Whether its end was told."""

    @property
    def is_one(self) -> bool:
        """Whether it is more than a task of its own."""
        return self.tasks >= _LEAST or self.planned

    @property
    def ending(self) -> Ending:
        """How it has ended, if it has."""
        if self.failed or self.broken:
            return Ending.FAILED
        return Ending.REVOKED if self.revoked else Ending.SUCCEEDED

    def weigh(self, node: Node, sign: int) -> None:
        """Count a task as it is, or (-1) as it was."""
        self.open += sign * node.open
        self.due += sign * node.due
        if not node.open:
            self.failed += sign * (node.outcome in _FAILURES)
            self.revoked += sign * (node.outcome in _REVOCATIONS)

    def count(self, step: Step) -> None:
        """Count a task that has ended and is not kept."""
        self.tasks += 1
        self.failed += step.outcome in _FAILURES
        self.revoked += step.outcome in _REVOCATIONS

    def count_child(self, parent: str) -> None:
        """Count a task for the one that published it, which may become known later."""
        node = self.lineage.nodes.get(parent)
        if node is not None:
            self.due -= node.due
            node.children += 1
            self.due += node.due
        elif parent in self.orphans or len(self.orphans) < MOST_OF_ONE:
            self.orphans[parent] += 1

    def see_end(self, node: Node) -> None:
        """Remember which task ended last."""
        last = self.last.ended if self.last is not None else None
        if not node.open and node.ended is not None and (last is None or node.ended >= last):
            self.last = node

    def absorb(self, other: Workflow) -> None:
        """Take over the tasks of another workflow, which has turned out to be the same."""
        self.lineage.nodes |= other.lineage.nodes
        self.groups |= other.groups
        self.tasks += other.tasks
        self.open += other.open
        self.failed += other.failed
        self.revoked += other.revoked
        self.due += other.due
        self.orphans += other.orphans
        self.broken |= other.broken
        self.planned |= other.planned
        if other.last is not None:
            self.see_end(other.last)

    def compact(self) -> list[str]:
        """Let go of up to half of the tasks, of those that ended first; return their ids. The first task stays."""
        self.lineage.settle()
        nodes = self.lineage.nodes
        ended = (node.uuid for node in self.lineage.ended() if node is not self.last and node.uuid != self.name)
        gone = list(islice(ended, len(nodes) // 2))
        for uuid in gone:
            del nodes[uuid]
        return gone


class Workflows:
    """Takes steps in and hands workflow facts to ``emit``.

    ``quiet`` and ``timeout`` are seconds: after the first a workflow of which nothing is open has ended, after the
    second one of which nothing is heard is given up.
    """

    def __init__(
        self, emit: Callable[[Fact], None], *, quiet: float = 10.0, timeout: float = 86_400.0, max_tasks: int = 40_000
    ) -> None:
        self._emit = emit
        self._quiet = quiet
        self._timeout = timeout
        self._max_tasks = max_tasks
        self._clock = 0.0
        """Seconds of the events' own time in which they were read."""
        self._read: float | None = None
        self._size = 0
        self._named: dict[str, Workflow] = {}
        self._active: dict[str, Workflow] = {}
        self._settling: dict[str, Workflow] = {}
        self._ended: dict[str, Workflow] = {}
        self._chords = Chords()

    def __len__(self) -> int:
        """Return how many tasks are kept."""
        return self._size

    def __contains__(self, uuid: object) -> bool:
        """Say whether a task with this id is the first of a workflow that is known, or polls for one."""
        return uuid in self._named or uuid in self._chords.polls

    # -- what comes in

    def follow(self, step: Step) -> None:
        """Take in what became known of a task."""
        if step.uuid in self._chords.polls:
            if not step.open:
                del self._chords.polls[step.uuid]
            if step.root == step.uuid:
                return
        workflow = self._find(step) or self._begin(step)
        tasks, parent = workflow.tasks, step.parent
        node = workflow.lineage.nodes.get(step.uuid)
        if node is not None and node.is_replaced_by(step):
            self._weigh(workflow, node, -1)
            parent = workflow.lineage.replace(node, step)
            self._weigh(workflow, node, 1)
            node = None
        if node is not None:
            self._weigh(workflow, node, -1)
            self._learn(workflow, node, step)
        elif self._make_room(workflow):
            self._learn(workflow, self._join(workflow, step, parent), step)
        elif not step.open:
            workflow.count(step)
        self._touch(workflow, goes_on=workflow.open > 0 or workflow.tasks > tasks)

    def _learn(self, workflow: Workflow, node: Node, step: Step) -> None:
        retries = node.retries
        if step.turn >= node.turn:
            node.learn(step)
        if step.canvas is not None:
            self._place(workflow, node, step.canvas)
        self._weigh(workflow, node, 1)
        if node.retries > retries and step.uuid not in self._chords.polls:
            self._emit(WorkflowRetried(workflow.root, node.retries - retries))
        workflow.see_end(node)
        self._name(workflow, step)

    def poll(self, fact: Polled) -> None:
        """Take in that ``celery.chord_unlock`` has asked in vain."""
        self._chords.poll(fact, self._clock)

    def breaks(self, fact: ChordBroken) -> None:
        """Take in that a chord cannot be completed; it may be told more than once."""
        if not self._chords.breaks(fact):
            return
        workflow = self._named.get(fact.root or "") or self._named.get(fact.group or "")
        self._emit(ChordFailed(workflow.root if workflow is not None else UNKNOWN, fact.reason))
        if workflow is not None:
            workflow.broken = True
            self._touch(workflow, goes_on=False)

    def tick(self, clock: float) -> None:
        """Tell which workflows have ended by a time of the events' clock, in Unix seconds.

        Time in which no events were read does not count: they may have told of more.
        """
        read = self._read if self._read is not None else clock
        self._clock += min(max(0.0, clock - read), MOST_AT_ONCE)
        self._read = max(read, clock)
        for workflow in self._due(self._settling, self._quiet):
            self._end(workflow, workflow.ending)
        for workflow in self._due(self._active, self._timeout):
            self._end(workflow, Ending.ABANDONED)
        self._chords.tick(self._clock, self._timeout)

    def _due(self, waiting: dict[str, Workflow], seconds: float) -> list[Workflow]:
        """Return those that have not changed for so long; they are in the order of their last change."""
        return list(takewhile(lambda each: self._clock - each.changed >= seconds, waiting.values()))

    # -- which workflow a task belongs to

    def _find(self, step: Step) -> Workflow | None:
        """Return the workflow of a task; a group may show that two are one."""
        workflow = self._named.get(step.root)
        group = step.canvas.group if step.canvas is not None else None
        other = self._named.get(group) if group is not None else None
        if workflow is None or other is None or other is workflow:
            return workflow or other
        return self._merge(workflow, other)

    def _begin(self, step: Step) -> Workflow:
        group = step.canvas.group if step.canvas is not None else None
        workflow = Workflow(group if group is not None and step.root == step.uuid else step.root)
        self._named[workflow.name] = self._active[workflow.name] = workflow
        return workflow

    def _merge(self, one: Workflow, other: Workflow) -> Workflow:
        """Make one workflow of two: that which is not over, or has more tasks."""
        if (one.told, -one.tasks) > (other.told, -other.tasks):
            one, other = other, one
        one.absorb(other)
        for waiting in (self._active, self._settling, self._ended):
            waiting.pop(other.name, None)
        for name in other.names:
            self._alias(one, name)
        return one

    def _alias(self, workflow: Workflow, name: str) -> None:
        if self._named.get(name) is not workflow:
            self._named[name] = workflow
            workflow.names.add(name)

    def _make_room(self, workflow: Workflow) -> bool:
        """Make room for one more task of a workflow, and say whether there is any."""
        kept = len(workflow.lineage.nodes)
        if kept >= MOST_OF_ONE and kept - workflow.open >= kept // 4:
            self._compact(workflow)
        while self._size >= self._max_tasks and self._evict(workflow):
            pass
        return self._size < self._max_tasks

    def _compact(self, workflow: Workflow) -> None:
        for uuid in workflow.compact():
            self._size -= 1
            workflow.names.discard(uuid)
            self._named.pop(uuid, None)

    def _join(self, workflow: Workflow, step: Step, parent: str | None) -> Node:
        """Keep a task that was not known."""
        node = Node(step.uuid, parent, step.task, step.queue, turn=step.turn, retries=step.retries)
        workflow.lineage.nodes[step.uuid] = node
        workflow.tasks += 1
        self._size += 1
        if step.root == step.uuid:
            self._alias(workflow, step.uuid)
        node.children = workflow.orphans.pop(step.uuid, 0)
        if parent is not None:
            workflow.count_child(parent)
        self._chords.begin(node)
        return node

    def _place(self, workflow: Workflow, node: Node, canvas: Canvas) -> None:
        """Note what only the message of a task says: its group, and what is to follow."""
        workflow.planned = workflow.planned or canvas.group is not None or node.owed > 0
        if canvas.group is not None:
            node.group, node.index = canvas.group, canvas.index
            workflow.groups.add(canvas.group)
            self._alias(workflow, canvas.group)
            self._chords.learn(canvas.group, canvas.chord, workflow.lineage.nodes)

    def _weigh(self, workflow: Workflow, node: Node, sign: int) -> None:
        workflow.weigh(node, sign)
        group = self._chords.groups.get(node.group or "")
        if group is not None:
            group.weigh(node, sign, failed=not node.open and node.outcome in _FAILURES | _REVOCATIONS)
            group.changed = self._clock

    def _name(self, workflow: Workflow, step: Step) -> None:
        """Learn what the first task is called, or else the first of the group that nobody published."""
        canvas, before = step.canvas, workflow.root
        if step.uuid == workflow.name and before == UNKNOWN:
            workflow.root = step.task
        elif canvas is not None and canvas.group == workflow.name and step.root == step.uuid:
            if workflow.index is None or (canvas.index or 0) <= workflow.index:
                workflow.root, workflow.index = step.task, canvas.index or 0
        elif canvas is not None and canvas.root_task is not None and before == UNKNOWN:
            workflow.root = canvas.root_task
        if before == UNKNOWN != workflow.root:
            self._emit(WorkflowBegan(workflow.root))

    # -- which have ended

    def _touch(self, workflow: Workflow, *, goes_on: bool) -> None:
        """Note that a workflow was heard of, and whether it may be over with that."""
        name = workflow.name
        workflow.changed = self._clock
        self._settling.pop(name, None)
        if name in self._ended:
            if not goes_on:
                return
            del self._ended[name]
            self._emit(WorkflowReopened())
        self._active.pop(name, None)
        self._active[name] = workflow
        if not workflow.open and not workflow.due and not self._awaits_chord(workflow):
            self._settling[name] = workflow

    def _awaits_chord(self, workflow: Workflow) -> bool:
        groups = self._chords.groups
        return any(groups[name].is_waiting for name in workflow.groups if name in groups)

    def _end(self, workflow: Workflow, ending: Ending) -> None:
        """Tell the end of a workflow, once, and keep it to be shown."""
        self._active.pop(workflow.name, None)
        self._settling.pop(workflow.name, None)
        if not workflow.told and workflow.is_one:
            self._tell(workflow, ending)
        workflow.told = True
        self._chords.forget(workflow.groups)
        self._ended[workflow.name] = workflow
        while len(self._ended) > REMEMBERED:
            self._drop(self._ended.pop(next(iter(self._ended))))

    def _tell(self, workflow: Workflow, ending: Ending) -> None:
        """Tell how a workflow ended and, if its beginning is known, how long it took and what that time went to."""
        last, root = workflow.last, workflow.root
        duration, length = None, None
        if last is not None and last.ended is not None and root != UNKNOWN and ending is not Ending.ABANDONED:
            path = workflow.lineage.path(last, last.ended)
            start = path.mark - sum(path.times)
            duration, length = between_hosts(start, path.mark), path.length
            if duration is not None:
                for stage, seconds in zip(STAGES, path.times, strict=True):
                    if seconds:
                        self._emit(WorkflowSpent(root, stage, seconds))
        self._emit(WorkflowEnded(root, ending, duration, workflow.tasks, length))

    def _evict(self, spared: Workflow) -> bool:
        """Let go of the workflow that ended first, else of the one quiet for longest; not of the one that is spared."""
        for waiting in (self._ended, self._active):
            for name in islice(waiting, 2):
                workflow = waiting[name]
                if workflow is not spared:
                    del waiting[name]
                    self._settling.pop(name, None)
                    if not workflow.told:
                        self._emit(WorkflowEvicted())
                    self._chords.forget(workflow.groups)
                    self._drop(workflow)
                    return True
        return False

    def _drop(self, workflow: Workflow) -> None:
        self._size -= len(workflow.lineage.nodes)
        for name in workflow.names:
            if self._named.get(name) is workflow:
                del self._named[name]

    # -- what is asked

    def active(self) -> Counter[str]:
        """Return how many workflows have not ended, by the name of their first task."""
        return Counter(each.root for each in self._active.values() if each.is_one)

    def open_tasks(self) -> Counter[str]:
        """Return how many tasks of these are known and have not ended."""
        found: Counter[str] = Counter()
        for each in self._active.values():
            found[each.root] += each.open
        return found

    def groups(self) -> tuple[Counter[str], Counter[str]]:
        """Return how many tasks are known of groups that are not finished, and how many of these have ended."""
        members: Counter[str] = Counter()
        finished: Counter[str] = Counter()
        for _name, root, group in self._groups():
            if group.finished < group.members:
                members[root] += group.members
                finished[root] += group.finished
        return members, finished

    def chords(self) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        """Return how many chords wait for their header, and how many will wait for ever by reason."""
        waiting: Counter[str] = Counter()
        stalled: Counter[tuple[str, str]] = Counter()
        polled = self._chords.polled()
        for name, root, group in self._groups():
            reason = group.stalled(self._clock, self._quiet, polled=name in polled)
            if reason is not None:
                stalled[root, reason] += 1
            elif group.is_waiting:
                waiting[root] += 1
        for poll in self._chords.polls.values():
            if poll.group not in polled:
                root, spinning = self._judge(poll)
                waiting[root] += not spinning
                stalled[root, Stall.UNLOCK_SPINNING] += spinning
        return waiting, stalled

    def _judge(self, poll: Poll) -> tuple[str, bool]:
        """Return whose chord is polled for, and whether in vain."""
        workflow = self._named.get(poll.root)
        others = max(0, workflow.open - 1) if workflow is not None else None
        return workflow.root if workflow is not None else UNKNOWN, poll.is_spinning(self._clock, self._quiet, others)

    def _groups(self) -> Iterator[tuple[str, str, Group]]:
        groups = self._chords.groups
        for workflow in self._active.values():
            for name in workflow.groups:
                group = groups.get(name)
                if group is not None:
                    yield name, workflow.root, group

    def tree(self, name: str) -> Tree | None:
        """Return a workflow as it is shown, by the id of its first task or of a group; None if it is not kept.

        Another thread may ask: it looks at a copy of what is kept.
        """
        workflow = self._named.get(name)
        if workflow is None:
            return None
        lineage = Lineage(workflow.lineage.nodes.copy())
        critical = {node.uuid for node in lineage.line(workflow.last)}
        ended = workflow.name in self._ended
        return Tree(
            root_id=workflow.name,
            root=workflow.root,
            state=workflow.ending if ended else "active",
            tasks=workflow.tasks,
            open=workflow.open,
            twigs=[_twig(node, critical=node.uuid in critical) for node in islice(lineage.nodes.values(), MOST_OF_ONE)],
            left_out=max(0, workflow.tasks - min(len(lineage.nodes), MOST_OF_ONE)),
        )


def _twig(node: Node, *, critical: bool) -> Twig:
    reached = "started" if node.started is not None else "received" if node.received is not None else "published"
    return Twig(
        uuid=node.uuid,
        task=node.task,
        state=node.outcome or reached,
        parent=node.parent,
        queue=node.queue,
        worker=node.worker,
        retries=node.retries,
        published=node.published,
        received=node.received,
        started=node.started,
        ended=node.ended,
        group=node.group,
        critical=critical,
    )
