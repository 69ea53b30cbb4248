"""The exposition as clients see it, over real sockets."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from celery_observe.errors import ExpositionError
from celery_observe.exposition import Readiness
from services.web import OPENMETRICS_PAGE, TEXT_PAGE, Settings, ask, page, serving

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
PROTECTED = ["/", "/metrics", "/overview", "/workflows/a", "/nowhere"]
PROBES = ["/healthz", "/readyz"]


def test_text_is_served_by_default() -> None:
    """A client that asks for nothing special gets what every Prometheus reads."""
    with serving() as exposition:
        answer = ask(exposition)

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Content-Encoding"] is None
    assert answer.body == TEXT_PAGE


def test_openmetrics_is_served_on_request() -> None:
    """The page and its type go together."""
    with serving() as exposition:
        answer = ask(exposition, headers={"Accept": OPENMETRICS})

    assert answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert answer.body == OPENMETRICS_PAGE


def test_the_page_is_compressed_on_request() -> None:
    """Gzip saves the network most of a page."""
    with serving() as exposition:
        answer = ask(exposition, headers={"Accept-Encoding": "gzip"})

    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.body) < len(TEXT_PAGE) / 10
    assert gzip.decompress(answer.body) == TEXT_PAGE


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz"])
def test_head_tells_the_headers_alone(path: str) -> None:
    """HEAD answers as GET does, less the body."""
    with serving() as exposition:
        head, get = ask(exposition, path, method="HEAD"), ask(exposition, path)

    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(get.body))
    assert head.headers["Content-Type"] == get.headers["Content-Type"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_not_allowed(method: str) -> None:
    """Nothing can be changed over HTTP."""
    with serving() as exposition:
        answer = ask(exposition, method=method)

    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_other_paths_are_not_found() -> None:
    """What is not there is said in one line."""
    with serving() as exposition:
        answer = ask(exposition, "/nowhere")

    assert (answer.status, answer.body) == (404, b"404 Not Found\n")


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/nowhere"])
def test_every_answer_has_the_security_headers(path: str) -> None:
    """Nothing is cached, sniffed, framed or run; the server's version is its own business."""
    with serving() as exposition:
        headers = ask(exposition, path).headers

    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Server"] == "celery-observe"


def test_the_live_page_is_html() -> None:
    """A person who opens the address is shown where to go."""
    with serving(readiness=lambda: Readiness(ready=False, reasons=("blind",))) as exposition:
        answer = ask(exposition, "/")

    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'href="metrics"' in answer.body


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize(
    ("state", "status", "body"),
    [
        (Readiness(ready=True), 200, {"status": "ok", "reasons": []}),
        (Readiness(ready=False, reasons=("a", "b")), 503, {"status": "unavailable", "reasons": ["a", "b"]}),
    ],
    ids=["well", "unwell"],
)
def test_probes_tell_state_and_reasons(path: str, state: Readiness, status: int, body: object) -> None:
    """200 or 503 for the kubelet, the reasons for people."""
    with serving(readiness=lambda: state, health=lambda: state) as exposition:
        answer = ask(exposition, path)

    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    assert json.loads(answer.body) == body


def test_the_two_probes_ask_different_things() -> None:
    """A process that is alive may be blind."""
    with serving(readiness=lambda: Readiness(ready=False, reasons=("blind",))) as exposition:
        assert ask(exposition, "/healthz").status == 200
        assert ask(exposition, "/readyz").status == 503


@pytest.mark.parametrize("path", PROTECTED)
def test_without_credentials_nothing_is_shown(tmp_path: Path, path: str) -> None:
    """401 says which kinds of credentials would do, and not which paths there are."""
    users, tokens = tmp_path / "users", tmp_path / "tokens"
    users.write_text("alice:one\n")
    tokens.write_text("secret-token\n")

    with serving(Settings(basic_auth_file=users, bearer_token_file=tokens)) as exposition:
        answer = ask(exposition, path)

    assert (answer.status, answer.body) == (401, b"401 Unauthorized\n")
    assert answer.headers.get_all("WWW-Authenticate") == [
        'Basic realm="celery-observe", charset="UTF-8"',
        'Bearer realm="celery-observe"',
    ]


@pytest.mark.parametrize("authorization", ["Basic YWxpY2U6b25l", "Bearer secret-token"])
def test_either_credential_opens_the_metrics(tmp_path: Path, authorization: str) -> None:
    """A password or a token, whichever the client has."""
    users, tokens = tmp_path / "users", tmp_path / "tokens"
    users.write_text("alice:one\n")
    tokens.write_text("secret-token\n")

    with serving(Settings(basic_auth_file=users, bearer_token_file=tokens)) as exposition:
        assert ask(exposition, headers={"Authorization": authorization}).status == 200


@pytest.mark.parametrize("path", PROBES)
def test_probes_need_no_credentials(tmp_path: Path, path: str) -> None:
    """The kubelet has none."""
    tokens = tmp_path / "tokens"
    tokens.write_text("secret-token\n")

    with serving(Settings(bearer_token_file=tokens)) as exposition:
        assert ask(exposition, path).status == 200


def test_a_token_is_turned_over_while_running(tmp_path: Path) -> None:
    """The new token holds from the next request on, the old one no more."""
    tokens = tmp_path / "tokens"
    tokens.write_text("old-token\n")
    with serving(Settings(bearer_token_file=tokens)) as exposition:
        before = ask(exposition, headers={"Authorization": "Bearer old-token"}).status

        replacement = tmp_path / "tokens.new"
        replacement.write_text("new-token\n")
        replacement.replace(tokens)

        assert before == 200
        assert ask(exposition, headers={"Authorization": "Bearer old-token"}).status == 401
        assert ask(exposition, headers={"Authorization": "Bearer new-token"}).status == 200


def test_an_error_in_rendering_tells_nothing_and_stops_nothing() -> None:
    """The client gets a bare 500, the log gets the traceback, the next scrape its page."""
    outcomes = [ValueError("redis://user:password@broker"), None]

    def render(openmetrics: bool) -> bytes:
        if error := outcomes.pop(0):
            raise error
        return page(openmetrics)

    with capture_logs() as logs, serving(render=render) as exposition:
        failed, served = ask(exposition), ask(exposition)

    assert (failed.status, failed.body) == (500, b"500 Internal Server Error\n")
    assert "password" not in str(failed.headers)
    assert (served.status, served.body) == (200, TEXT_PAGE)
    assert [entry["path"] for entry in logs if entry["event"] == "http_request_failed"] == ["/metrics"]


def test_the_access_log_is_for_debugging_and_holds_no_query() -> None:
    """What a client puts into a query stays out of the logs."""
    with capture_logs() as logs, serving() as exposition:
        ask(exposition, "/metrics?token=secret")

    assert logs == [{"event": "http_request", "log_level": "debug", "method": "GET", "path": "/metrics", "status": 200}]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0" * 1000,
    ],
)
def test_garbage_harms_nobody_else(garbage: bytes) -> None:
    """Whatever one client sends, the next is served, and no defect is logged."""
    with (
        capture_logs() as logs,
        serving() as exposition,
        socket.create_connection(("127.0.0.1", exposition.port)) as client,
    ):
        client.sendall(garbage)
        status = ask(exposition).status

    assert status == 200
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


def test_a_connection_serves_many_scrapes() -> None:
    """Prometheus keeps its connection from one scrape to the next."""
    with (
        serving() as exposition,
        closing(http.client.HTTPConnection("127.0.0.1", exposition.port, timeout=5)) as connection,
    ):
        statuses, sockets = [], set()
        for _ in range(3):
            connection.request("GET", "/metrics")
            statuses.append(connection.getresponse().read() == TEXT_PAGE)
            sockets.add(connection.sock)

    assert statuses == [True, True, True]
    assert len(sockets) == 1


def test_a_taken_port_is_a_clear_error() -> None:
    """Host, port and what to do about it, before anything runs."""
    with serving() as first, pytest.raises(ExpositionError) as caught, serving(Settings(port=first.port)):
        pass

    assert f"127.0.0.1:{first.port}" in str(caught.value)
    assert "choose another --port" in str(caught.value)


@pytest.mark.parametrize(
    "settings", [Settings(host="192.0.2.1"), Settings(host="no.such.host.invalid"), Settings(port=70_000)]
)
def test_an_impossible_address_is_a_clear_error(settings: Settings) -> None:
    """The error names what was asked for."""
    with pytest.raises(ExpositionError, match=f"{settings.host}:{settings.port}.*--host"), serving(settings):
        pass


def test_an_unusable_auth_file_is_an_error_at_start(tmp_path: Path) -> None:
    """Nothing is served in the open that was meant to be protected."""
    with (
        pytest.raises(ExpositionError, match="nothing-here"),
        serving(Settings(basic_auth_file=tmp_path / "nothing-here")),
    ):
        pass


def test_stopping_frees_the_port_and_the_thread() -> None:
    """Another exposition can take its place at once, even with connections left open."""
    with serving() as first, socket.create_connection(("127.0.0.1", first.port)):
        ask(first)
        first.stop()
        first.stop()
        threads = [thread.name for thread in threading.enumerate() if thread.name == "observe-http"]

        with serving(replace(Settings(), port=first.port)) as second:
            assert ask(second).status == 200

    assert threads == []


def test_an_answer_under_way_is_finished_when_stopping() -> None:
    """A scrape that has begun is not cut off by a shutdown."""
    large = TEXT_PAGE * 5_000
    with (
        serving(render=lambda openmetrics: large) as exposition,
        closing(http.client.HTTPConnection("127.0.0.1", exposition.port, timeout=5)) as connection,
    ):
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        stopping = threading.Thread(target=exposition.stop)
        stopping.start()
        body = response.read()
        stopping.join()

    assert body == large


def test_stopping_what_never_started_is_nothing() -> None:
    """A pipeline that failed half way can be taken down."""
    with serving() as exposition:
        pass
    exposition.stop()


GUEST = """
import sys, time, urllib.error, urllib.request
from celery_observe import hosting, logs
from celery_observe.settings import load
from celery_observe.streams.local import pair
logs.be_hosted()
settings = load({"port": 0}, {}, instrumented=True)
hosting.prepare(settings)
before = set(sys.modules)
reading, writing = pair()
pipeline = hosting.serve_as_guest("w@h", settings, reading)
for path in ("/", "/metrics", "/overview", "/workflows/a", "/nowhere", "/healthz", "/readyz"):
    for header in ({}, {"Accept-Encoding": "gzip"}, {"Accept": "application/openmetrics-text;version=1.0.0"}):
        url = f"http://127.0.0.1:{pipeline.exposition.port}{path}"
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers=header), timeout=10).read()
        except urllib.error.HTTPError:
            pass
time.sleep(1.5)
pipeline.stop()
print(sorted(set(sys.modules) - before))
"""


def test_serving_imports_nothing() -> None:
    """A worker forks its beat and its children beside the threads that serve; an import cut in two never ends."""
    done = subprocess.run([sys.executable, "-P", "-c", GUEST], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
