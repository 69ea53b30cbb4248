"""What a rule says: on which facts, for whom, how often. From the settings, or from the arguments of ``on_fact``."""

from __future__ import annotations

import difflib
import string
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from celery_observe.errors import SettingsError
from celery_observe.fact import Detail, Fact, TaskFact
from celery_observe.hooks.conditions import FACTS, Test, attributes, compiled, keys
from celery_observe.masking import mask

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[\w.:-]{1,100}$")]
LabelName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

QUIET = 300.0
"""Seconds without a repetition after which an alert is over, if nothing else ends it."""
_LONGEST = 86400.0
"""Seconds after which one is over that something else should have ended."""

_SUMMARIES = {
    "failed": "{task} failed: {exception} ({cause})",
    "ended": "{task} {outcome} after {runtime} s",
    "started": "{task} waited {queue_wait} s in {queue}",
    "worker_exited": "worker {worker} has left: {kind}",
    "worker_departed": "worker {worker} said goodbye: {kind}",
    "worker_up": "worker {worker} is up: {up}",
    "publish_failed": "{task} could not be published to {queue}: {exception}",
    "duplicate_execution": "{task} was executed twice",
    "workflow_ended": "workflow {root} {outcome}",
    "chord_failed": "a chord of workflow {root} failed: {reason}",
    "entry_sent": "beat sent {entry}",
}
_OF_LINKS = {"rule", "severity", "uuid", "trace_id"}
"""What links may name beside the attributes of the fact."""


class _Keys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a rule that are no conditions."""

    on: str
    name: Name | None = None
    severity: Literal["critical", "error", "warning", "info"] = "warning"
    summary: str | None = None
    by: tuple[str, ...] | None = None
    sinks: tuple[str, ...] = ()
    labels: dict[LabelName, str] = {}
    links: dict[str, str] = {}
    group_wait: Seconds = 5.0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    resolve_after: Seconds | None = None
    until: dict[str, Any] | None = None


KEYS = tuple(field.name for field in msgspec.structs.fields(_Keys))


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A valid rule. Times are seconds."""

    name: str
    on: type[Fact]
    tests: dict[type[Fact], Test]
    severity: str
    summary: str
    by: tuple[str, ...]
    """The attributes of the fact that tell one alert of this rule from another."""
    sinks: tuple[str, ...]
    """Empty: all there are."""
    labels: dict[str, str]
    links: dict[str, str]
    group_wait: float
    """How long the first alert of a message waits for others."""
    limit: int
    """Alerts that are told at the most in ``celery_observe.hooks.grouping.LIMIT_WINDOW``."""
    resolve_after: float
    """How long nothing must have happened for an alert to be over."""
    until: dict[type[Fact], Test]
    """What ends an alert at once, if it has the same labels as far as it has them."""


def flower_links(url: str | None) -> dict[str, str]:
    """Return the links to the pages of the Flower at this URL, for those alerts that know what to fill in."""
    if not url:
        return {}
    base = url.rstrip("/")
    return {
        "Flower: task": f"{base}/task/{{uuid}}",
        "Flower: tasks": f"{base}/tasks?name={{task}}",
        "Flower: worker": f"{base}/worker/{{worker}}",
    }


def rules(tables: Iterable[Mapping[str, Any]], origin: str, links: Mapping[str, str]) -> tuple[Rule, ...]:
    """Return the rules of these tables; all have the ``links`` beside their own. Raises SettingsError."""
    found = tuple(rule(table, f"{origin}, rule {place}", links) for place, table in enumerate(tables, start=1))
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{origin}: two rules are called {name!r}. Give each a name of its own.")
    return found


def rule(table: Mapping[str, Any], origin: str, links: Mapping[str, str]) -> Rule:
    """Return the rule of a table. Raises SettingsError, which says what is wrong and the fix."""
    try:
        return _rule(table, links)
    except SettingsError as error:
        raise SettingsError(f"{origin}: {error}") from None


def _rule(table: Mapping[str, Any], links: Mapping[str, str]) -> Rule:
    kind, conditions = _asked(table, KEYS)
    keys = _converted({key: value for key, value in table.items() if key in KEYS})
    until = _until(keys.until)
    summary = keys.summary or _SUMMARIES.get(keys.on) or _generic(keys.on, kind)
    _check_names("summary", summary, kind, set())
    for title, link in (dict(links) | keys.links).items():
        _check_names(f"links: {title}", link, kind if title in keys.links else None, _OF_LINKS)
    quiet = _LONGEST if until else QUIET
    return Rule(
        name=keys.name or keys.on,
        on=kind,
        tests=compiled(kind, conditions),
        severity=keys.severity,
        summary=summary,
        by=_identity(kind, keys.by),
        sinks=keys.sinks,
        labels=keys.labels,
        links=dict(links) | keys.links,
        group_wait=keys.group_wait,
        limit=keys.limit,
        resolve_after=quiet if keys.resolve_after is None else keys.resolve_after,
        until=until,
    )


def _asked(table: Mapping[str, Any], others: Iterable[str]) -> tuple[type[Fact], dict[str, Any]]:
    """Return the fact that a table names, and its conditions; raises SettingsError for keys that are neither."""
    on = table.get("on")
    if not isinstance(on, str) or on not in FACTS:
        raise SettingsError(f"on: there is no fact {on!r:.100}. {_closest(str(on), FACTS)}")
    known = [*others, *keys(FACTS[on])]
    for key, value in table.items():
        if key not in known:
            raise SettingsError(f"{key} (got {mask(value, key)!r:.100}) is no key for {on!r}. {_closest(key, known)}")
    return FACTS[on], {key: value for key, value in table.items() if key not in others}


def _closest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else f"Give one of {', '.join(known)}."


def _converted(table: dict[str, Any]) -> _Keys:
    try:
        return msgspec.convert(table, _Keys)
    except msgspec.ValidationError as error:
        key = next((name for name in KEYS if f"$.{name}" in str(error)), "")
        shown = f"{mask(table.get(key), key)!r:.100}"
        raise SettingsError(f"{key}: {str(error).replace('`', '')}, got {shown}. See docs/hooks.md.") from None


def _until(table: dict[str, Any] | None) -> dict[type[Fact], Test]:
    if table is None:
        return {}
    try:
        kind, conditions = _asked(table, ("on",))
        return compiled(kind, conditions)
    except SettingsError as error:
        raise SettingsError(f"until: {error}") from None


def _identity(kind: type[Fact], by: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return what tells alerts apart: what was asked for; or all texts, less the worker that executed a task."""
    texts = [name for name, each in attributes(kind).items() if each is not float]
    if by is None:
        return tuple(name for name in texts if name != "worker" or not issubclass(kind, TaskFact))
    for name in by:
        if name not in texts:
            raise SettingsError(f"by: {name!r} is no text of this fact. Give some of {', '.join(texts)}.")
    return by


def _generic(on: str, kind: type[Fact]) -> str:
    words = on.replace("_", " ")
    return f"{words}: " + ", ".join(f"{name} {{{name}}}" for name in attributes(kind))


def _check_names(key: str, template: str, kind: type[Fact] | None, others: set[str]) -> None:
    """Raise SettingsError for a template that is none, or names what ``kind``, or None: any fact, does not have."""
    known = set(attributes(kind)) if kind else {name for each in FACTS.values() for name in attributes(each)}
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SettingsError(f"{key}: got {mask(template)!r:.100}: {error}. Write {{{{ for a brace.") from None
    for _, name, _, conversion in parsed:
        if name is not None and (name not in known | others or conversion):
            raise SettingsError(f"{key}: {{{name}}} is not known. Give some of {', '.join(sorted(known | others))}.")


def details(found: Fact) -> Detail | None:
    """Return the detail of a fact that has one."""
    return getattr(found, "detail", None)


def trace_of(found: Fact) -> str | None:
    """Return the trace that tells of a fact, if there is one."""
    return getattr(found, "trace_id", None)
