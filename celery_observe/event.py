"""Wire → Event: the JSON bodies of Celery's event stream as typed values.

This is the only file that knows Celery's field names. Fields are those of ``celery/events/dispatcher.py``,
``celery/worker/request.py``, ``celery/worker/heartbeat.py`` and ``celery/app/amqp.py``; what we have no use for
(arguments, results, origins) is skipped by the decoder and never becomes a Python object.

``timestamp`` is taken as it is sent: it is ``time.time()``, which is UTC whatever the time zone of the sender.
"""

from __future__ import annotations

import enum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_BODY_BYTES = 16 * 1024 * 1024
"""A body above this many bytes is not decoded."""

LIVE = "live"
"""What a worker that makes spans of its tasks says of itself."""

_Short = Annotated[str, msgspec.Meta(max_length=512)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Seconds = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]


class Malformed(enum.StrEnum):
    """Why a message, or one event of a batch, could not be read."""

    ENVELOPE = "envelope"
    """The transport's wrapper around the body is broken."""
    REFUSED_CONTENT = "refused_content"
    """The body has a content type that is not accepted, such as pickle."""
    TOO_LARGE = "too_large"
    """The body, or a name in it, is longer than any real event."""
    TOO_DEEP = "too_deep"
    """The body nests deeper than the decoder follows."""
    NOT_UTF8 = "not_utf8"
    """The body is not UTF-8."""
    NOT_JSON = "not_json"
    """The body is not JSON, or is cut short."""
    NOT_MESSAGEPACK = "not_messagepack"
    """A report of an instrumented process is not MessagePack, or is cut short."""
    MISSING_FIELD = "missing_field"
    """An event lacks its type, its time, or the task id that its type calls for."""
    WRONG_TYPE = "wrong_type"
    """A field has a type or a value that Celery never sends."""


class Event(msgspec.Struct, gc=False, kw_only=True):
    """One thing Celery said. Times are Unix seconds; fields that a type does not carry are None.

    The decoder looks for the field after the last one first: they are in the order in which Celery writes them.
    """

    hostname: _Short = ""
    pid: int | None = None
    uuid: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    root_id: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    parent_id: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    name: _Short | None = None
    retries: _Count | None = None
    eta: _Short | None = None
    queue: _Short | None = None
    runtime: _Seconds | None = None
    timestamp: _Seconds
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    exception: str | None = None
    traceback: str | None = None
    terminated: bool | None = None
    expired: bool | None = None
    requeue: bool | None = None
    freq: _Seconds | None = None
    active: _Count | None = None
    processed: _Count | None = None
    loadavg: list[float] | None = None
    sw_ver: _Short | None = None
    celery_observe_tracing: _Short | None = None
    """In the heartbeats of instrumented workers: LIVE if they make spans themselves."""


class Overheard(msgspec.Struct, gc=False, kw_only=True):
    """What every shard takes in of an event that is not its own, or of one whose other fields cannot be read.

    The constraints are those of `Event`: what is an event meets these, too. ``type`` is None, which no event has.
    """

    hostname: _Short = ""
    pid: int | None = None
    uuid: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    root_id: Annotated[str, msgspec.Meta(max_length=255)] | None = None
    timestamp: _Seconds
    said: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = msgspec.field(name="type")
    processed: _Count | None = None

    type: ClassVar[None] = None


FLEET_EVENTS = frozenset({"worker-online", "worker-heartbeat", "worker-offline"})
"""What workers say of themselves."""
NAMING_EVENTS = frozenset({"task-sent", "task-received"})
"""Those that name a task and its workflow; the others have its id only."""


class RunningTask(msgspec.Struct, frozen=True):
    """A task that a worker says it executes or holds. ``started`` is in Unix seconds, None while it waits."""

    uuid: str
    name: str
    queue: str | None
    started: float | None


class Snapshot(msgspec.Struct, frozen=True):
    """What one worker said of itself over remote control.

    ``asked`` is the Unix time at which the question left: a task that started later may be missing. ``active`` is None
    when that was not the question. ``queues`` are the names of the queues it consumes; None when it did not say.
    ``pool`` is empty then.
    """

    worker: str
    asked: float
    active: tuple[RunningTask, ...] | None
    reserved: tuple[RunningTask, ...]
    queues: tuple[str, ...] | None
    pool: str = ""


_body_decoder = msgspec.json.Decoder(Event | list[Event])
_event_decoder = msgspec.json.Decoder(Event)
_heard_decoder = msgspec.json.Decoder(Overheard)
_sifting_decoder = msgspec.json.Decoder(Overheard | list[Overheard])
_events_decoder = msgspec.json.Decoder(list[Event])
_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])


_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Share(Protocol):
    """Which events are decoded in full, where that is not all."""

    def wants(self, heard: Overheard) -> bool:
        """Say whether the rest of an event is needed; asked in the order of the events."""

    def reports(self, heard: Overheard | None) -> bool:
        """Say whether to report an event that cannot be decoded; None if it has not even the fields of `Overheard`."""


class Decoder:
    """Decodes bodies, and reports what cannot be decoded through ``on_malformed``.

    A body is one event or a list of them (``task.multi`` batches). The good events of a batch survive the bad. With a
    ``share`` an event is decoded in full only if that wants it.
    """

    def __init__(self, on_malformed: Callable[[Malformed], None], share: Share | None = None) -> None:
        self._on_malformed = on_malformed
        self._share = share

    def decode(self, bodies: Iterable[bytes]) -> list[Event | Overheard]:
        """Return the events of JSON bodies, in their order; never raises for bad input."""
        events: list[Event | Overheard] = []
        decode = _body_decoder.decode if self._share is None else partial(_sift, self._share.wants)
        for body in bodies:
            try:
                found = decode(body) if len(body) <= MAX_BODY_BYTES else self._refuse()
            except _UNREADABLE:
                found = self._salvage(body)
            if isinstance(found, list):
                events += found
            else:
                events.append(found)
        return events

    def _refuse(self) -> list[Event | Overheard]:
        self._report(Malformed.TOO_LARGE)
        return []

    def _report(self, reason: Malformed, heard: Overheard | None = None) -> None:
        if self._share is None or self._share.reports(heard):
            self._on_malformed(reason)

    def _salvage(self, body: bytes) -> list[Event | Overheard]:
        """Decode a body event by event, counting each that fails."""
        try:
            parts = _raw_decoder.decode(body) if body.lstrip()[:1] == b"[" else [msgspec.Raw(body)]
        except _UNREADABLE as error:
            self._report(reason_of(error))
            return []
        return [event for part in parts if (event := self._one(part)) is not None]

    def _one(self, part: msgspec.Raw) -> Event | Overheard | None:
        """Decode one event; one that fails is heard all the same if it says who did what when."""
        heard, share = _heard(part), self._share
        if heard is not None and share is not None and not share.wants(heard):
            return heard
        try:
            return _event_decoder.decode(part)
        except _UNREADABLE as error:
            self._report(reason_of(error), heard)
            return heard


def _sift(wants: Callable[[Overheard], bool], body: bytes) -> Event | Overheard | list[Event | Overheard]:
    """Decode the events of a body that are wanted, and little of the others. Raises if one cannot be decoded."""
    found = _sifting_decoder.decode(body)
    if not isinstance(found, list):
        return _event_decoder.decode(body) if wants(found) else found
    wanted = [wants(heard) for heard in found]
    if True not in wanted:
        return [*found]
    whole = _events_decoder.decode(body)
    return [event if want else heard for event, want, heard in zip(whole, wanted, found, strict=True)]


def _heard(part: msgspec.Raw) -> Overheard | None:
    try:
        return _heard_decoder.decode(part)
    except _UNREADABLE:
        return None


def reason_of(error: Exception) -> Malformed:
    """Name what msgspec, or the codec below it, found wrong."""
    if isinstance(error, RecursionError):
        return Malformed.TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return Malformed.NOT_UTF8
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Malformed.NOT_UTF8 if "utf-8" in text.lower() else Malformed.NOT_JSON
    if "missing required field" in text:
        return Malformed.MISSING_FIELD
    return Malformed.TOO_LARGE if "of length <=" in text else Malformed.WRONG_TYPE


class _Request(msgspec.Struct):
    """A request as ``inspect active`` and ``inspect reserved`` describe it (``celery/worker/request.py: info``)."""

    id: str
    name: _Short
    time_start: float | None = None
    delivery_info: dict[str, Any] = {}


def snapshot(
    worker: str,
    asked: float,
    active: Iterable[Mapping[str, Any]] | None,
    reserved: Iterable[Mapping[str, Any]],
    queues: tuple[str, ...] | None,
    pool: str = "",
) -> Snapshot:
    """Build a Snapshot from the replies of ``inspect active`` and ``reserved`` of one worker, and what it consumes.

    A queue is named only where the task's routing key is the name of a queue that the worker consumes.
    Raises msgspec.ValidationError for replies that Celery does not give.
    """
    known = frozenset(queues or ())
    return Snapshot(
        worker=worker,
        asked=asked,
        active=None if active is None else tuple(_running(item, known) for item in active),
        reserved=tuple(_running(item, known) for item in reserved),
        queues=queues,
        pool=pool,
    )


def _running(item: Mapping[str, Any], queues: frozenset[str]) -> RunningTask:
    request = msgspec.convert(item, _Request)
    routing_key = request.delivery_info.get("routing_key")
    return RunningTask(
        uuid=request.id,
        name=request.name,
        queue=routing_key if routing_key in queues else None,
        started=request.time_start,
    )
