"""Write what the chart has from elsewhere: rules, dashboards, the schema of its values, the table in its README.

Helm reads nothing outside a chart, so rules and dashboards are copied into it. The schema and the table are made of
values.yaml, and of the settings of the exporter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from celery_observe.settings.declaration import SETTINGS, WORKER, Settings

ROOT = Path(__file__).parent.parent
CHART = ROOT / "helm" / "celery-observe"
TABLE = ("<!-- values: written by scripts/fill_chart.py from values.yaml -->", "<!-- end of values -->")
_MARK = "@schema "
_TYPES = {str: "string", bool: "boolean", int: "integer", list: "array", dict: "object"}

OF_THE_CHART = {"listen", "shard", "host", "port", "state_file", "tls_cert_file", "tls_key_file", "tls_client_ca_file"}
OF_THE_CHART |= {"basic_auth_file", "bearer_token_file", "broker_tls_ca_file", "broker_tls_cert_file"}
OF_THE_CHART |= {"broker_tls_key_file"}
"""Settings for which the chart has values of its own. Neither is one that may be secret in its `settings`."""


class Value(NamedTuple):
    """One value of the chart that can be set."""

    path: str
    default: Any
    help: str
    schema: dict[str, Any]


def values(text: str) -> list[Value]:
    """Return all values of a values.yaml, in its order. Raises ValueError if one has no comment."""
    return list(_values(yaml.compose(text), yaml.safe_load(text), text.splitlines(), ""))


def _values(node: yaml.Node, content: Any, lines: list[str], path: str) -> Iterator[Value]:
    for key, below in node.value:
        name, default = f"{path}{key.value}", content[key.value]
        said = _comment(lines, key.start_mark.line)
        if not said and isinstance(below, yaml.MappingNode):
            yield from _values(below, default, lines, f"{name}.")
            continue
        if not said:
            raise ValueError(f"values.yaml: {name} has no comment")
        added = {key: each for line in said if line.startswith(_MARK) for key, each in _added(line).items()}
        text = " ".join(line for line in said if not line.startswith(_MARK))
        yield Value(name, default, text, {"type": _TYPES[type(default)]} | added)


def _added(line: str) -> dict[str, Any]:
    return dict(yaml.safe_load(line.removeprefix(_MARK)))


def _comment(lines: list[str], end: int) -> list[str]:
    """Return the lines of the comment that ends right above a line."""
    start = end
    while start and lines[start - 1].lstrip().startswith("# "):
        start -= 1
    return [line.lstrip().removeprefix("# ") for line in lines[start:end]]


def settings_schema() -> dict[str, Any]:
    """Return the schema of the settings that may be given to the chart as such."""
    declared = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    names = [
        name for name, each in SETTINGS.items() if not each.secret and each.group != WORKER and name not in OF_THE_CHART
    ]
    return {"type": "object", "additionalProperties": False, "properties": {name: declared[name] for name in names}}


def schema(found: list[Value]) -> dict[str, Any]:
    """Return the JSON schema of all values: what is not declared is refused."""
    root = _closed({})
    for value in found:
        *parents, name = value.path.split(".")
        level = root
        for parent in parents:
            level = level["properties"].setdefault(parent, _closed({}))
        level["properties"][name] = value.schema | {"description": value.help}
    properties = root["properties"]
    properties["settings"] |= settings_schema()
    properties["sidecar"]["properties"]["settings"] |= settings_schema()
    properties["autoscaling"]["properties"]["workers"]["items"] = _worker(properties["autoscaling"])
    # Of charts that depend on this one.
    properties |= {"global": {"type": "object"}, "enabled": {"type": "boolean"}}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **root}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _worker(autoscaling: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one of `autoscaling.workers`."""
    own = {
        "deployment": {"type": "string", "minLength": 1},
        "queues": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True},
    }
    properties = own | autoscaling["properties"]["defaults"]["properties"]
    return _closed(properties) | {"required": list(own)}


def table(found: list[Value]) -> str:
    """Return the values as a table of Markdown."""
    rows = [f"| `{value.path}` | `{json.dumps(value.default)}` | {value.help} |" for value in found]
    return "\n".join(["| value | default | |", "|---|---|---|", *rows])


def filled() -> dict[Path, str]:
    """Return the text of each file that is written, by its path."""
    found = values((CHART / "values.yaml").read_text(encoding="utf-8"))
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    head, _, rest = readme.partition(TABLE[0])
    tail = rest.partition(TABLE[1])[2]
    copied = {
        CHART / "files" / folder / file.name: file.read_text(encoding="utf-8")
        for folder, sources in (
            ("rules", (ROOT / "alerts" / "rules").glob("*.yml")),
            ("dashboards", (ROOT / "dashboards").glob("*.json")),
        )
        for file in sorted(sources)
    }
    return copied | {
        CHART / "values.schema.json": json.dumps(schema(found), indent=2, ensure_ascii=False) + "\n",
        CHART / "README.md": f"{head}{TABLE[0]}\n\n{table(found)}\n\n{TABLE[1]}{tail}",
    }


def main() -> None:
    """Write the files, and remove copies whose source is gone."""
    texts = filled()
    for stale in {file for file in (CHART / "files").rglob("*") if file.is_file()} - texts.keys():
        stale.unlink()
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
