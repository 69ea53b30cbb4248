"""What was given, as texts or values, to the type that its setting has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import msgspec

from celery_observe.errors import SettingsError
from celery_observe.masking import MASK, mask
from celery_observe.settings.declaration import FIELDS, Setting
from celery_observe.settings.sources import Given


def convert(setting: Setting, given: Given) -> Any:
    """Return what was given as the type that the setting has. Raises SettingsError."""
    try:
        return msgspec.convert(_shape(setting, given.value), FIELDS[setting.name].type, strict=False)
    except (msgspec.MsgspecError, ValueError) as error:
        reason = re.sub(r" enum value '.*'|, got `\w+`| - at `.*`$|`", "", str(error))
    except RecursionError:
        reason = "Nested too deeply"
    raise SettingsError(f"{given.origin}: {reason}, got {_shown(setting, given.value)}. Give {_example(setting)}.")


def _shown(setting: Setting, value: Any) -> str:
    """Return what was given, shortened. What was not understood is not searched for secrets: it is one."""
    return MASK if setting.secret else f"{mask(value)!r:.100}"


def _example(setting: Setting) -> str:
    if setting.form is bool:
        return "true or false"
    if setting.form is Literal:
        return " or ".join(get_args(setting.type))
    return f"{setting.metavar}, such as {setting.default_text}" if setting.default_text else setting.metavar


def _shape(setting: Setting, value: Any) -> Any:
    """Return what msgspec can convert: texts taken apart into lists and mappings."""
    if setting.form is dict:
        return _mapping(setting, value)
    if setting.form is tuple:
        items = _items(value, setting.separator)
        nests = get_origin(get_args(setting.type)[0]) is dict and isinstance(items, list | tuple)
        return list(map(_decoded, items)) if nests else items
    return value.lower() if setting.form is Literal and isinstance(value, str) else value


def _decoded(item: Any) -> Any:
    return msgspec.json.decode(item) if isinstance(item, str) else item


def _items(value: Any, separator: str | None = None) -> Any:
    """Return the items of a text: JSON, or separated by `separator` (None: white space)."""
    if isinstance(value, str):
        return msgspec.json.decode(value) if value.startswith("[") else _split(value, separator)
    if isinstance(value, tuple) and separator:
        return [item for text in value for item in _split(text, separator)]
    return value


def _split(text: str, separator: str | None) -> list[str]:
    return [item.strip() for item in text.split(separator) if item.strip()]


def _mapping(setting: Setting, value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return msgspec.json.decode(value)
    if isinstance(value, Mapping) or not isinstance(value, str | tuple | list):
        return value
    mapping: dict[str, Any] = {}
    for pair in _items(value):
        key, _, text = str(pair).partition("=")
        if not key or not text:
            raise ValueError(f"Expected {setting.metavar}")
        if key in mapping:
            raise ValueError(f"Expected one value for {key}")
        mapping[key] = _value(text, get_args(setting.type)[1])
    return mapping


def _value(text: str, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        return _split(text, ",")
    if kind is not Any:
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        if text.startswith(("{", "[", '"')):
            raise
        return text
