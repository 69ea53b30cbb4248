"""Clients that are slow, idle, or too many do not stop a scrape."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import pytest
from structlog.testing import capture_logs

from celery_observe import exposition as exposition_module
from celery_observe.exposition import Exposition, server
from services.certificates import Certificates
from services.waiting import eventually
from services.web import TEXT_PAGE, Settings, ask, serving

CROWD = 500
PARTIAL_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-Slow: "


@contextmanager
def open_files_limited_to(limit: int) -> Iterator[None]:
    """Let this process have file descriptors below `limit` only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(exposition: Exposition, stack: ExitStack) -> socket.socket:
    """Open a connection that lasts as long as `stack`."""
    return stack.enter_context(socket.create_connection(("127.0.0.1", exposition.port), timeout=5))


def drip(clients: list[socket.socket]) -> None:
    """Send one more byte of a header that never ends, where the connection is still open."""
    for slow in clients:
        try:
            slow.send(b"x")
        except ConnectionError:
            continue


def timed_scrape(exposition: Exposition, tls: ssl.SSLContext | None = None) -> float:
    """Return the seconds that a scrape took."""
    started = time.perf_counter()
    assert ask(exposition, tls=tls).body == TEXT_PAGE
    return time.perf_counter() - started


def test_500_idle_and_slow_connections_do_not_stop_a_scrape() -> None:
    """Within 1,024 file descriptors, clients' ends included, scrapes take less than a second."""
    left_open = len(list(Path("/proc/self/fd").iterdir()))  # by tests before this one
    with open_files_limited_to(left_open + 1024), serving() as exposition, ExitStack() as stack:
        crowd = [connect(exposition, stack) for _ in range(CROWD)]
        slow = crowd[::2]
        for each in slow:
            each.send(PARTIAL_REQUEST)
        taken = []
        for _ in range(5):
            drip(slow)
            taken.append(timed_scrape(exposition))

    assert median(taken) < 1
    assert exposition.evicted >= CROWD - server.MAX_CONNECTIONS


def test_500_connections_that_never_shake_hands_do_not_stop_a_scrape(certificates: Certificates) -> None:
    """The same with TLS."""
    settings = Settings(tls_cert_file=certificates.certificate, tls_key_file=certificates.key)
    context = ssl.create_default_context(cafile=certificates.authority)
    with serving(settings) as exposition, ExitStack() as stack:
        for _ in range(CROWD):
            connect(exposition, stack)
        taken = [timed_scrape(exposition, context) for _ in range(5)]

    assert median(taken) < 1


def test_a_client_that_does_not_read_its_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page that waits for it is not kept for ever."""
    monkeypatch.setattr(server, "UNREAD_TIMEOUT", 0.1)
    monkeypatch.setattr(exposition_module, "SWEEP_INTERVAL", 0.05)
    large = TEXT_PAGE * 5_000

    with serving(render=lambda openmetrics: large) as exposition, ExitStack() as stack:
        deaf = connect(exposition, stack)
        deaf.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: exposition.evicted, what="the deaf client is closed")
        reader = ask(exposition, "/healthz")

    assert exposition.evicted == 1
    assert reader.status == 200


def test_an_idle_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it drips."""
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 0.1)

    with serving() as exposition, ExitStack() as stack:
        slow = connect(exposition, stack)
        slow.send(PARTIAL_REQUEST)

        assert slow.recv(1) == b""


def test_without_file_descriptors_the_longest_idle_makes_room() -> None:
    """A scrape is served by closing a connection that does nothing."""
    with capture_logs() as logs, serving() as exposition, ExitStack() as stack:
        idle = [connect(exposition, stack) for _ in range(5)]
        eventually(lambda: ask(exposition).status == 200)
        scraper = stack.enter_context(socket.socket())
        scraper.settimeout(5)
        with open_files_limited_to(lowest_free_descriptor()):
            scraper.connect(("127.0.0.1", exposition.port))
            scraper.send(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = scraper.recv(1000)
        closed = idle[0].recv(1)

    assert answer.startswith(b"HTTP/1.1 200")
    assert closed == b""
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["http_accept_failed"]


def test_without_any_file_descriptor_the_server_waits_for_one() -> None:
    """A connection that comes while the process has none is served once it has, without a log storm."""
    with capture_logs() as logs, serving() as exposition, socket.socket() as scraper:
        scraper.settimeout(5)
        with open_files_limited_to(lowest_free_descriptor()):
            scraper.connect(("127.0.0.1", exposition.port))
            scraper.send(b"GET /healthz HTTP/1.0\r\n\r\n")
            eventually(lambda: logs, what="the lack is noticed")
        answer = scraper.recv(1000)

    assert answer.startswith(b"HTTP/1.1 200")
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["http_accept_failed"]


def lowest_free_descriptor() -> int:
    """Return the number that the next file descriptor would get."""
    number = os.dup(0)
    os.close(number)
    return number
