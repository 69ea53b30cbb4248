"""Where settings are given: flags, environment, TOML file."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from celery_observe.errors import SettingsError
from celery_observe.settings.declaration import ENV_PREFIX, SETTINGS

RESERVED = frozenset({"CELERY_OBSERVE_CONFIG", "CELERY_OBSERVE_DISABLED"})
"""Environment variables that are no settings: where the TOML file is, and the off switch inside workers."""


class Given(NamedTuple):
    """A value as it was given, and what gave it, such as `--port`."""

    value: Any
    origin: str


def from_flags(flags: Mapping[str, Any]) -> dict[str, Given]:
    """Return what a command line, or a call of `instrument`, gives."""
    return {name: Given(value, SETTINGS[name].flag) for name, value in flags.items()}


def from_environ(environ: Mapping[str, str]) -> dict[str, Given]:
    """Return what an environment gives. Raises SettingsError for a variable that is no setting."""
    names = {setting.env: setting.name for setting in SETTINGS.values()}
    given = {}
    for key, value in environ.items():
        if not key.startswith(ENV_PREFIX) or not value or key in RESERVED or _is_service_link(key, value):
            continue
        if key not in names:
            hint = _did_you_mean(key.removeprefix(ENV_PREFIX), [name.upper() for name in SETTINGS], ENV_PREFIX)
            raise SettingsError(f"{key} is not a setting. {hint}")
        given[names[key]] = Given(value, key)
    return given


_SERVICE_LINK = re.compile(r"\w+_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


def _is_service_link(key: str, value: str) -> bool:
    """Tell whether Kubernetes set the variable, for a Service whose name begins with `celery-observe`.

    Kubernetes documentation: Service, Discovering services, Environment variables.
    """
    return bool(_SERVICE_LINK.fullmatch(key) or (key.endswith("_PORT") and _SERVICE_URL.match(value)))


def from_file(path: str) -> dict[str, Given]:
    """Return what a TOML file gives. Raises SettingsError for a key that is no setting, and an unreadable file."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--config {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--config {path} is not valid TOML: {error}.") from None
    for key in table:
        if key not in SETTINGS:
            raise SettingsError(f"{key} in {path} is not a setting. {_did_you_mean(key, SETTINGS)}")
    return {key: Given(value, f"{key} in {path}") for key, value in table.items()}


def _did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {prefix}{close[0]}?" if close else "`celery-observe run --help` lists the settings."
