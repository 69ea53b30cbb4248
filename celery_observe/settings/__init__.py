"""Flags, `CELERY_OBSERVE_*` and a TOML file → one frozen, validated `Settings`.

A setting is declared once, as a field of `Settings`: its flag, environment variable, TOML key, help and row
of `docs/settings.md` derive from the declaration. This is the only file that reads `os.environ`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from celery_observe.broker import BrokerSettings
from celery_observe.errors import SettingsError
from celery_observe.settings.brokers import brokers
from celery_observe.settings.checks import CHECKS, source_problem
from celery_observe.settings.conversion import convert
from celery_observe.settings.declaration import SETTINGS, WORKER, Part, Setting, Settings
from celery_observe.settings.sharding import part
from celery_observe.settings.sources import from_environ, from_file, from_flags

__all__ = [
    "GRPC",
    "SETTINGS",
    "WORKER",
    "BrokerSettings",
    "Part",
    "Setting",
    "Settings",
    "environment",
    "is_disabled",
    "load",
    "metrics_exporter",
    "trace_exporters",
]

GRPC = "otlp_proto_grpc"
"""OpenTelemetry's exporter over gRPC."""
_OTLP = {"grpc": GRPC, "http/protobuf": "otlp_proto_http"}
"""Protocol → OpenTelemetry's exporter for it."""


def is_disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether CELERY_OBSERVE_DISABLED turns instrumentation off."""
    return environ.get("CELERY_OBSERVE_DISABLED", "").lower() not in {"", "0", "false", "no"}


def load(flags: Mapping[str, Any], environ: Mapping[str, str] = os.environ, *, instrumented: bool = False) -> Settings:
    """Merge flags over environment over TOML file over defaults, and validate.

    The keys of `flags` are names of settings, or `config`, the path of the TOML file; None and () are unset.
    A setting comes whole from the highest place that has it: lists and mappings are not merged. An `instrumented`
    process observes itself: it needs no source.

    Raises:
        SettingsError: a setting is unknown, malformed or contradicts another; the message has the fix.
    """
    flags = {name: value for name, value in flags.items() if value is not None and value != ()}
    file = flags.pop("config", None) or environ.get("CELERY_OBSERVE_CONFIG")
    given = {**(from_file(file) if file else {}), **from_environ(environ), **from_flags(flags)}
    settings = Settings(
        **{name: convert(SETTINGS[name], item) for name, item in given.items()},
        origins={name: item.origin for name, item in given.items()},
    )
    problem = source_problem(settings) if not instrumented else None
    problem = problem or next(filter(None, (check(settings) for check in CHECKS)), None)
    if problem:
        raise SettingsError(problem)
    return msgspec.structs.replace(settings, brokers=brokers(settings), part=part(settings))


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment for a child, with `changes` and without any CELERY_* and FLOWER_*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "FLOWER_"))}
    return kept | changes


def trace_exporters(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the names of the exporters of spans that OpenTelemetry's variables ask for; OTLP over gRPC without.

    So does OpenTelemetry's SDK for Python; the specification recommends HTTP.

    Raises:
        SettingsError: there is no such protocol.
    """
    otlp = _otlp_exporter("TRACES", environ)
    names = [name.strip() for name in (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")]
    return tuple(otlp if name == "otlp" else name for name in names if name not in {"", "none"})


def metrics_exporter(environ: Mapping[str, str] = os.environ) -> str:
    """Return the name of the exporter of metrics that OpenTelemetry's variables ask for; OTLP over gRPC without.

    Raises:
        SettingsError: there is no such protocol.
    """
    return _otlp_exporter("METRICS", environ)


def _otlp_exporter(signal: str, environ: Mapping[str, str]) -> str:
    of_all = "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or environ.get(of_all) or "grpc"
    if protocol.strip() not in _OTLP:
        raise SettingsError(f"{of_all} is one of {', '.join(_OTLP)}, not {protocol!r}")
    return _OTLP[protocol.strip()]
