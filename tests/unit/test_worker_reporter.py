"""Reports are sent, or dropped and counted; nothing waits and nothing raises."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_observe.report import AnyReport, Loss, Refusal, decode
from celery_observe.streams.local import LocalStream, pair
from celery_observe.worker.reporter import Reporter

REPORT = Refusal(1.0, "w@h")


@pytest.fixture
def reading() -> Iterator[tuple[Reporter, socket.socket]]:
    """A reporter, and where it reports to."""
    reader, writer = pair()
    reporter = Reporter()
    reporter.write_to(writer)
    with reader:
        yield reporter, reader
    reporter.close()


def arrived(reader: socket.socket) -> list[AnyReport]:
    """Return all reports that wait."""
    found: list[AnyReport] = []
    while True:
        try:
            found += decode(reader.recv(1 << 20), print)
        except BlockingIOError:
            return found


def test_a_report_arrives(reading: tuple[Reporter, socket.socket]) -> None:
    """As it was made."""
    reporter, reader = reading

    reporter.send(REPORT)

    assert arrived(reader) == [REPORT]


def test_a_full_socket_drops_and_the_next_report_tells(reading: tuple[Reporter, socket.socket]) -> None:
    """How many were dropped, once."""
    reporter, reader = reading
    while not reporter.dropped:
        reporter.send(REPORT)
    reporter.send(REPORT)
    arrived(reader)

    reporter.send(REPORT)
    reporter.send(REPORT)

    assert arrived(reader) == [REPORT, Loss(1.0, "w@h", dropped=2), REPORT]


def test_handlers_that_failed_are_told(reading: tuple[Reporter, socket.socket]) -> None:
    """With the next report."""
    reporter, reader = reading
    reporter.errors = 3

    reporter.send(REPORT)

    assert arrived(reader) == [REPORT, Loss(1.0, "w@h", errors=3)]


def test_a_failure_can_be_told_without_a_report(reading: tuple[Reporter, socket.socket]) -> None:
    """And is kept if nobody takes it."""
    reporter, reader = reading
    reporter.errors = 2

    reporter.confess()
    told = [report for report in arrived(reader) if isinstance(report, Loss)]
    reader.close()
    reporter.errors = 3
    reporter.confess()

    assert [(report.errors, report.dropped) for report in told] == [(2, 0)]
    assert (reporter.errors, reporter.dropped) == (3, 0)


def test_what_cannot_be_encoded_is_dropped_and_forgets_nothing(reading: tuple[Reporter, socket.socket]) -> None:
    """What was dropped before it is still to be told."""
    reporter, reader = reading
    reporter.errors, reporter.dropped = 1, 4

    with pytest.raises(UnicodeEncodeError):
        reporter.send(Refusal(1.0, "lone surrogate: \ud800"))
    reporter.send(REPORT)

    assert arrived(reader) == [REPORT, Loss(1.0, "w@h", dropped=5, errors=1)]


def test_a_reader_that_is_gone_drops(reading: tuple[Reporter, socket.socket]) -> None:
    """For ever: a pair has no other end."""
    reporter, reader = reading
    reader.close()

    reporter.send(REPORT)
    reporter.send(REPORT)

    assert reporter.dropped == 2


def test_with_nobody_to_report_to_reports_are_dropped() -> None:
    """A process that was never told where."""
    reporter = Reporter()

    reporter.send(REPORT)

    assert (reporter.has_listener, reporter.dropped) == (False, 1)


def test_a_sidecar_may_come_later_and_go_and_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for at most once a second; what was dropped meanwhile is told."""
    now = 100.0
    monkeypatch.setattr("celery_observe.worker.reporter.time.monotonic", lambda: now)
    path = os.path.relpath(tmp_path / "s")
    reporter = Reporter()
    reporter.connect_to(path)
    reporter.send(REPORT)
    sidecar = LocalStream(path)
    sidecar.open()
    reporter.send(REPORT)

    now = 102.0
    reporter.send(REPORT)
    told = [report for _ in range(2) for body in sidecar.read(0.0) for report in decode(body, print)]
    sidecar.close()
    reporter.send(REPORT)

    reporter.close()

    assert told == [REPORT, Loss(1.0, "w@h", dropped=2)]
    assert reporter.dropped == 1


def test_a_process_that_is_told_twice_keeps_its_connection(tmp_path: Path) -> None:
    """As a worker's is: by ``instrument()``, then by its own start, before its pool forks."""
    path = os.path.relpath(tmp_path / "s")
    sidecar = LocalStream(path)
    sidecar.open()
    reporter = Reporter()
    reporter.connect_to(path)

    reporter.connect_to(path)
    reporter.send(REPORT)
    told = [report for _ in range(2) for body in sidecar.read(0.0) for report in decode(body, print)]
    sidecar.close()
    reporter.close()

    assert (told, reporter.dropped) == ([REPORT], 0)


def test_what_was_inherited_can_be_forgotten_without_closing_it(reading: tuple[Reporter, socket.socket]) -> None:
    """Its number may stand for another file by now."""
    reporter, reader = reading
    descriptor = reporter._socket.fileno() if reporter._socket else -1  # noqa: SLF001 - to see that it stays open

    reporter.forget()
    reporter.send(REPORT)

    assert (reporter.has_listener, reporter.dropped, arrived(reader)) == (False, 1, [])
    os.close(descriptor)


def test_the_switch_is_shared_with_children() -> None:
    """Those that exist already, too."""
    reporter = Reporter()
    child = os.fork()
    if not child:
        reporter.turn(off=True)
        os._exit(0)
    os.waitpid(child, 0)

    assert reporter.off
    reporter.turn(off=False)
    assert not reporter.off
