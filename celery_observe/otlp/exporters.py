"""OpenTelemetry's exporters, set up by its own variables: ``OTEL_EXPORTER_OTLP_*``, ``OTEL_RESOURCE_ATTRIBUTES``, …."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource

from celery_observe.errors import SettingsError
from celery_observe.masking import MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LATE = {"otlp_proto_http": ("requests", "netrc")}
"""What an exporter imports when it is made and when it first sends, the latter in its thread.

A child that is forked meanwhile would inherit the lock of the import, and wait for it whenever it wants to send.
"""
SERVICE = "celery"
"""The name of the service if nothing else says one."""


def exporter_of(signal: Literal["traces", "metrics"], name: str) -> Callable[[], Any]:
    """Return what makes the exporter that stands under this entry point of OpenTelemetry's, all of it imported.

    Raises:
        SettingsError: there is none of that name.
    """
    found = next(iter(entry_points(group=f"opentelemetry_{signal}_exporter", name=name)), None)
    if found is None:
        raise SettingsError(f"OTEL_{signal.upper()}_EXPORTER asks for {name}, which is not installed")
    make: Callable[[], Any] = found.load()
    for module in _LATE.get(name, ()):
        with suppress(ImportError):  # another release does without
            import_module(module)
    return make


def resource_with(attributes: Mapping[str, str] = {}) -> Resource:
    """Return what tells: as OpenTelemetry's variables say, or else the service ``celery``, with these attributes."""
    found, said = Resource.create(), OTELResourceDetector().detect().attributes
    ours = {name: value for name, value in attributes.items() if name not in said}
    if str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        ours[SERVICE_NAME] = SERVICE
    return found.merge(Resource(ours))


class _Quotation(logging.Filter):
    """Masks what a log entry quotes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the entry, without what it quotes."""
        record.args = (MASK,) * len(record.args or ())
        return True


# It logs headers that it cannot read as a whole, and what stands in them are tokens.
logging.getLogger("opentelemetry.util.re").addFilter(_Quotation())
