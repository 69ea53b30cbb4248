"""Facts: what events mean once joined with what came before.

The tracker makes them, the declarations in ``metrics/`` say which of them they count. An attribute has the name of
the label it becomes. Times are Unix seconds, durations seconds; a duration that cannot be known is None.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Annotated, NamedTuple, TypeVar

import msgspec


class Outcome(enum.StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RETRIED = "retried"
    REVOKED = "revoked"
    """Revoked before it started."""
    EXPIRED = "expired"
    """Its ``expires`` had passed before it started."""
    TERMINATED = "terminated"
    """Revoked with ``terminate`` while it ran."""
    REJECTED = "rejected"
    """Rejected by the task, or put back on the queue after its child was lost."""
    IGNORED = "ignored"
    """Ended by ``Ignore``; or replaced by another task, if the worker is not instrumented: Celery sends no event."""
    REPLACED = "replaced"
    """Replaced by another task, says the worker's instrumentation."""
    CANCELLED = "cancelled"
    """Cancelled by the worker, which lost its connection or shut down; the broker delivers it again."""
    UNREGISTERED = "unregistered"
    """No such task in the worker."""
    VANISHED = "vanished"
    """Started and gone without a word: its worker died, its child exited silently, or its last event was lost."""


class Cause(enum.StrEnum):
    """What made an attempt fail."""

    EXCEPTION = "exception"
    SOFT_TIME_LIMIT = "soft_time_limit"
    HARD_TIME_LIMIT = "hard_time_limit"
    WORKER_LOST = "worker_lost"
    """The pool child exited by itself."""
    OOM_OR_SIGNAL = "oom_or_signal"
    """The pool child was killed by a signal: the kernel's out-of-memory killer, or an operator."""
    UNREGISTERED = "unregistered"
    ENCODE_ERROR = "encode_error"
    """The result could not be encoded."""
    RETRIES_EXHAUSTED = "retries_exhausted"


class Stage(enum.StrEnum):
    """What a task spends its time on, one after the other."""

    SCHEDULED = "scheduled"
    """Until its ETA: a countdown, or the pause before a retry."""
    QUEUE = "queue"
    """Until a worker received it."""
    RATE_LIMIT = "rate_limit"
    """In a worker, until the rate limit let it go on; only instrumented workers tell it from the next."""
    WORKER = "worker"
    """In a worker, until the pool had a slot for it."""
    RUN = "run"
    """Until its end, or the publish of the next task, if that is earlier."""
    UNKNOWN = "unknown"
    """Before a task whose parent is not known."""


class Ending(enum.StrEnum):
    """How a workflow ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """One of its tasks failed for good, or one of its chords."""
    REVOKED = "revoked"
    """One of its tasks was revoked or expired, and none failed."""
    ABANDONED = "abandoned"
    """Nothing was heard of it for so long that it was given up."""


class Exit(enum.StrEnum):
    """How a worker left."""

    SHUTDOWN = "shutdown"
    """It said goodbye."""
    LOST = "lost"
    """Its heartbeats stopped."""
    RESTARTED = "restarted"
    """A new process took its name before it said goodbye."""


class Departure(enum.StrEnum):
    """What became of the place of a worker that said goodbye."""

    REPLACED = "replaced"
    """It came back, or another took it."""
    SCALED_DOWN = "scaled_down"
    """Nobody took it, and others go on to consume its queues."""
    STOPPED = "stopped"
    """Nobody took it, and one of its queues has no consumer any more."""
    UNKNOWN = "unknown"
    """What it consumed, or who came, is not known."""


class Fact(msgspec.Struct, gc=False):
    """The root of all facts."""


F = TypeVar("F", bound=Fact)

Each = Mapping[str, Sequence[float | None]]
"""What facts that are alike differ in: by attribute, that of each."""


def alike(fact: F, times: int, each: Each) -> Iterator[F]:
    """Yield a fact so many times, differing in what is given."""
    if not each:
        return repeat(fact, times)
    return (
        msgspec.structs.replace(fact, **dict(zip(each, values, strict=True)))
        for values in zip(*each.values(), strict=True)
    )


class EventMalformed(Fact):
    """An event could not be read; ``reason`` is a ``Malformed``."""

    reason: str


class TaskFact(Fact):
    """The root of facts about one attempt."""

    task: str
    queue: str
    worker: str


class Published(TaskFact):
    """A message for a task was published."""


class Received(TaskFact):
    """A worker took a message for a task."""


class Started(TaskFact):
    """An attempt started, this long after its worker received it and after it was published, or after its ETA."""

    worker_wait: float | None
    queue_wait: float | None = None


class Waited(TaskFact):
    """The publish of an attempt became known after its start had been told."""

    queue_wait: float | None


class Ended(TaskFact):
    """An attempt ended, this long after it started; if its task ended with it, ``total`` after the first publish."""

    outcome: Outcome
    runtime: float | None
    total: float | None = None
    trace_id: str | None = None
    """The trace that tells of it, as 32 hexadecimal digits, if there is one."""


class Finished(TaskFact):
    """The first publish of a task became known after its final outcome had been told."""

    outcome: Outcome
    total: float | None


class Detail(msgspec.Struct, omit_defaults=True, gc=False):
    """What alerts tell of one failure; all texts are shortened, and secrets in them masked."""

    uuid: str
    retries: int = 0
    traceback: str | None = None
    """Its innermost frames."""
    text: str | None = None
    """Of the exception; None unless asked for, as it may quote arguments."""
    arguments: str | None = None
    """None unless asked for."""


class Failed(TaskFact):
    """An attempt failed; sent beside its ``Ended``. ``exception`` is the class name, never its text."""

    exception: str
    cause: Cause
    detail: Detail | None = None
    """None unless alerts want it."""
    trace_id: str | None = None
    """That of its ``Ended``."""


class Used(TaskFact):
    """What an attempt used: CPU seconds, and the bytes that its process had grown to at the most by its end."""

    cpu: float | None
    memory: int | None


class InState(TaskFact):
    """An attempt that has ended was in this state, which it gave itself, for ``seconds``."""

    state: str
    seconds: float


class Blocked(TaskFact):
    """An attempt that has ended asked for results of other tasks, and waited for them for ``seconds``."""

    seconds: float


class Labelled(TaskFact):
    """An attempt ended; told beside its ``Ended`` where users label tasks. A subclass has their labels."""

    outcome: Outcome
    runtime: float | None


class LabelOverflowed(Fact):
    """A value of a user's label was folded since the label has as many as it may have."""

    label: str


class Prioritised(Fact):
    """A worker took a message that has a priority."""

    queue: str
    priority: str


class PublishTimed(TaskFact):
    """Publishing a message took ``seconds``."""

    seconds: float


class PublishFailed(TaskFact):
    """A message could not be published because of ``exception``, the name of a class."""

    exception: str


class Redelivered(TaskFact):
    """A message was delivered again without having been published again."""


class DuplicateExecution(TaskFact):
    """An attempt was started once more, while it was executed or after."""


class DuplicateOutcome(Fact):
    """Celery announced the end of an attempt that had already ended."""

    task: str


class CustomEvent(TaskFact):
    """A task sent an event of its own with ``Task.send_event``."""

    type: str


class WorkerSeen(Fact):
    """A worker's heartbeat was read."""

    worker: str
    timestamp: float
    clock_skew: float
    processed: int | None
    active: int | None
    load1: float | None


class WorkerIdentified(Fact):
    """A worker, or a new process under its name, told its version or pool; empty while it has not."""

    worker: str
    version: str
    pool: str = ""


class WorkerUp(Fact):
    """A worker's state changed: 1 while its heartbeats are fresh, 0 from its goodbye or silence on."""

    worker: str
    up: int


class WorkerExited(Fact):
    """A worker left."""

    worker: str
    kind: Exit


class WorkerStopped(Fact):
    """A worker was told to stop: by a signal, such as ``sigterm``, by ``remote_control``, or by an ``error``."""

    worker: str
    reason: str


class WorkerDeparted(Fact):
    """It is known what became of the place of a worker that had said goodbye."""

    worker: str
    kind: Departure


class WorkerForgotten(Fact):
    """A worker has been away for so long that its series are dropped."""

    worker: str


class WorkerReported(Fact):
    """A worker told of its consumer and pool; None where the pool or transport has no such thing."""

    worker: str
    reserved: int
    scheduled: int | None
    prefetch: int | None
    slots: int | None
    connected: int
    """0 or 1."""
    restarts: int
    spawned: int
    memory: int | None = None
    children_memory: int | None = None


class TaskLimited(Fact):
    """A worker told of a rate limit: ``rate`` tasks a second may start, infinite once lifted; ``waiting`` wait."""

    worker: str
    task: str
    rate: float
    waiting: int


class ChildrenExited(Fact):
    """``count`` children of a worker's pool have gone for this reason since it started."""

    worker: str
    reason: str
    count: int


class MessageRefused(Fact):
    """A worker refused a message that is no task it can read."""

    worker: str


class ReportsLost(Fact):
    """A process could not tell of ``dropped`` things, and ``errors`` handlers of ours failed in it."""

    worker: str
    dropped: int
    errors: int


class Unobserved(Fact):
    """A worker accepted ``count`` tasks of whose start no event arrived."""

    worker: str
    count: int


class TaskEvicted(Fact):
    """The tracker let go of ``count`` tasks to stay within its bound."""

    count: int


class AlertFact(Fact):
    """The root of facts about alerts, on which there are none."""


class AlertRaised(AlertFact):
    """A rule found something to tell."""

    rule: str


class AlertsLimited(AlertFact):
    """``count`` alerts of a rule are told only as "and n more"."""

    rule: str
    count: int


class AlertsSent(AlertFact):
    """A message about alerts was delivered, ``latency`` seconds after the first of what it tells."""

    sink: str
    latency: float


class AlertsDropped(AlertFact):
    """A message about alerts will not be delivered; ``reason`` is a ``celery_observe.delivery.Dropped``."""

    sink: str
    reason: str


class FactsDropped(AlertFact):
    """``count`` facts that rules wanted were not looked at, since too many waited."""

    count: int


class PluginRan(Fact):
    """A plug-in was run: ``up`` and ``failed`` are 0 or 1; ``seconds`` is None where the time means nothing."""

    plugin: str
    up: int
    failed: int
    seconds: float | None


class Stall(enum.StrEnum):
    """Why the body of a chord does not come."""

    HEADER_FAILED = "header_failed"
    """A task of its header failed."""
    BODY_NOT_SENT = "body_not_sent"
    """Its header is complete, but its body was not published, or could not be."""
    RESULT_EXPIRED = "result_expired"
    """The result backend has forgotten what the header returned before it was complete."""
    UNLOCK_SPINNING = "unlock_spinning"
    """``celery.chord_unlock`` polls on though the header is complete, or gave up."""
    BACKEND = "backend"
    """The results could not be read or joined."""


_Id = Annotated[str, msgspec.Meta(max_length=255)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Chord(msgspec.Struct, omit_defaults=True, gc=False):
    """What a task of a header knows of its chord."""

    body: Annotated[list[_Id], msgspec.Meta(max_length=100)] = []
    """Ids of tasks with which the body begins."""
    expires: float | None = None
    """Seconds for which the result backend remembers what the header has returned."""


class Canvas(msgspec.Struct, omit_defaults=True, gc=False):
    """The place of a task in its workflow, as its message says."""

    root: _Id
    """Id of the task with which it all began; the task's own if that is it."""
    parent: _Id | None = None
    """Id of the task that published it."""
    root_task: Annotated[str, msgspec.Meta(max_length=512)] | None = None
    """Name of the task with which it all began, where the publisher knew."""
    group: _Id | None = None
    index: int | None = None
    """Its place in the group."""
    nesting: _Count = 0
    """How many tasks before it were replaced under its id."""
    chain: _Count = 0
    """Steps of its chain that are still to come."""
    callbacks: _Count = 0
    """Tasks that are linked to its success."""
    chord: Chord | None = None
    released: float | None = None
    """When the rate limit of its worker let it go on."""
    polls: _Id | None = None
    """The group for whose end it polls, if it is ``celery.chord_unlock``."""


class AttemptId(NamedTuple):
    """What tells an attempt from all others, for all who read the same events."""

    uuid: str
    retries: int = 0
    again: float | None = None
    """When its worker received it, if another attempt before it had the same id and number: Unix seconds."""


class Traced(TaskFact):
    """All that is known of an attempt, a moment after it ended; told only where traces are rebuilt from events."""

    attempt: AttemptId
    root: str
    outcome: Outcome
    published: float | None
    eta: float | None
    received: float | None
    started: float | None
    ended: float | None
    estimated: bool
    """Whether no event told the end, which is then the last that is known of the attempt or its worker."""
    runtime: float | None
    queue_wait: float | None
    worker_wait: float | None
    redelivered: bool
    first: bool
    """Whether the publish of its first attempt is known."""
    parent: AttemptId | None
    """The attempt that published the task."""
    previous: AttemptId | None
    """The attempt before, under the same id."""
    exception: str | None
    cause: Cause | None
    frames: str | None
    """Of the traceback, innermost last."""


class Replayed(enum.StrEnum):
    """What became of an attempt where traces are rebuilt from events."""

    EXPORTED = "exported"
    LIVE = "live"
    """Left alone, since its worker makes spans itself."""
    ROOT_UNKNOWN = "root_unknown"
    """The events that name the first task of its workflow were not seen, so its trace is not known."""
    SAMPLED_OUT = "sampled_out"
    """Its trace is not in the sample, and nothing in it failed or was slow."""
    HELD_FULL = "held_full"
    """It was let go of to stay within bounds, while something in its trace could still have failed."""
    QUEUE_FULL = "queue_full"
    """Too many waited to be exported."""
    REFUSED = "refused"
    """The receiver did not take its spans."""


class AttemptsReplayed(Fact):
    """It became known of ``count`` attempts what became of their spans."""

    outcome: Replayed
    count: int


class Step(TaskFact):
    """What is known of the latest attempt of a task that belongs to a workflow; told again whenever that changes."""

    uuid: str
    root: str
    parent: str | None
    turn: int = 0
    """Orders the attempts under one id, and the tasks that replace one another under it."""
    retries: int = 0
    published: float | None = None
    eta: float | None = None
    received: float | None = None
    released: float | None = None
    """When its rate limit let it go on."""
    started: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None
    open: bool = True
    """Whether the task goes on: it has not ended, or is to be delivered or attempted again."""
    canvas: Canvas | None = None
    """What only instrumented processes tell."""


class ChordBroken(Fact):
    """A worker found that a chord cannot be completed; ``root``, ``group`` and ``body`` are ids, as far as known."""

    reason: str
    root: str | None
    group: str | None
    body: list[str]


class Polled(Fact):
    """``celery.chord_unlock``, a task of this id, has asked ``retries`` times whether a chord is complete."""

    uuid: str
    root: str
    group: str | None
    retries: int


class WorkflowBegan(Fact):
    """A workflow whose first task is ``root`` became known."""

    root: str


class WorkflowEnded(Fact):
    """A workflow ended: the seconds from its first publish to its last end, and its numbers of tasks."""

    root: str
    outcome: Ending
    duration: float | None
    tasks: int
    path: int | None
    """Tasks one after the other on its critical path."""


class WorkflowSpent(Fact):
    """The critical path of a workflow that ended went through this stage for ``seconds``."""

    root: str
    stage: Stage
    seconds: float


class WorkflowRetried(Fact):
    """Tasks of a workflow were retried ``count`` times."""

    root: str
    count: int


class WorkflowReopened(Fact):
    """A workflow went on that had been told to have ended."""


class WorkflowEvicted(Fact):
    """A workflow that had not ended was let go of to stay within bounds."""


class ChordFailed(Fact):
    """A chord failed: its body will not be executed."""

    root: str
    reason: str


class Mapped(TaskFact):
    """A task was executed in place for each of so many ``items``, by ``celery.map`` or ``celery.starmap``."""

    items: int
