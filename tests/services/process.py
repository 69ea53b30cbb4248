"""A program that a test starts: its output is kept, its end is certain."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from services.waiting import PATIENCE, eventually

LOG_TAIL_CHARS = 16_000
_EXPLAINED = 5.0  # seconds that telling what its threads are at may take

# If pytest itself is killed, the kernel ends what it started.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


class Process:
    """One program in its own process group, started in `folder`, its output in `folder`/`name`.log.

    What it `needs` is started before it and stopped after it.
    A context manager: started on entry, surely gone on exit. Start it from the main thread: it ends with the
    thread that started it.
    """

    stop_timeout = 10.0  # seconds between SIGTERM and SIGKILL
    end_timeout = 60.0
    """Seconds within which it ends if nothing is wrong.

    Celery discards a job whose start it has not read when it is told to stop, and that job's child waits 30 for its
    result to be read (``billiard/pool.py: _ensure_messages_consumed``).
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        env: Mapping[str, str] | None = None,
        needs: tuple[Process, ...] = (),
    ) -> None:
        self.name = name
        self.command = [*_DIE_WITH_PARENT, *command]
        self.folder = folder
        self.env = {**os.environ, "PYTHONFAULTHANDLER": "1", **(env or {})}
        self.log = folder / f"{name}.log"
        self._needs = needs
        self._started = ExitStack()
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        """Start what it needs, and it."""
        with ExitStack() as started:
            for process in self._needs:
                started.enter_context(process)
            self.start()
            self._started = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it and what it needed, and print its log, which pytest shows when the test failed."""
        with self._started:
            self.kill()
        print(f"--- {self.name}: {self.log}\n{self.log.read_text(errors='replace')[-LOG_TAIL_CHARS:]}")

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it is there (a paused one is)."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def output(self) -> str:
        """What it has printed since its last start."""
        with self.log.open(errors="replace") as log:
            log.seek(self._log_start)
            return log.read()

    def start(self) -> None:
        """Start it and wait until it can be used."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def wait_ready(self) -> None:
        """Wait until it can be used; a plain program can at once."""

    def wait_output(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until it has printed `text` since its start.

        Raises:
            AssertionError: it did not within `timeout` seconds, or it ended first.
        """
        eventually(lambda: text in self.output or not self.running, timeout, what=f"{text!r} in {self.log}")
        assert text in self.output, f"{self.name} ended before {text!r}:\n{self.output}"

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended by itself within `timeout` seconds, or those it has; minus the signal.

        Raises:
            subprocess.TimeoutExpired: it did not. It is ended, and what its threads were at is in its log, if it is
                written in Python.
        """
        assert self._popen is not None, f"{self.name} was not started"
        try:
            return self._popen.wait(timeout or self.end_timeout)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.pid, signal.SIGABRT)  # at which Python says what each thread is at (`faulthandler`)
                self._popen.wait(_EXPLAINED)
            raise

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone, not to its children."""
        os.kill(self.pid, number)

    def terminate(self, timeout: float | None = None) -> int:
        """Ask it to end (SIGTERM) and return its exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nothing answers."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it and its children without notice (SIGKILL)."""
        if self._popen is None:
            return
        with suppress(ProcessLookupError):  # all of the group may have ended
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def stop(self) -> None:
        """End it kindly, and surely: SIGTERM, then SIGKILL for what is left of its group."""
        if self.running:
            self.resume()
            with suppress(subprocess.TimeoutExpired):  # killed below
                self.terminate(self.stop_timeout)
        self.kill()

    def restart(self) -> None:
        """Stop it and start it at the same place."""
        self.stop()
        self.start()
