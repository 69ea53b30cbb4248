"""The least that reading Celery's events can cost: one bare reader a function.

Run as `floors.py NAME BROKER_URL`, each reads until SIGTERM and then prints how many events it saw, or nothing if
it does not look into what it reads.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
from binascii import a2b_base64
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import amqp
import hiredis
import msgspec
from celery import Celery
from corpus import EXCHANGE, PATTERN
from kombu.utils.url import parse_url

BUFFER = 65536
FRAME_HEAD = struct.Struct(">BHI")  # type, channel, size of the payload
BODY_FRAME = 3


class Envelope(msgspec.Struct, gc=False):
    """kombu's message on Redis, its body still in base64."""

    body: str


class DecodedEnvelope(msgspec.Struct, gc=False):
    """The same, the base64 decoded by msgspec in passing, which is the cheapest way."""

    body: bytes


class Event(msgspec.Struct, gc=False):
    """The fields of an event that a metrics exporter cannot do without."""

    type: str
    hostname: str = ""
    timestamp: float = 0.0
    utcoffset: float = 0.0
    pid: int = 0
    clock: int = 0
    uuid: str = ""
    name: str | None = None
    queue: str | None = None
    retries: int = 0
    eta: str | None = None
    root_id: str | None = None
    runtime: float | None = None
    exception: str | None = None
    active: int | None = None
    processed: int | None = None


class Count:
    """How many events were seen: printed when asked to end."""

    def __init__(self) -> None:
        self.events = 0
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: object) -> NoReturn:
        print(self.events or "", flush=True)
        sys.exit()


batch = msgspec.json.Decoder(list[Event])
single = msgspec.json.Decoder(Event)
envelope = msgspec.json.Decoder(Envelope)
decoded_envelope = msgspec.json.Decoder(DecodedEnvelope)


def how_many(body: bytes) -> int:
    """Decode a body and count its events."""
    if body.startswith(b"["):
        return len(batch.decode(body))
    single.decode(body)
    return 1


def subscribed(url: str) -> socket.socket:
    """A plain socket that a Redis sends all events to."""
    parts = parse_url(url)
    connection = socket.create_connection((parts["hostname"], parts["port"]))
    connection.sendall(b"*2\r\n$10\r\nPSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(PATTERN), PATTERN.encode()))
    return connection


def redis_socket(url: str) -> None:
    """Drain the socket."""
    Count()
    connection = subscribed(url)
    space = bytearray(BUFFER)
    while connection.recv_into(space):
        pass


def redis_read(url: str) -> None:
    """Drain the socket and split it into messages with hiredis."""
    Count()
    connection = subscribed(url)
    reader = hiredis.Reader()
    while data := connection.recv(BUFFER):
        reader.feed(data)
        while reader.gets() is not False:
            pass


def payloads(url: str) -> Iterator[bytes]:
    """What is published, split into messages with hiredis."""
    connection = subscribed(url)
    reader = hiredis.Reader()
    while data := connection.recv(BUFFER):
        reader.feed(data)
        while (message := reader.gets()) is not False:
            if message[0] == b"pmessage":
                yield message[3]


def redis_decode(url: str) -> None:
    """Split with hiredis, decode envelope, base64 and typed events one after the other, count."""
    count = Count()
    for payload in payloads(url):
        count.events += how_many(a2b_base64(envelope.decode(payload).body))


def redis_decode_tuned(url: str) -> None:
    """Split with hiredis, decode envelope and base64 in one, then the typed events, count."""
    count = Count()
    for payload in payloads(url):
        count.events += how_many(decoded_envelope.decode(payload).body)


def amqp_queue(url: str) -> tuple[amqp.Connection, amqp.Channel, str]:
    """A queue of one's own, bound to all events."""
    parts = parse_url(url)
    connection = amqp.Connection(
        f"{parts['hostname']}:{parts['port']}", parts["userid"], parts["password"], heartbeat=0
    )
    connection.connect()
    channel = connection.channel()
    channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
    queue = channel.queue_declare(exclusive=True).queue
    channel.queue_bind(queue, EXCHANGE, "#")
    return connection, channel, queue


def amqp_frames(url: str) -> None:
    """Split the stream into frames by hand and decode the bodies, each of them in one frame."""
    count = Count()
    connection, channel, queue = amqp_queue(url)
    channel.basic_consume(queue, no_ack=True)
    stream = connection.transport.sock
    stream.settimeout(None)
    rest = b""
    while data := stream.recv(BUFFER):
        rest = take_frames(rest + data, count)


def take_frames(data: bytes, count: Count) -> bytes:
    """Count the events of the whole frames and return what is left."""
    at, head = 0, FRAME_HEAD.size
    while at + head <= len(data):
        kind, _, size = FRAME_HEAD.unpack_from(data, at)
        end = at + head + size + 1
        if end > len(data):
            break
        if kind == BODY_FRAME:
            count.events += how_many(data[at + head : end - 1])
        at = end
    return data[at:]


def amqp_client(url: str) -> None:
    """Read with py-amqp, decode with msgspec, count."""
    count = Count()
    connection, channel, queue = amqp_queue(url)

    def receive(message: amqp.Message) -> None:
        body = message.body
        count.events += how_many(body if isinstance(body, bytes) else body.encode())

    channel.basic_consume(queue, no_ack=True, callback=receive)
    while True:
        connection.drain_events()


def receive_with(url: str, handler: Callable[[dict[str, Any]], object]) -> None:
    """Run Celery's own receiver; it counts nothing itself, so the handler's calls are counted by wrapping."""
    count = Count()

    def handle(event: dict[str, Any]) -> None:
        count.events += 1
        handler(event)

    app = Celery(broker=url)
    with app.connection() as connection:
        app.events.Receiver(connection, handlers={"*": handle}).capture(limit=None, timeout=None, wakeup=True)


def receiver(url: str) -> None:
    """Celery's own EventReceiver with a handler that only counts."""
    receive_with(url, lambda _: None)


def state(url: str) -> None:
    """Celery's own EventReceiver and State, on which most monitors are built."""
    receive_with(url, Celery(broker=url).events.State().event)


FLOORS = {
    floor.__name__: floor
    for floor in (redis_socket, redis_read, redis_decode, redis_decode_tuned, amqp_frames, amqp_client, receiver, state)
}

if __name__ == "__main__":
    FLOORS[sys.argv[1]](sys.argv[2])
