"""Every error this package raises on purpose. The docstring is the message when none is given."""

from __future__ import annotations

from inspect import getdoc


class CeleryObserveError(Exception):
    """celery-observe could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        """Take `message` (which says what to do about it), or the docstring of the class without one."""
        super().__init__(message or getdoc(type(self)))


class SettingsError(CeleryObserveError):
    """A setting is unknown, of the wrong type, or contradicts another: see `celery-observe run --help`."""


class AppError(SettingsError):
    """The Celery app could not be loaded: give --app as MODULE or MODULE:ATTRIBUTE."""


class StreamError(CeleryObserveError):
    """The connection to the broker's event stream is lost or could not be made."""


class ExpositionError(CeleryObserveError):
    """The metrics cannot be served over HTTP: check --host, --port and the TLS and auth files."""


class PortTakenError(ExpositionError):
    """Another process listens on this port: choose another --port."""


class DemoError(CeleryObserveError):
    """The demo could not start, or one of its processes died."""


class ProbeError(CeleryObserveError):
    """A question to the broker or to its workers was not answered."""


class TraceError(CeleryObserveError):
    """The tasks of a workflow could not be asked for: give the --url of what observes them."""


class StateError(CeleryObserveError):
    """The state file cannot be read or written."""


class LintError(SettingsError):
    """An option of `celery-observe lint` is wrong: see `celery-observe lint --help`."""


class SinkError(CeleryObserveError):
    """An alert could not be delivered; it may be next time."""

    def __init__(self, message: str | None = None, retry_after: float = 0.0) -> None:
        """Take how many seconds the receiver asks us to wait."""
        super().__init__(message)
        self.retry_after = retry_after


class SinkRefusedError(SinkError):
    """An alert was refused, and will be however often it is sent: check the settings of the sink."""


class ExportError(CeleryObserveError):
    """Spans could not be exported: see OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL and the collector."""


class PushError(CeleryObserveError):
    """Metrics could not be pushed: see OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL and the collector."""
