"""What spans of Celery are called and say, whoever makes them: workers while they live, or the exporter from events.

Operations, kinds and attributes are those of OpenTelemetry's messaging conventions 1.44
(https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans); ours begin with ``celery.``, and
``docs/tracing.md`` lists them all. A span is named after the task where the conventions name it after the queue, as
they let a messaging system do: most queues hold all kinds of tasks.

Pure, and without OpenTelemetry: that need not be installed. Times are Unix seconds, durations seconds.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from celery_observe.fact import Outcome

SCOPE = "celery_observe"
"""The name of our instrumentation scope."""
SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"


class Operation(NamedTuple):
    """What a span is about: its name in Celery, its type in the conventions, and the name of the ``SpanKind``."""

    name: str
    type: str | None
    kind: str


PUBLISH = Operation("publish", "send", "PRODUCER")
"""A message for a task is published."""
PROCESS = Operation("process", "process", "CONSUMER")
"""An attempt is executed."""
DISCARD = Operation("discard", "settle", "CLIENT")
"""A message is done with though nothing was executed: revoked, expired, unregistered."""
CALL = Operation("call", None, "INTERNAL")
"""A task is called in place: ``task_always_eager``, ``apply``."""
WAIT = Operation("wait", None, "INTERNAL")
"""A message waits, from its publish or its ETA until the attempt starts."""
BEAT = Operation("beat", None, "INTERNAL")
"""Beat sends the task of an entry, which the span is named after."""


def span_name(operation: Operation, subject: str) -> str:
    """Return the name of a span, by its task or its entry of beat's schedule."""
    return f"{operation.name} {subject}"


# -- attributes of the conventions

SYSTEM = "messaging.system"
CELERY = "celery"
"""Its value: what the application speaks to, whatever the broker."""
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
"""The queue."""
MESSAGE_ID = "messaging.message.id"
"""The id of the task, which all its attempts share."""
CONVERSATION_ID = "messaging.message.conversation_id"
"""The root id: that of the task with which the workflow began."""
CLIENT_ID = "messaging.client.id"
"""The node name of the worker."""
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"
"""The name of the exception's class, as in the label ``exception``."""
EXCEPTION = "exception"
"""The name of the event that tells of one."""
EXCEPTION_TYPE = "exception.type"
EXCEPTION_STACKTRACE = "exception.stacktrace"
EXCEPTION_MESSAGE = "exception.message"

# -- ours

TASK = "celery.task.name"
RETRIES = "celery.task.retries"
"""How many attempts there were before."""
OUTCOME = "celery.task.outcome"
"""As in the label ``outcome``."""
CAUSE = "celery.task.cause"
"""As in the label ``cause``."""
QUEUE_WAIT = "celery.task.queue_wait"
"""Seconds from the publish to the start, less the ETA."""
WORKER_WAIT = "celery.task.worker_wait"
"""Seconds from the receipt to the start, less the ETA."""
ETA = "celery.task.eta"
"""As in the message: ISO 8601."""
PARENT_ID = "celery.task.parent_id"
"""The id of the task that published this one."""
REDELIVERED = "celery.task.redelivered"
"""True if the broker had delivered the message before."""
END_ESTIMATED = "celery.task.end_estimated"
"""True if no event told the end, which is then the last that is known of the attempt or its worker."""
GROUP_ID = "celery.group.id"
GROUP_INDEX = "celery.group.index"
CHORD_SIZE = "celery.chord.size"
"""How many tasks the header of the chord has, of its body."""
ENTRY = "celery.beat.entry"
LATENESS = "celery.beat.lateness"
"""Seconds from when the entry was due until it was sent."""
STATE = "celery.task.state"
"""The name of the event that tells of a state the task gives itself, and its attribute that names it."""
PROGRESS = "celery.task.progress"
"""How much is done then, from 0 to 1."""
LINK = "celery.link"
"""The attribute of a link that says what it leads to: one of the following."""
PREVIOUS_ATTEMPT = "previous_attempt"
CHORD_HEADER = "chord_header"
CREATION = "creation"
"""The span that published the message."""

ERRORS = frozenset({Outcome.FAILED, Outcome.UNREGISTERED, Outcome.VANISHED})
"""The outcomes whose spans have the status Error, as entries of the log have the level; others leave it unset.

So has a failure that the task says it ``throws``, where that is known.
"""

# -- ids that follow from what is known, so that processes agree on them without a word


def trace_id_of(root: str) -> int:
    """Return the trace of all that began with this task: 128 bits, as good as random even where its id is not."""
    return _bits(16, "trace", root)


def span_id_of(operation: Operation, uuid: str, *more: object) -> int:
    """Return the id of the span that this operation on this task has.

    ``more`` tells it from others of the same: the number of retries above all.
    """
    return _bits(8, operation.name, uuid, *more)


def _bits(count: int, *parts: object) -> int:
    text = "\0".join(map(str, parts)).encode(errors="replace")
    return int.from_bytes(blake2b(text, digest_size=count).digest(), "big") or 1
