"""Facts that met the conditions of a rule → messages: each thing once, several at a time, and not too many.

An alert is known by its labels. It fires when the first fact with these labels comes, repetitions are counted, and it
is over when none has come for ``resolve_after``, or when a fact came that ends it. The first alert of a message waits
for others during ``group_wait``; one that ends meanwhile is not told at all. What a rule has to tell beyond its
``limit`` is told as a number.

Pure: the clock is an argument. Bounded: ``MOST_OPEN`` alerts of a rule are known.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from celery_observe.fact import AlertRaised, AlertsLimited, Detail, Fact
from celery_observe.hooks.alert import Alert, Message, Status, fingerprint
from celery_observe.hooks.rule import Rule, details, trace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from celery_observe.fleet import Instant

LIMIT_WINDOW = 300.0
"""Seconds in which a rule tells as many alerts as its ``limit`` says."""
REPEAT_AFTER = 60.0
"""Seconds after which an alert that goes on is told again to sinks that forget it otherwise."""
MOST_OPEN = 1000
"""Alerts of one rule that are known at a time; more are told as a number."""


_Key = tuple[tuple[str, str], ...]
"""The labels of an alert."""


class _Open(msgspec.Struct, kw_only=True, eq=False):
    """An alert that fires."""

    labels: dict[str, str]
    summary: str
    links: dict[str, str]
    detail: Detail | None
    trace_id: str | None
    first: Instant
    last: Instant
    count: int = 1
    told: float | None = None
    """When it was told last, by our monotonic clock; None while it waits, or if it is one of "and n more"."""


class Group:
    """The alerts of one rule. ``constant`` labels are on all of them; ``emit`` is told what becomes of them."""

    def __init__(self, rule: Rule, emit: Callable[[Fact], None]) -> None:
        self.rule = rule
        self._emit = emit
        self._open: dict[_Key, _Open] = {}
        self._waiting: dict[_Key, _Open] = {}
        self._ended: list[_Open] = []
        self._more = 0
        self._since: Instant | None = None
        self._told: deque[float] = deque()

    def __len__(self) -> int:
        """Return how many alerts fire."""
        return len(self._open)

    def firing(self, most: int) -> list[Alert]:
        """Return the alerts that fire, the oldest first and ``most`` of them; another thread may ask."""
        return [self._alert(each, Status.FIRING) for each in list(self._open.values())[:most]]

    def fire(self, found: Fact, constant: Mapping[str, str], at: Instant, summary: str | None = None) -> None:
        """Take in a fact that met the conditions."""
        rule = self.rule
        labels = {name: str(getattr(found, name)) for name in rule.by if getattr(found, name, None)}
        labels = {**labels, **constant, **rule.labels}
        key = tuple(labels.items())
        known = self._open.get(key)
        if known is not None:
            known.last = at
            known.count += 1
            return
        self._since = self._since or at
        self._emit(AlertRaised(rule.name))
        if len(self._open) >= MOST_OPEN:
            self._more += 1
            return
        values = _values(found, rule)
        self._open[key] = self._waiting[key] = _Open(
            labels=labels,
            summary=summary or " ".join(rule.summary.format_map(values).split()),
            links=dict(_links(rule, values)),
            detail=details(found),
            trace_id=trace_of(found),
            first=at,
            last=at,
        )

    def end(self, found: Fact, constant: Mapping[str, str], at: Instant) -> None:
        """Take in a fact that ends the alerts whose labels it has, as far as it has them."""
        for key, each in list(self._open.items()):
            said = {name: value for name in self.rule.by if (value := getattr(found, name, None)) is not None}
            if ({**said, **constant}).items() <= each.labels.items():
                each.last = at
                self._close(key, each)

    def due(self, now: Instant, *, final: bool = False) -> Iterator[tuple[float, Message]]:
        """Yield what is to be told now, and since when, by our monotonic clock; when ``final``, without waiting."""
        for key, each in list(self._open.items()):
            if key not in self._waiting and now.monotonic - each.last.monotonic >= self.rule.resolve_after:
                self._close(key, each)
        if self._ended:
            ended, self._ended = self._ended, []
            yield now.monotonic, self._message(ended, Status.RESOLVED)
        yield from self._fired(now, final=final)
        again = [each for each in self._open.values() if _is_due_again(each, now)]
        if again:
            yield now.monotonic, self._message(self._mark(again, now), Status.FIRING, repeated=True)

    def _fired(self, now: Instant, *, final: bool) -> Iterator[tuple[float, Message]]:
        since = self._since
        if since is None or not self._waiting:
            return
        while self._told and now.monotonic - self._told[0] >= LIMIT_WINDOW:
            self._told.popleft()
        room = self.rule.limit - len(self._told)
        if room <= 0 or (now.monotonic - since.monotonic < self.rule.group_wait and not final):
            return
        waiting = list(self._waiting.values())
        told, more = self._mark(waiting[:room], now), self._more + len(waiting[room:])
        self._told.extend([now.monotonic] * len(told))
        self._since, self._more = None, 0
        self._waiting.clear()
        if more:
            self._emit(AlertsLimited(self.rule.name, more))
        yield since.monotonic, self._message(told, Status.FIRING, more=more)

    def _close(self, key: _Key, each: _Open) -> None:
        del self._open[key]
        if self._waiting.pop(key, None) is None and each.told is not None:
            self._ended.append(each)
        if not self._waiting and not self._more:
            self._since = None

    def _mark(self, alerts: list[_Open], now: Instant) -> list[_Open]:
        for each in alerts:
            each.told = now.monotonic
        return alerts

    def _message(self, alerts: list[_Open], status: Status, *, more: int = 0, repeated: bool = False) -> Message:
        told = tuple(self._alert(each, status) for each in alerts)
        return Message(rule=self.rule.name, alerts=told, more=more, repeated=repeated)

    def _alert(self, each: _Open, status: Status) -> Alert:
        rule, last = self.rule, each.last.wall
        return Alert(
            rule=rule.name,
            severity=rule.severity,
            status=status,
            summary=each.summary,
            labels=each.labels,
            links=each.links,
            fingerprint=fingerprint(rule.name, each.labels),
            starts_at=each.first.wall,
            last_at=last,
            ends_at=last + (rule.resolve_after if status is Status.FIRING else 0.0),
            count=each.count,
            detail=each.detail,
            trace_id=each.trace_id,
        )


def _is_due_again(each: _Open, now: Instant) -> bool:
    told = each.told
    return told is not None and each.last.monotonic > told and now.monotonic - told >= REPEAT_AFTER


def _values(found: Fact, rule: Rule) -> dict[str, str]:
    """Return what summaries and links may name, as text."""
    named: dict[str, Any] = {name: getattr(found, name) for name in found.__struct_fields__}
    detail = details(found)
    values = {"rule": rule.name, "severity": rule.severity, "uuid": detail.uuid if detail else None, **named}
    return {name: _text(value) for name, value in values.items()}


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}".removesuffix(".0")
    return "" if value is None else str(value)


def _links(rule: Rule, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the links whose values are all known, escaped for a URL."""
    quoted = {name: quote(value, safe="") for name, value in values.items() if value}
    for title, template in rule.links.items():
        try:
            yield title, template.format_map(quoted)
        except KeyError:
            continue
