"""Messages of a socket that keeps them apart, many with one call, and without giving up the interpreter's lock.

``socket.recv`` does: beside a busy main thread each call would hand the lock over and wait to get it back, at a greater
cost than all else that is done with a report. So recvmmsg(2) is called as ``ctypes`` can, or where there is none, such
as on macOS, recv(2).
"""

from __future__ import annotations

import ctypes
import enum
import errno
import mmap
import socket
from collections.abc import Callable

AT_ONCE = 64
"""Messages of one call."""

_APART = 512
"""Bytes by which messages are further apart than they are long: else they would share the lines of a cache."""

_libc = ctypes.PyDLL(None, use_errno=True)


class State(enum.Enum):
    """What is known of a socket after it was read from."""

    MORE = "more"
    """There may be more to read."""
    EMPTY = "empty"
    GONE = "gone"
    """Whoever wrote to it has hung up."""


Receive = Callable[[int, list[bytes]], State]
"""Appends what can be read from the socket with this descriptor, without waiting, or some of it."""


def receiver(most: int) -> Receive:
    """Return what receives messages, of which what is beyond ``most`` bytes is cut. For use by one thread."""
    return _many(most) if hasattr(_libc, "recvmmsg") else one_by_one(most)


def one_by_one(most: int) -> Receive:
    """Return what receives one message at a time."""
    recv = _libc.recv
    recv.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    recv.restype = ctypes.c_ssize_t
    buffer = ctypes.create_string_buffer(most)

    def receive(descriptor: int, bodies: list[bytes]) -> State:
        size = recv(descriptor, buffer, most, socket.MSG_DONTWAIT)
        if size <= 0:
            return _state_of(size)
        bodies.append(ctypes.string_at(buffer, size))
        return State.MORE

    return receive


class _Part(ctypes.Structure):
    """Where a part of a message is put: ``struct iovec``, readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``, recvmsg(2), as the kernel has it where pointers have 64 bits."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("parts", ctypes.POINTER(_Part)),
        ("parts_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``, recvmmsg(2)."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


def _many(most: int) -> Receive:
    recvmmsg = _libc.recvmmsg
    recvmmsg.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p
    stride = most + _APART
    buffer = mmap.mmap(-1, AT_ONCE * stride)  # its pages are there once they are written to
    first = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    parts, messages = (_Part * AT_ONCE)(), (_Message * AT_ONCE)()
    for place, (part, message) in enumerate(zip(parts, messages, strict=True)):
        part.base, part.length = first + place * stride, most
        message.header.parts, message.header.parts_length = ctypes.pointer(part), 1
    vector = ctypes.addressof(messages)
    words = memoryview(messages).cast("B").cast("I")
    lengths = words[_Message.length.offset // words.itemsize :: ctypes.sizeof(_Message) // words.itemsize]

    def receive(descriptor: int, bodies: list[bytes]) -> State:
        count = recvmmsg(descriptor, vector, AT_ONCE, socket.MSG_DONTWAIT, None)
        if count <= 0:
            return _state_of(count)
        start, read = 0, lengths[:count].tolist()
        for length in read:
            if length:
                bodies.append(buffer[start : start + length])
            start += stride
        if 0 in read:
            return State.GONE
        return State.MORE if count == AT_ONCE else State.EMPTY

    # what the kernel reads and writes must live as long as this, which has nothing but its address
    receive.memory = parts, messages  # type: ignore[attr-defined]
    return receive


def _state_of(result: int) -> State:
    """Return what a call means that has received nothing."""
    return State.EMPTY if result < 0 and ctypes.get_errno() == errno.EAGAIN else State.GONE
