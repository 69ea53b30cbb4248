"""What stands behind each path."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Protocol

import msgspec
from tornado.web import HTTPError, RequestHandler

from celery_observe.exposition.access import Access
from celery_observe.exposition.landing import CONTENT_SECURITY_POLICY, PAGE, PAGE_COMPRESSED
from celery_observe.exposition.negotiation import OPENMETRICS, accepts_gzip, content_type
from celery_observe.logs import log
from celery_observe.tree import Tree

GZIP_LEVEL = 1
"""A page of metrics shrinks twentyfold at the cheapest level already."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Content-Type": "text/plain; charset=utf-8",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "celery-observe",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Page(Protocol):
    """Renders the metrics."""

    def __call__(self, *, openmetrics: bool) -> bytes:
        """Return the page as OpenMetrics 1.0.0, or as text 0.0.4."""


@dataclass(frozen=True)
class Readiness:
    """Whether all is well, and if not, why: reasons are shown to anyone, so they hold no secret."""

    ready: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """What is served, and to whom."""

    render: Page
    readiness: Callable[[], Readiness]
    health: Callable[[], Readiness]
    workflow: Callable[[str], Tree | None]
    overview: Callable[[], bytes]
    access: Access
    client_certificates: bool


class Endpoint(RequestHandler):
    """What all answers have in common: who may read, headers, and errors that tell no details."""

    def initialize(self, site: Site) -> None:
        """Take what is served, and to whom."""
        self.site = site

    def set_default_headers(self) -> None:
        """Set the headers of every answer, errors included."""
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Refuse those who may not read."""
        if self.site.client_certificates and not self.request.get_ssl_certificate():
            raise HTTPError(HTTPStatus.FORBIDDEN, reason="Client Certificate Required")
        if not self.site.access.admits(self.request.headers.get("Authorization", "")):
            raise HTTPError(HTTPStatus.UNAUTHORIZED)

    def head(self, *path: str) -> None:
        """Answer as to GET; the server leaves the body out."""
        self.get(*path)

    def finish_as(self, content_type: str, body: bytes, compressed: Callable[[], bytes]) -> None:
        """Answer with a body of this type, compressed for clients that take it."""
        self.set_header("Content-Type", content_type)
        if accepts_gzip(self.request.headers.get("Accept-Encoding", "")):
            self.set_header("Content-Encoding", "gzip")
            body = compressed()
        self.finish(body)

    def compute_etag(self) -> None:
        """Hash nothing: no answer is worth caching."""

    def write_error(self, status_code: int, **_: Any) -> None:
        """Say what the status means, and nothing else."""
        if status_code == HTTPStatus.UNAUTHORIZED:
            for challenge in self.site.access.challenges:
                self.add_header("WWW-Authenticate", challenge)
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", "GET, HEAD")
        self.finish(f"{status_code} {self._reason}\n")

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log a defect of ours with its traceback. What a client did wrong is in the access log."""
        if value is not None and not isinstance(value, HTTPError):
            log.error("http_request_failed", path=self.request.path, exc_info=(typ, value, tb))


class Metrics(Endpoint):
    """/metrics."""

    def get(self) -> None:
        """Answer in the format and coding that the client prefers."""
        chosen = content_type(self.request.headers.get("Accept", ""))
        page = self.site.render(openmetrics=chosen == OPENMETRICS)
        self.set_header("Vary", "Accept, Accept-Encoding")
        self.finish_as(chosen, page, lambda: gzip.compress(page, GZIP_LEVEL))


class Workflow(Endpoint):
    """/workflows/ID."""

    def get(self, name: str) -> None:
        """Answer with the tasks of a workflow as JSON, or 404 if it is not known, or no more."""
        tree = self.site.workflow(name)
        if tree is None:
            raise HTTPError(HTTPStatus.NOT_FOUND)
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode(tree))


class Ready(Endpoint):
    """/readyz. Probes are open to all, because the kubelet brings no credentials."""

    def prepare(self) -> None:
        """Refuse nobody."""

    def state(self) -> Readiness:
        """Return whether the numbers can be believed now."""
        return self.site.readiness()

    def get(self) -> None:
        """Answer 200, or 503 with the reasons."""
        state = self.state()
        self.set_status(HTTPStatus.OK if state.ready else HTTPStatus.SERVICE_UNAVAILABLE)
        self.set_header("Content-Type", "application/json")
        body = {"status": "ok" if state.ready else "unavailable", "reasons": state.reasons}
        self.finish(msgspec.json.encode(body))


class Healthy(Ready):
    """/healthz."""

    def state(self) -> Readiness:
        """Return whether this process lives."""
        return self.site.health()


class Landing(Endpoint):
    """/."""

    def get(self) -> None:
        """Answer with the live page, which asks for the overview itself."""
        self.set_header("Vary", "Accept-Encoding")
        self.finish_as("text/html; charset=utf-8", PAGE, lambda: PAGE_COMPRESSED)


class Overview(Endpoint):
    """/overview."""

    def get(self) -> None:
        """Answer with what the live page shows, as it was computed last."""
        view = self.site.overview()
        self.set_header("Vary", "Accept-Encoding")
        self.finish_as("application/json", view, lambda: gzip.compress(view, GZIP_LEVEL))


class NotFound(Endpoint):
    """Every other path. Who may not read is not told which paths there are."""

    def prepare(self) -> None:
        """Refuse, whatever the method."""
        super().prepare()
        raise HTTPError(HTTPStatus.NOT_FOUND)


def log_request(endpoint: RequestHandler) -> None:
    """Write the access log: for debugging only, and without the query."""
    request = endpoint.request
    log.debug("http_request", method=request.method, path=request.path, status=endpoint.get_status())
