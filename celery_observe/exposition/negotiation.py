"""Which format and coding a client prefers (RFC 9110, section 12).

prometheus_client can choose an encoder too, but ignores q values and promises whatever version was asked for.
"""

from __future__ import annotations

from functools import lru_cache

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"

FORMATS = {
    ("application/openmetrics-text", "1.0.0"): OPENMETRICS,
    ("application/openmetrics-text", ""): OPENMETRICS,
    ("application/*", ""): OPENMETRICS,
    ("text/plain", "0.0.4"): TEXT,
    # Our names need no UTF-8, so that both versions read the same.
    ("text/plain", "1.0.0"): TEXT,
    ("text/plain", ""): TEXT,
    ("text/*", ""): TEXT,
    ("*/*", ""): TEXT,
}


@lru_cache(maxsize=16)
def content_type(accept: str) -> str:
    """Return the format to answer with: of equals the first named, text if none suits (rather than a 406)."""
    for media_type, parameters in preferences(accept):
        chosen = FORMATS.get((media_type, parameters.get("version", "")))
        if chosen:
            return chosen
    return TEXT


@lru_cache(maxsize=16)
def accepts_gzip(accept_encoding: str) -> bool:
    """Tell whether the client takes gzip."""
    return any(coding in {"gzip", "x-gzip"} for coding, _ in preferences(accept_encoding))


def preferences(header: str) -> list[tuple[str, dict[str, str]]]:
    """Return the values of a header with their parameters, the best first, without those refused (q=0)."""
    values = [_value(part) for part in header.lower().split(",")]
    ranked = sorted(((_quality(parameters), value, parameters) for value, parameters in values), key=lambda v: -v[0])
    return [(value, parameters) for quality, value, parameters in ranked if quality > 0]


def _value(part: str) -> tuple[str, dict[str, str]]:
    value, *parameters = (token.strip() for token in part.split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    return value, {name.strip(): content.strip(' "') for name, _, content in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
