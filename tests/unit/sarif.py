"""The part of SARIF 2.1.0 that we write, as JSON Schema, from the text of the standard (sections in comments)."""

from __future__ import annotations

from typing import Any


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


TEXT = {"type": "string", "minLength": 1}
LINE = {"type": "integer", "minimum": 1}
INDEX = {"type": "integer", "minimum": 0}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
MESSAGE = _object(["text"], text=TEXT)  # 3.11
BAG = {"type": "object"}  # 3.8

RULE = _object(  # 3.49
    ["id"],
    id=TEXT,
    shortDescription=MESSAGE,
    fullDescription=MESSAGE,
    help=_object(["text"], text=TEXT, markdown=TEXT),
    defaultConfiguration=_object([], level=LEVEL),
    properties=BAG,
)
LOCATION = _object(  # 3.28
    [],
    physicalLocation=_object(
        ["artifactLocation"],
        artifactLocation=_object(["uri"], uri={"type": "string", "format": "uri-reference", "pattern": r"^[^\\\s]+$"}),
        region=_object(["startLine"], startLine=LINE, startColumn=LINE, endLine=LINE, endColumn=LINE),
    ),
    logicalLocations={"type": "array", "items": _object([], fullyQualifiedName=TEXT)},
)
RESULT = _object(  # 3.27
    ["message", "ruleId", "ruleIndex", "level"],
    ruleId=TEXT,
    ruleIndex=INDEX,
    level=LEVEL,
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION},
    partialFingerprints={"type": "object", "additionalProperties": TEXT},
    properties=BAG,
)
NOTIFICATION = _object(  # 3.58
    ["message"], message=MESSAGE, level=LEVEL, associatedRule=_object(["id"], id=TEXT, index=INDEX)
)
RUN = _object(  # 3.14
    ["tool", "results"],
    tool=_object(
        ["driver"],
        driver=_object(["name"], name=TEXT, version=TEXT, rules={"type": "array", "items": RULE, "uniqueItems": True}),
    ),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    invocations={
        "type": "array",
        "items": _object(
            ["executionSuccessful"],
            executionSuccessful={"type": "boolean"},
            toolExecutionNotifications={"type": "array", "items": NOTIFICATION},
        ),
    },
    results={"type": "array", "items": RESULT},
)
SCHEMA: dict[str, Any] = _object(  # 3.13
    ["version", "runs"], **{"$schema": TEXT}, version={"const": "2.1.0"}, runs={"type": "array", "items": RUN}
)
