"""The children of the demo: started together, watched, and gone when it is gone."""

from __future__ import annotations

import math
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import msgspec

from celery_observe.demo import guardian
from celery_observe.errors import DemoError
from celery_observe.masking import mask_text

LOOPBACK = "127.0.0.1"
_TAIL_LINES = 12


class Pause:
    """Waits, unless the demo has been told to stop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()  # unlike an event, safe in a signal handler
        self._told_at = math.inf

    def stop(self, _signum: int = 0, _frame: FrameType | None = None) -> None:
        """End every wait from now on; fit to be a signal handler.

        Raises:
            KeyboardInterrupt: it was told more than a second ago, so it must be stuck.
        """
        if self._clock() > self._told_at + 1:
            raise KeyboardInterrupt
        self._told_at = min(self._told_at, self._clock())
        self._told.put(None)

    def __call__(self, seconds: float) -> bool:
        """Wait so long; return False at once, and ever after, when told to stop."""
        if self._told_at == math.inf:
            with suppress(queue.Empty):
                self._told.get(timeout=seconds)
        return self._told_at == math.inf


@contextmanager
def stoppable() -> Iterator[Pause]:
    """Let Ctrl-C, SIGTERM and a closed terminal stop the demo, each unless it is ignored (as nohup does)."""
    pause = Pause()
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.getsignal(signum) for signum in watched}
    for signum, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(signum, pause.stop)
    try:
        yield pause
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def is_free(port: int) -> bool:
    """Tell whether nothing listens on this port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class Child(msgspec.Struct, frozen=True):
    """One of the children."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    farewell: signal.Signals
    """What makes it end in an orderly way."""

    @property
    def ended(self) -> bool:
        """Whether it is dead."""
        return self.process.poll() is not None

    def check(self) -> None:
        """Raise DemoError, with the end of its log, unless it lives."""
        code = self.process.poll()
        if code is not None:
            how = f"exited with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
            raise DemoError(f"{self.name} {how}. The end of its log:\n{self._tail()}")

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"  {mask_text(line)}" for line in lines)


class Children:
    """Processes in one process group, with a temporary folder for their logs.

    The group is led by the guardian, which ends all of it if this process dies without leaving the context.
    It is another group than the terminal's, so that Ctrl-C reaches this process alone.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._children: dict[str, Child] = {}
        self._group = 0

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="celery-observe-demo-"))
        command = [sys.executable, "-I", "-S", guardian.__file__, str(self.folder)]
        self._group = self._start("guardian", command, stdin=subprocess.PIPE).process.pid
        return self

    def start(
        self, name: str, command: Sequence[str], farewell: signal.Signals = signal.SIGTERM, **variables: str
    ) -> Child:
        """Start a child, in place of a dead one of its name; what it prints goes to its log in the folder."""
        return self._start(name, command, farewell, stdin=subprocess.DEVNULL, **variables)

    def _start(
        self,
        name: str,
        command: Sequence[str],
        farewell: signal.Signals = signal.SIGTERM,
        *,
        stdin: int,
        **variables: str,
    ) -> Child:
        path = self.folder / f"{name.replace(' ', '-')}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**self._environment, **variables},
                process_group=self._group,
            )
        self._children[name] = Child(name, process, path, farewell)
        return self._children[name]

    def end(self, name: str) -> None:
        """End a child, unless that was done."""
        child = self._children.pop(name, None)
        if child is not None:
            _end([child], seconds=4.0)

    def check(self) -> None:
        """Make sure that every child lives.

        Raises:
            DemoError: one does not.
        """
        for child in self._children.values():
            child.check()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the children, the server after those that need it; kill what is left of the group; reap."""
        servers = {"guardian", "valkey"}
        _end([child for name, child in self._children.items() if name not in servers], seconds=4.0)
        _end([child for name, child in self._children.items() if name == "valkey"], seconds=1.0)
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill(self) -> None:
        try:
            os.killpg(self._group, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            for child in self._children.values():
                child.process.communicate()
        _wait_for_group(self._group, seconds=2.0)


def _end(children: Sequence[Child], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for child in children:
        child.process.send_signal(child.farewell)
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(timeout=max(0.0, deadline - time.monotonic()))


def _wait_for_group(group: int, *, seconds: float) -> None:
    """Wait until the last grandchild is gone, which only the system reaps."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except OSError:
            return
        time.sleep(0.02)
