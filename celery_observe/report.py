"""What instrumented processes tell of themselves: one report per datagram, as MessagePack.

A report needs no joining: whoever executed a task tells all there is to tell of it at once. What a newer version adds,
an older one skips. Times are Unix seconds, durations seconds. Arguments, results and the texts of exceptions are no
fields, so that they cannot leak; but for what alerts may quote of a failure.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Annotated

import msgspec

from celery_observe.event import Malformed, reason_of
from celery_observe.fact import Canvas, Cause, Detail, Outcome, Stall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_ARRIVALS = 50_000
"""Messages of a kind that are told of together: more than a worker takes in a second, until it tells."""

_Name = Annotated[str, msgspec.Meta(max_length=512)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Few = Annotated[int, msgspec.Meta(ge=0, le=MOST_ARRIVALS)]
_Priority = Annotated[int, msgspec.Meta(ge=0, le=255)]
_Time = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
_Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]

MAX_BYTES = 256 * 1024
"""A datagram above this many bytes is cut."""
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Bytes of reports that may wait to be read; the kernel grants no more than ``net.core.wmem_max`` twice."""
LISTED_AT_ONCE = 200
"""Running tasks, or kinds of messages, that one report names."""


class Report(msgspec.Struct, tag_field="type", omit_defaults=True, gc=False, array_like=True):
    """The root of all reports: when it was made, and by which worker (or other node).

    Fields travel by their places, so that many reports fit the socket: new ones go to the end, and none is taken away.
    """

    timestamp: _Time
    hostname: _Name


class Arrival(msgspec.Struct, omit_defaults=True, gc=False):
    """A worker took so many messages that have this in common."""

    name: _Name
    queue: _Name | None = None
    priority: _Priority | None = None
    redelivered: bool = False
    count: _Few = 1


class Reception(Report, tag="received"):
    """What a worker has taken from the broker since it last told."""

    arrivals: Annotated[list[Arrival], msgspec.Meta(max_length=LISTED_AT_ONCE)]


class Placement(Report, tag="placed"):
    """A worker took a task that belongs to a workflow."""

    uuid: _Id
    name: _Name
    canvas: Canvas
    queue: _Name | None = None
    retries: _Count = 0
    published: _Time | None = None
    eta: _Name | None = None


class Success(Report, tag="succeeded"):
    """An attempt of a task succeeded, and nothing but its times is to be told: of most. The fields of `Execution`."""

    uuid: _Id
    name: _Name
    queue: _Name | None
    started: _Time
    runtime: _Time
    published: _Time | None
    received: _Time | None


class Execution(Report, tag="executed"):
    """An attempt of a task ended, at ``timestamp``; ``started`` is None if it was never executed."""

    uuid: _Id
    name: _Name
    outcome: Outcome
    queue: _Name | None = None
    retries: _Count = 0
    started: _Time | None = None
    runtime: _Time | None = None
    published: _Time | None = None
    first_published: _Time | None = None
    """That of the first attempt; of retries only."""
    received: _Time | None = None
    eta: _Name | None = None
    requeued: bool = False
    """The message went back to the queue."""
    exception: _Name | None = None
    """The name of its class."""
    cause: Cause | None = None
    cpu: _Time | None = None
    memory: _Count | None = None
    """Bytes: the largest that the process had grown to by the end."""
    states: dict[_Name, _Time] | None = None
    """Seconds by state, of those that it gave itself."""
    blocked: _Time | None = None
    """Seconds for which it waited for results of other tasks; None if it asked for none."""
    labels: dict[_Name, _Name] | None = None
    """What the user's callable says of it."""
    entry: _Name | None = None
    """The entry of beat's schedule that it was sent for; of successes only."""
    detail: Detail | None = None
    """What alerts tell of its failure, where they are wanted."""
    canvas: Canvas | None = None
    """Its place in a workflow, if it belongs to one."""
    mapped: _Name | None = None
    """The task that it executed in place for each of so many ``items``."""
    items: _Count = 0
    trace_id: _Name | None = None
    """The trace that has its span, as 32 hexadecimal digits, if that is recorded."""


def whole(report: Success | Execution) -> Execution:
    """Return an end as the `Execution` that it is."""
    if isinstance(report, Execution):
        return report
    return Execution(
        report.timestamp,
        report.hostname,
        report.uuid,
        report.name,
        Outcome.SUCCEEDED,
        report.queue,
        started=report.started,
        runtime=report.runtime,
        published=report.published,
        received=report.received,
    )


class Running(msgspec.Struct, omit_defaults=True, gc=False):
    """One attempt that executes."""

    uuid: _Id
    name: _Name
    started: _Time
    queue: _Name | None = None
    retries: _Count = 0
    published: _Time | None = None
    received: _Time | None = None
    eta: _Name | None = None
    canvas: Canvas | None = None


class Listing(Report, tag="running"):
    """Some of the attempts that a worker executes; the worker's next beat says how many were listed in all."""

    running: list[Running]


class Progress(Report, tag="progress"):
    """An attempt that executes tells how far it is: what it has told before is contained."""

    attempt: Running
    states: dict[_Name, _Time] | None = None
    """As in `Execution`, but for the time in the present state."""
    state: _Name | None = None
    since: _Time | None = None
    """When it entered its present state."""
    ratio: _Ratio | None = None
    """How much of it is done."""
    blocked: _Time | None = None
    """As in `Execution`, but for the present wait."""
    waiting: _Time | None = None
    """Since when it waits for a result."""


class Labelling(Report, tag="labelled"):
    """The user's callable has labelled an attempt that begins, in ``seconds``, or has ``failed``."""

    attempt: Running
    seconds: _Time
    labels: dict[_Name, _Name] | None = None
    failed: bool = False


class Limit(msgspec.Struct, gc=False):
    """A task with a rate limit: how many a second may start, and how many wait for that in the worker."""

    name: _Name
    rate: float
    waiting: _Count


class Beat(Report, tag="beat"):
    """What a worker says of itself each second, from its start to its end (``leaving``)."""

    pid: int
    active: _Count
    processed: _Count
    listed: _Count = 0
    """How many running attempts were listed just before."""
    leaving: bool = False
    stopped_by: _Name = ""
    """What has told it to stop; empty while nothing has."""
    loadavg: list[float] = []
    version: _Name = ""
    queues: list[_Name] = []
    reserved: _Count = 0
    scheduled: _Count | None = None
    prefetch: _Count | None = None
    slots: _Count | None = None
    connected: bool = False
    troubles: list[_Name] = []
    """Why the worker takes no tasks."""
    ailments: list[_Name] = []
    """Why the worker should be restarted."""
    restarts: _Count = 0
    """Times that the consumer has started anew because its connection was lost."""
    limits: list[Limit] = []
    spawned: _Count = 0
    exits: dict[str, int] = {}
    """Children gone since the start, by reason."""
    memory: _Count | None = None
    """Bytes that the main process is resident with; None where that is not told."""
    children_memory: _Count | None = None
    """Those of the children of the pool together; None without any."""


class Publication(Report, tag="published"):
    """A message for a task was published, in ``seconds``, or could not be, because of ``exception``."""

    name: _Name
    queue: _Name | None = None
    seconds: _Time | None = None
    exception: _Name | None = None
    uuid: _Id | None = None
    """With ``retries``, ``eta`` and ``canvas``, if it belongs to a workflow."""
    retries: _Count = 0
    eta: _Name | None = None
    canvas: Canvas | None = None


class ChordFailure(Report, tag="chord_failed"):
    """A worker found that the body of a chord cannot be executed; ``root``, ``group`` and ``body`` are ids."""

    reason: Stall
    root: _Id | None = None
    group: _Id | None = None
    body: Annotated[list[_Id], msgspec.Meta(max_length=100)] = []


class Clock(Report, tag="clock"):
    """What a beat says of itself each second, from its start to its end (``leaving``)."""

    instance: _Id
    """Made up by each process: two of one host, or in containers of one pod, may share all else."""
    max_interval: _Time
    """Seconds that it sleeps at the most between two looks at its schedule."""
    ticked: _Time | None = None
    """When it last looked; None if it has not, such as one that waits for its lock."""
    entries: _Count | None = None
    leaving: bool = False


class Entries(Report, tag="entries"):
    """Some of the entries in the schedule of a beat."""

    names: list[_Name]


class Due(Report, tag="due"):
    """Beat found the entry of this name due, and is about to publish its task."""

    name: _Name


class Sent(Report, tag="sent"):
    """Beat published the task of an entry, ``lateness`` seconds after it was due, or ``failed`` to."""

    name: _Name
    lateness: _Time | None = None
    failed: bool = False


class Refusal(Report, tag="refused"):
    """A worker refused a message that is no task it can read."""


class Loss(Report, tag="lost"):
    """What a process could not tell: reports that were dropped, and handlers of ours that failed."""

    dropped: _Count = 0
    errors: _Count = 0


AnyReport = (
    Reception
    | Placement
    | Success
    | Execution
    | Progress
    | Labelling
    | Listing
    | Beat
    | Publication
    | ChordFailure
    | Clock
    | Entries
    | Due
    | Sent
    | Refusal
    | Loss
)

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[AnyReport]).decode
_decode_all = msgspec.msgpack.Decoder(list[list[AnyReport]]).decode
_ARRAY_32 = b"\xdd"
"""Begins an array whose length follows in four bytes (MessagePack specification, "array format family")."""


def decode_all(bodies: list[bytes], on_malformed: Callable[[Malformed], None]) -> Iterator[AnyReport]:
    """Yield the reports of datagrams, those of one that cannot be read excepted.

    All are read at once, which costs less, unless one of them is malformed.
    """
    try:
        return chain.from_iterable(_decode_all(_ARRAY_32 + len(bodies).to_bytes(4, "big") + b"".join(bodies)))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return chain.from_iterable(decode(body, on_malformed) for body in bodies)


def decode(body: bytes, on_malformed: Callable[[Malformed], None]) -> list[AnyReport]:
    """Return the reports of one datagram; none, and the reason to ``on_malformed``, if it cannot be read."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reason = reason_of(error)
        on_malformed(Malformed.NOT_MESSAGEPACK if reason is Malformed.NOT_JSON else reason)
        return []
